"""The records that the trace viewer (`viewer.js`) shows: JSON, gzip, base64.

    {"arms": [name], "seeds": [seed], "first": index of the item shown first, "total": items of the run,
     "items": [{"name", "label", "prompts": [text], "traces": [trace]}]}
    trace = [arm, seed, prompt (indices), correct, reward, discrete tokens, latent steps, truncated,
             characters left out, [piece]]
    piece = text, or [tag, latent steps] or [tag, latent steps, lens]

Only the first sample of an item is kept. Where the items are too many for the page, or for a phone to hold,
half of the room goes to those on which arms differ most, and the rest to items drawn at random.
"""

import base64
import functools
import gzip
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from litereason.report.run import Record, Run
from litereason.report.traces import (
    PROMPT_LIMIT,
    TEXT_LIMIT,
    Piece,
    first_samples,
    outcome,
    pieces,
    spread,
)

Samples = dict[tuple[str, int], Record]
MOST_JSON = 96 * 2**20  # bytes unpacked: some 200,000 traces


def seeds(run: Run) -> list[int]:
    """The seeds that arms were evaluated under."""
    return sorted({one.seed for arm in run.arms for one in arm.evaluations})


def records(run: Run, room: int) -> str:
    """The JSON, packed to at most `room` characters."""
    samples = first_samples(run)
    text_of = functools.cache(lambda item: _dump(_item(run, item, samples[item])))
    most = MOST_JSON
    while True:
        text = _unpacked(run, samples, text_of, most).encode()
        packed = base64.b64encode(gzip.compress(text, mtime=0)).decode()
        if len(packed) <= room or not most:
            return packed
        most = int(0.9 * min(most, len(text)) * max(0, room) / len(packed))


def _unpacked(
    run: Run, samples: Mapping[str, Samples], text_of: Callable[[str], str], room: int
) -> str:
    """The JSON, of at most `room` bytes."""
    shell: dict[str, Any] = {"arms": [arm.name for arm in run.arms], "seeds": seeds(run)}
    shell |= {"total": len(samples), "first": 0}
    room -= len(_dump(shell)) + 40
    main = {arm.name for arm in run.arms if not arm.ablation}
    drawn = list(samples)
    random.Random(0).shuffle(drawn)
    # a stable sort: items that differ alike stay in their random order
    ranked = sorted(drawn, key=lambda item: _rank(samples[item], main), reverse=True)
    kept: dict[str, str] = {}
    used = 0
    for order, share in ((ranked, 0.5), (drawn, 1.0)):
        for item in order:
            if item not in kept:
                text = text_of(item)
                size = len(text.encode()) + 1
                if used + size > share * room:
                    break
                kept[item], used = text, used + size
    names = [item for item in samples if item in kept]
    shell["first"] = names.index(next(iter(kept))) if kept else 0
    items = ",".join(kept[name] for name in names)
    return f'{_dump(shell)[:-1]},"items":[{items}]}}'


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _rank(rows: Samples, main: set[str]) -> tuple[bool, float, bool]:
    """Whether there is a lens to look through, how much arms differ, whether one thinks."""
    judged = [outcome(record) for (arm, _), record in rows.items() if not main or arm in main]
    seen = any(lens for record in rows.values() for _, _, lens in record.spans)
    return seen, spread(judged) if judged else 0.0, any(row.latent_steps for row in rows.values())


def _item(run: Run, name: str, rows: Samples) -> dict[str, Any]:
    prompts = list(dict.fromkeys(record.prompt for record in rows.values()))
    arms, under = [arm.name for arm in run.arms], seeds(run)
    traces = []
    for (arm, seed), record in rows.items():
        found, cut = pieces(record, TEXT_LIMIT // len(rows))
        traces.append(
            [
                *(arms.index(arm), under.index(seed), prompts.index(record.prompt)),
                *(record.correct, record.reward, record.discrete_tokens, record.latent_steps),
                *(record.truncated, cut, [_piece(one) for one in found]),
            ]
        )
    return {
        "name": name,
        "label": next(iter(rows.values())).label,
        "prompts": [text[: PROMPT_LIMIT // len(prompts)] for text in prompts],
        "traces": traces,
    }


def _piece(piece: Piece) -> Any:
    if piece.steps is None:
        return piece.text
    return [piece.text, piece.steps, *([piece.lens] if piece.lens else [])]
