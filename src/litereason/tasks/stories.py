"""The generated plot-hole task (`litereason.stories`): endless, leak-free, gold errors known."""

import random
import re

from litereason.errors import DataError
from litereason.stories import reasoning, world
from litereason.tasks.base import Example
from litereason.tasks.plot_holes import SILENT, PlotHoleTask

ASK = "Does this story contradict itself?"
BOXED = r"\boxed{Yes} or \boxed{No}"
QUOTE = (
    " Before that, if it does, write the number of the sentence that cannot be between <error_lines> and "
    "</error_lines>, and of the earlier one that it contradicts between <contradicted_lines> and "
    "</contradicted_lines>."
)
NUMBER = re.compile(r"([0-9]+)(?:[.:)]|$)")


class StoriesTask(PlotHoleTask):
    """Generated stories.

    Args:
        characters: how many people a story has.
        events: how many events follow the opening.
        seed: another seed, other stories.
        size: how many examples a split has, if no limit is given.
        style: the style of demonstrations (`litereason.stories.reasoning.STYLES`).
        journeys: how many more sentences that change nothing are strewn over a story.
        quote: ask for the numbers of the sentences that contradict each other, and judge them (CEEval);
            not for the tiny model, which cannot read it.
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
        quote: bool = False,
    ) -> None:
        self.options = {"characters": characters, "events": events, "journeys": journeys}
        self.seed, self.size, self.style, self.quote = seed, size, style, quote

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        if split not in world.SPLITS:
            raise DataError(f"unknown split {split!r}; expected one of {list(world.SPLITS)}")
        made = world.stories(split, limit or self.size, self.seed, **self.options)
        return [as_example(f"{split}-{self.seed}-{i}", story) for i, story in enumerate(made)]

    def prompt(self, example: Example, mode: str = "plain") -> str:
        asked = super().prompt(example, mode)
        return asked + QUOTE if self.quote and mode != "direct" else asked

    def sentences(self, example: Example) -> list[str]:
        return list(example.fields["story"].sentences)

    def quotes(self, example: Example, completion: str, tag: str) -> list[str]:
        told = self.sentences(example)
        lines = super().quotes(example, completion, tag)
        return [_by_number(line, told) for line in lines]

    def metrics(self, example: Example, completion: str) -> dict[str, float | None]:
        return super().metrics(example, completion) if self.quote else {}

    def demonstration(self, example: Example) -> str | None:
        rng, story = random.Random(example.id), example.fields["story"]
        lines, answer = reasoning.trace(rng, story, self.style)
        if self.quote and answer == story.label == "Yes":
            places = {"error_lines": story.error, "contradicted_lines": story.contradicted}
            lines += [f"<{t}>{place + 1}</{t}>" for t, place in places.items() if place is not None]
        return reasoning.as_text(lines, answer)


def as_example(name: str, story: world.Story) -> Example:
    """A story with its gold sentences as an example."""
    places = {"error_lines": story.error, "contradicted_lines": story.contradicted}
    gold = {tag: [] if place is None else [story.sentences[place]] for tag, place in places.items()}
    return Example(name, story.text, story.label, {"story": story, **gold})


def _by_number(line: str, sentences: list[str]) -> str:
    """The sentence whose number a line begins with; a line without one as it is."""
    found = NUMBER.match(line)
    if not found or not 1 <= int(found[1]) <= len(sentences):
        return line
    return sentences[int(found[1]) - 1]
