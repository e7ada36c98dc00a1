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
from litereason.errors import DataError
from litereason.latent_forward import reads_hidden
from litereason.model import backbone, causal_lm, has_latents, projector_of

Row = dict[str, list[int]]


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
            the weights outside the input embeddings at every position, the projector's at latent ones;
            attention over the context is not counted.
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
    """Parameters that every position meets: all but the projector, and the table of input embeddings
    unless it is tied.

    Args:
        trained: count those alone that take a gradient.
    """
    inner = causal_lm(model)
    table = inner.get_input_embeddings().weight
    tied = inner.get_output_embeddings().weight is table
    left_out = [] if tied else [table]
    left_out += backbone(model).latent_projector.parameters() if has_latents(model) else []
    ids = {id(parameter) for parameter in left_out}
    counted = [p for p in inner.parameters() if id(p) not in ids]
    return sum(p.numel() for p in counted if p.requires_grad or not trained)


def projector_weights(model: Any, trained: bool = False) -> int:
    """Parameters that a latent step meets besides.

    Args:
        trained: count those alone that take a gradient.
    """
    if not has_latents(model):
        return 0
    return sum(
        p.numel() for p in projector_of(model).parameters() if p.requires_grad or not trained
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
    # a pause is the same embedding in every step: nothing is computed for it
    own = projector_weights(model) if reads_hidden(backbone(model)) else 0
    flops = 2.0 * (weights(model) * positions + own * latent)
    return Cost(discrete, latent, positions, 0, flops, seconds)


def of_training(model: Any, rows: Sequence[Row], epochs: float, seconds: float) -> Cost:
    """Cost of supervised training.

    A weight that is frozen takes no gradient of its own, which is half of the work backward.

    Args:
        rows: the training rows.
        epochs: how often they were seen.
    """
    positions, slots = (round(count * epochs) for count in size_of(model, rows))
    flops = (4.0 * weights(model) + 2.0 * weights(model, trained=True)) * positions
    own = 4.0 * projector_weights(model) + 2.0 * projector_weights(model, trained=True)
    return Cost(0, 0, positions, positions, flops + own * slots, seconds)


def size_of(model: Any, rows: Sequence[Row]) -> tuple[int, int]:
    """(positions, latent ones among them) of training rows."""
    latent = getattr(backbone(model), "latent_token_id", None)
    ids = [row["input_ids"] for row in rows]
    return sum(map(len, ids)), sum(row.count(latent) for row in ids) if latent is not None else 0


def of_rl(model: Any, rows: Sequence[dict[str, Any]], group: int, passes: int) -> Cost:
    """Cost of RL, from the rows of its `metrics.jsonl`, refreshes of the projector included.

    Args:
        rows: with `generated_tokens` (discrete ones) and `num_tokens` (of all completions with their
            prompts), both so far, and `discrete_tokens` and `latent_steps` (means a completion). Where the
            projector was refreshed, `refresh_positions` and `refresh_slots` (latent ones), so far.
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
    refreshed, slots = (
        round(max(row.get(f"refresh_{kind}", 0) for row in rows)) for kind in ("positions", "slots")
    )
    every, own = weights(model), projector_weights(model)
    flops = (2.0 + 4.0 * passes) * every + 2.0 * passes * weights(model, trained=True)
    # kept latents are constants in the policy pass, unless the projector trains with the policy
    drawn = 2.0 * own + 6.0 * passes * projector_weights(model, trained=True)
    return Cost(
        discrete,
        latent,
        (1 + passes) * positions + refreshed,
        passes * positions + refreshed,
        flops * positions + drawn * latent + 4.0 * every * refreshed + 6.0 * own * slots,
        last["seconds"],
    )


def write(directory: Path, cost: Cost, part: str = "all") -> None:
    """Leave the cost of a stage, or of a part of it, in its directory; a part done again counts once."""
    path = directory / "cost.json"
    parts = files.read_json(path) if path.exists() else {}
    files.write_json(path, parts | {part: dataclasses.asdict(cost)})


def read(directory: Path) -> Cost:
    """The cost of a stage, all parts; nothing where none was written.

    Raises:
        DataError: its file is broken.
    """
    path = directory / "cost.json"
    parts = files.read_json(path) if path.exists() else {}
    try:
        return sum((Cost(**told) for told in parts.values()), Cost())
    except (AttributeError, TypeError) as error:
        raise DataError(
            f"{path} is broken ({error}); expected figures of a cost by part. Delete it: the stage then "
            "counts as free"
        ) from error
