"""The generated plot-hole task (`litereason.stories`): endless, leak-free, gold errors known."""

import random

from litereason.errors import DataError
from litereason.stories import reasoning, world
from litereason.tasks.base import Example
from litereason.tasks.plot_holes import SILENT, PlotHoleTask

ASK = "Does this story contradict itself?"
BOXED = r"\boxed{Yes} or \boxed{No}"


class StoriesTask(PlotHoleTask):
    """Generated stories.

    Args:
        characters: how many people a story has.
        events: how many events follow the opening.
        seed: another seed, other stories.
        size: how many examples a split has, if no limit is given.
        style: the style of demonstrations (`litereason.stories.reasoning.STYLES`).
        journeys: how many more sentences that change nothing are strewn over a story.
    """

    name = "stories"
    instructions = {  # noqa: RUF012
        "plain": f"{ASK} Check it sentence by sentence, then end with {BOXED}.",
        "latent": f"{ASK} Check it sentence by sentence, then end with {BOXED}. {SILENT}",
        "direct": f"{ASK} Answer at once with {BOXED}.",
    }

    def __init__(
        self,
        characters: int = 3,
        events: int = 8,
        seed: int = 0,
        size: int = 2000,
        style: str = "verbose",
        journeys: int = 0,
    ) -> None:
        self.options = {"characters": characters, "events": events, "journeys": journeys}
        self.seed, self.size, self.style = seed, size, style

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        if split not in world.SPLITS:
            raise DataError(f"unknown split {split!r}; expected one of {list(world.SPLITS)}")
        made = world.stories(split, limit or self.size, self.seed, **self.options)
        return [as_example(f"{split}-{self.seed}-{i}", story) for i, story in enumerate(made)]

    def demonstration(self, example: Example) -> str | None:
        rng = random.Random(example.id)
        return reasoning.as_text(*reasoning.trace(rng, example.fields["story"], self.style))


def as_example(name: str, story: world.Story) -> Example:
    """A story with its gold sentences as an example."""
    error, contradicted = story.error, story.contradicted
    fields = {
        "story": story,
        "error_sentence": None if error is None else story.sentences[error],
        "contradicted_sentence": None if contradicted is None else story.sentences[contradicted],
    }
    return Example(name, story.text, story.label, fields)
