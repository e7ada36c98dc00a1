"""A base model for the embedded default, trained from nothing on generated stories.

It learns several ways to think, with slips, and at last to guess in a hurry, so that it is what RL
needs: a model that can reason but often does not. Stories grow harder over the first steps, with errors
strewn densely at first; whole stories from the start leave a model of this size at chance. Matrices
train with Muon, the rest with AdamW.
"""

import dataclasses
import random
from typing import Any

import torch

from litereason.errors import ConfigError
from litereason.sft import Row
from litereason.stories import reasoning, world
from litereason.stories.reasoning import STYLES
from litereason.tasks.stories import StoriesTask, as_example
from litereason.traces import make_row

BARE = 4  # labels of a completion that is an answer without a trace
POOL = 4  # batches that are sorted by length together, so that padding stays small


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What the base model sees.

    Attributes:
        steps: optimiser steps.
        batch_size: stories a step.
        styles: share of each trace style.
        hasty_steps: the last steps, in which the model learns to guess in a hurry.
        haste: share of guesses (`hunch`) in them.
        direct: share of prompts that ask for the answer at once.
        slip: chance of a mistake at each step of a trace.
        curriculum: steps until stories have their full difficulty.
        strewn: least share of stories with errors strewn over all uses.
        characters, events: how hard whole stories are.
        layers: the model's depth.
    """

    steps: int = 420
    batch_size: int = 64
    styles: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"verbose": 0.7, "delta": 0.2, "hunch": 0.1}
    )
    hasty_steps: int = 40
    haste: float = 0.54
    direct: float = 0.1
    slip: float = 0.03
    curriculum: int = 300
    strewn: float = 0.3
    characters: int = 3
    events: int = 8
    layers: int = 4

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "characters", "events", "layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        shares = self.styles.values()
        numbers = all(isinstance(share, (int, float)) and share >= 0 for share in shares)
        if not numbers or not any(shares) or not self.styles.keys() <= {*STYLES}:
            raise ConfigError(
                f"styles are {self.styles}; expected a share for some of {', '.join(STYLES)}"
            )


def lesson_rows(tokenizer: Any, lessons: Lessons, seed: int = 0) -> list[Row]:
    """Training rows in the order in which they must be seen."""
    rng = random.Random(f"lessons-{seed}")
    task = StoriesTask()
    rows: list[Row] = []
    for step in range(0, lessons.steps, POOL):
        batches = min(POOL, lessons.steps - step)
        progress = min(1.0, step / max(1, lessons.curriculum))
        pool: list[Row] = []
        while len(pool) < batches * lessons.batch_size:
            hasty = step >= lessons.steps - lessons.hasty_steps and rng.random() < lessons.haste
            row = _row(rng, tokenizer, task, lessons, progress, hasty)
            if row:
                pool.append(row)
        rows += _dealt(rng, pool, batches)
    return rows


def _dealt(rng: random.Random, pool: list[Row], batches: int) -> list[Row]:
    """The pool as `batches` batches of like length, with bare answers spread over all of them.

    A batch of bare answers alone would count as much as one of whole traces, a token 30 times as much.
    """
    pool = sorted(pool, key=lambda row: len(row["input_ids"]))
    bare = [row for row in pool if sum(label != -100 for label in row["labels"]) <= BARE]
    traces = [row for row in pool if sum(label != -100 for label in row["labels"]) > BARE]
    rng.shuffle(bare)
    size = len(pool) // batches
    dealt = []
    for i in range(batches):
        few = bare[i::batches]
        room = size - len(few)
        dealt.append(few + traces[:room])
        traces = traces[room:]
    rng.shuffle(dealt)
    return [row for batch in dealt for row in batch]


def _row(
    rng: random.Random,
    tokenizer: Any,
    task: StoriesTask,
    lessons: Lessons,
    progress: float,
    hasty: bool,
) -> Row | None:
    full = rng.random() < progress
    characters = lessons.characters if full else rng.randint(2, lessons.characters)
    events = lessons.events if full else rng.randint(1, lessons.events)
    strewn = rng.random() < max(lessons.strewn, 1 - progress)
    story = world.make_story(rng, characters, events, error_rate=0.5 if strewn else 0.0)
    if world.split_of(story.text) != "train":
        return None
    mode = "direct" if rng.random() < lessons.direct else "plain"
    lines: list[str] = []
    answer = story.label
    if mode == "plain":
        styles, weights = zip(*lessons.styles.items(), strict=True)
        style = "hunch" if hasty else rng.choices(styles, weights)[0]
        lines, answer = reasoning.trace(rng, story, style, lessons.slip)
    prompt = tokenizer(task.prompt(as_example("", story), mode))["input_ids"]
    completion = tokenizer(reasoning.as_text(lines, answer))["input_ids"]
    return make_row(prompt, [*completion, tokenizer.eos_token_id], "prompt")


class Muon(torch.optim.Muon):
    """torch's Muon (with `match_rms_adamw`), in the parameters' own precision, equal shapes together.

    torch's computes in bfloat16, one matrix after the other: on a CPU without bfloat16 arithmetic an
    optimiser step of the tiny model then takes half as long as its forward and backward pass.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                wanted = [self._momentum(p, group["momentum"]) for p in parameters]
                updates = orthogonalised(torch.stack(wanted), group["ns_coefficients"])
                rate = 0.2 * group["lr"] * max(shape) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-rate)

    def _momentum(self, parameter: torch.Tensor, share: float) -> torch.Tensor:
        """Nesterov's: the gradient drawn toward the mean of the past ones, which is brought up to date."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        return gradient.lerp(state["momentum_buffer"].lerp_(gradient, 1 - share), share)


def orthogonalised(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int = 5
) -> torch.Tensor:
    """Matrices `(count, rows, columns)` with all singular values near 1, by Newton-Schulz steps."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if tall else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = found @ found.mT
        found = a * found + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ found
    return found.mT if tall else found


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks, AdamW for all else, as one optimiser."""

    def __init__(self, model: Any, lr: float) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        inside = [p for n, p in named if p.dim() == 2 and "embed" not in n and "lm_head" not in n]
        rest = [p for n, p in named if p.dim() != 2 or "embed" in n or "lm_head" in n]
        self.parts: list[torch.optim.Optimizer] = [
            Muon(inside, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        super().__init__([*inside, *rest], {"lr": lr})
        # The very dicts of the parts, so that a schedule's new rates reach them.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
