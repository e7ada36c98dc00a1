"""What a stage cost, in units that do not depend on the machine, and its wall time.

Every stage leaves `cost.json` in its directory. An arm costs what its stages cost (`compare/`). Positions
are those that the method needs, padding and bookkeeping left out, so that two ways to run the same stage
cost the same.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from litereason import files
from litereason.model import causal_lm


@dataclasses.dataclass(frozen=True)
class Cost:
    """Counts of one stage, or summed over several.

    Attributes:
        discrete_tokens: sampled tokens.
        latent_steps: positions that were latent in what was sampled.
        forward_positions: positions that went through the model, prompts included, a prompt shared by
            the completions of an RL group once.
        training_tokens: those of them that a gradient was taken of.
        flops: 2 operations a weight and position forward, 4 more backward (arXiv 2001.08361, section 2.1):
            the weights outside the input embeddings; attention over the context is not counted.
        seconds: wall time.
    """

    discrete_tokens: int = 0
    latent_steps: int = 0
    forward_positions: int = 0
    training_tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        names = [field.name for field in dataclasses.fields(self)]
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in names})


def weights(model: Any, trained: bool = False) -> int:
    """Parameters that every position meets: all but the table of input embeddings, unless it is tied.

    Args:
        trained: count those alone that take a gradient.
    """
    inner = causal_lm(model)
    table = inner.get_input_embeddings().weight
    tied = inner.get_output_embeddings().weight is table
    return sum(
        p.numel()
        for p in inner.parameters()
        if (tied or p is not table) and (p.requires_grad or not trained)
    )


def of_sampling(
    model: Any, prompts: Iterable[int], rows: Sequence[dict[str, Any]], seconds: float
) -> Cost:
    """Cost of sampled completions.

    Args:
        prompts: length of the prompt of each completion.
        rows: a record of each, with `discrete_tokens` and `latent_steps`.
    """
    discrete = sum(row["discrete_tokens"] for row in rows)
    latent = sum(row["latent_steps"] for row in rows)
    positions = sum(prompts) + discrete + latent
    return Cost(discrete, latent, positions, 0, 2.0 * weights(model) * positions, seconds)


def of_training(model: Any, lengths: Iterable[int], epochs: float, seconds: float) -> Cost:
    """Cost of supervised training.

    A weight that is frozen takes no gradient of its own, which is half of the work backward.

    Args:
        lengths: of the training rows.
        epochs: how often they were seen.
    """
    positions = round(sum(lengths) * epochs)
    flops = (4.0 * weights(model) + 2.0 * weights(model, trained=True)) * positions
    return Cost(0, 0, positions, positions, flops, seconds)


def of_rl(model: Any, rows: Sequence[dict[str, Any]], group: int, passes: int) -> Cost:
    """Cost of RL, from the rows of its `metrics.jsonl`.

    Args:
        rows: with `generated_tokens` (discrete ones) and `num_tokens` (of all completions with their
            prompts), both so far, and `discrete_tokens` and `latent_steps` (means a completion).
        group: completions of a prompt.
        passes: policy passes over each completion (TRL's `num_iterations`).
    """
    if not rows:
        return Cost()
    last = rows[-1]
    discrete = round(last["generated_tokens"])
    written = sum(row["discrete_tokens"] for row in rows)
    latent = round(discrete * sum(row["latent_steps"] for row in rows) / max(1e-9, written))
    prompts = round((last["num_tokens"] - discrete - latent) / group)
    positions = prompts + discrete + latent
    flops = (2.0 + 6.0 * passes) * weights(model) * positions
    return Cost(
        discrete,
        latent,
        (1 + passes) * positions,
        passes * positions,
        flops,
        last["seconds"],
    )


def write(directory: Path, cost: Cost, part: str = "all") -> None:
    """Leave the cost of a stage, or of a part of it, in its directory; a part done again counts once."""
    path = directory / "cost.json"
    parts = files.read_json(path) if path.exists() else {}
    files.write_json(path, parts | {part: dataclasses.asdict(cost)})


def read(directory: Path) -> Cost:
    """The cost of a stage, all parts; nothing where none was written."""
    path = directory / "cost.json"
    parts = files.read_json(path) if path.exists() else {}
    return sum((Cost(**told) for told in parts.values()), Cost())
