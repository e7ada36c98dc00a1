"""Stage 1: from reasoning traces to traces with thoughts (arXiv 2512.02240, section 3).

A trace is split into sentences; a random share of them is replaced by a tag whose N is about one
latent step per five tokens. The final answer is never replaced. Sentences are pieces of the text by
position, so that a trace that says the same twice has the chosen one replaced.
"""

import bisect
import dataclasses
import functools
import itertools
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from litereason import files
from litereason.errors import ConfigError, DataError
from litereason.extras import need
from litereason.tags import Tags
from litereason.tasks import get_task
from litereason.tasks.base import Example

MAX_PROMPTED_STEPS = 5
INNER_STOP = re.compile(r"[.!?][\"'”’)\]]*\s")
ANSWER = re.compile(r"\\boxed\{")


@dataclasses.dataclass(frozen=True)
class Replacement:
    """How traces become training rows.

    Attributes:
        shares: share of sentences to replace, s_r; each gives rows of its own.
        copies: rows for each share strictly between 0 and 1; shares 0 and 1 give one.
        ratio: latent steps per token of the sentence, t_r.
        loss_after: `first` tag (the paper's), `last` tag, or `prompt`: the whole completion.
    """

    shares: tuple[float, ...] = (0.10, 0.25)
    copies: int = 5
    ratio: float = 0.2
    loss_after: str = "first"

    def __post_init__(self) -> None:
        if not self.shares or any(not 0 <= share <= 1 for share in self.shares):
            raise ConfigError(f"shares are {self.shares}; expected numbers from 0 to 1")
        if not self.ratio > 0:
            raise ConfigError(f"ratio is {self.ratio}; expected latent steps a token, above 0")
        if self.loss_after not in ("first", "last", "prompt"):
            raise ConfigError(
                f"loss_after is {self.loss_after!r}; expected 'first', 'last' or 'prompt'"
            )


def read_traces(path: Path, config: Any) -> list[tuple[str, str]]:
    """(prompt, completion) of each line of a traces file.

    A line has `completion`, and either `prompt` or the `item` whose prompt the task makes.

    Args:
        config: names the task, its split and its prompts: a `stages.ModelOnTask`.

    Raises:
        DataError: a line without them, or an item that the split does not hold.
    """
    rows = files.read_jsonl(path)
    known: dict[str, Example] = {}
    task = get_task(config.task, config.task_options)
    if any(not isinstance(row.get("prompt"), str) for row in rows):
        known = {example.id: example for example in task.examples(config.split, config.limit)}
    pairs = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("completion"), str):
            raise DataError(f"{path}, line {number}: no text in 'completion'; has {sorted(row)}")
        if isinstance(row.get("prompt"), str):
            pairs.append((row["prompt"], row["completion"]))
        elif row.get("item") in known:
            pairs.append((task.prompt(known[row["item"]], config.mode), row["completion"]))
        else:
            raise DataError(
                f"{path}, line {number}: no 'prompt', and item {row.get('item')!r} is not in this "
                "split; use the split and limit that the traces were collected with"
            )
    return pairs


def split_sentences(text: str) -> list[str]:
    """Sentences with the white space around them: joined, they are `text` again."""
    pieces: list[str] = []
    for line in text.splitlines(keepends=True):
        parts = _segment(line) if INNER_STOP.search(line.rstrip()) else [line]
        # A segmenter that drops or changes characters must not change the trace.
        pieces += parts if "".join(parts) == line else [line]
    return pieces


@functools.lru_cache(maxsize=100_000)
def _segment(line: str) -> list[str]:
    return _segmenter().segment(line)


@functools.cache
def _segmenter() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # pysbd's patterns, on Python 3.12 and later
        pysbd = need("pysbd", "train")
    return pysbd.Segmenter(language="en", clean=False)


def replaceable(sentences: Sequence[str], tag: str = "implicit_thought") -> list[int]:
    """Indices that may become thoughts: not blank, not the answer or what follows it, not a tag."""
    return [
        i
        for i, sentence in enumerate(sentences[: answer_place(sentences)])
        if sentence.strip() and f"<{tag}>" not in sentence
    ]


def answer_place(sentences: Sequence[str]) -> int:
    """Index of the answer's sentence: the last with a box, or else the last that is not blank."""
    boxed = [i for i, sentence in enumerate(sentences) if ANSWER.search(sentence)]
    written = [i for i, sentence in enumerate(sentences) if sentence.strip()]
    return max(boxed or written, default=0)


def reasoning_and_answer(text: str) -> tuple[str, str]:
    """`text` cut before the answer's sentence and the white space in front of it."""
    sentences = split_sentences(text)
    reasoning = "".join(sentences[: answer_place(sentences)]).rstrip()
    return reasoning, text[len(reasoning) :]


def with_thoughts(
    text: str, share: float, ratio: float, tokenizer: Any, tags: Tags, rng: random.Random
) -> tuple[str, list[list[int]]]:
    """`text` with a random `share` of its sentences (at least one, if share > 0) as tags.

    Returns:
        (the text; the token ids of each sentence that became a tag, in order).
    """
    sentences = split_sentences(text)
    ids = tokens_of(text, sentences, tokenizer)
    free = replaceable(sentences, tags.name)
    count = min(len(free), max(1, round(share * len(free)))) if share > 0 else 0
    chosen = sorted(rng.sample(free, count))
    for i in chosen:
        tag = tags.text(steps_for(len(ids[i]), ratio))
        sentences[i] = sentences[i].replace(sentences[i].strip(), tag, 1)
    return "".join(sentences), [ids[i] for i in chosen]


def tokens_of(text: str, sentences: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """The tokens of each of a text's sentences, without white space around it, as the text has them.

    A sentence by itself may have others: its first word is often one with the space or line break in
    front of it.
    """
    if not tokenizer.is_fast:  # it does not say which characters a token is
        return [tokenizer(s.strip(), add_special_tokens=False)["input_ids"] for s in sentences]
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts, ends = zip(*found["offset_mapping"], strict=True) if found["input_ids"] else ((), ())
    told = []
    for sentence, end in zip(sentences, itertools.accumulate(map(len, sentences)), strict=True):
        first = end - len(sentence.lstrip())
        last = end - len(sentence) + len(sentence.rstrip())
        tokens = slice(bisect.bisect_right(ends, first), bisect.bisect_left(starts, last))
        told.append(found["input_ids"][tokens] if first < last else [])
    return told


def steps_for(tokens: int, ratio: float) -> int:
    """Latent steps in place of so many tokens, N (arXiv 2512.02240)."""
    return max(1, min(MAX_PROMPTED_STEPS, int(ratio * tokens)))


def shared_out(told: Iterable[list[int]], ratio: float, most: int) -> dict[str, list[int]]:
    """Each sentence's tokens, evenly among its thought's steps, of which the model takes `most`."""
    reasoning: list[int] = []
    groups: list[int] = []
    slots = 0
    for ids in told:
        steps = min(steps_for(len(ids), ratio), most)
        reasoning += ids
        groups += [slots + k * steps // len(ids) for k in range(len(ids))]
        slots += steps
    return {"reasoning": reasoning, "groups": groups}


def training_rows(
    traces: Iterable[tuple[list[int], str]],
    how: Replacement,
    tokenizer: Any,
    tags: Tags,
    seed: int = 0,
    max_length: int = 4096,
) -> list[dict[str, list[int]]]:
    """Rows `{"input_ids", "labels"}` with latent slots in place and -100 where there is no loss.

    Beside them `reasoning`, the ids of what became thoughts, and `groups`, the slot that each of them
    belongs to: a sentence is shared out evenly among its thought's steps. (Slots of thoughts that
    were in the trace before stand for nothing.)

    Args:
        traces: (encoded prompt, completion text) pairs.
        how: what to replace, and where the loss starts.
        max_length: longer rows are left out.

    Raises:
        DataError: no row is left.
        LatentError: a trace holds the reserved token where no tag announces a latent step.
    """
    rng = random.Random(seed)
    rows = []
    for number, (prompt, text) in enumerate(traces, 1):
        for share in how.shares:
            for _ in range(how.copies if 0 < share < 1 else 1):
                changed, told = with_thoughts(text, share, how.ratio, tokenizer, tags, rng)
                ids = tags.expand(tokenizer(changed, add_special_tokens=False)["input_ids"])
                tags.check(ids, f"trace {number}")
                row = make_row(prompt, [*ids, tokenizer.eos_token_id], how.loss_after, tags)
                if row and len(row["input_ids"]) <= max_length:
                    rows.append(row | shared_out(told, how.ratio, tags.max_latent_steps))
    if not rows:
        raise DataError(
            "no training row is left: every trace is without a sentence to replace, or longer than "
            f"max_length={max_length} tokens"
        )
    return rows


def make_row(
    prompt: Sequence[int], completion: Sequence[int], loss_after: str, tags: Tags | None = None
) -> dict[str, list[int]] | None:
    """One training row; None if the loss should start after a tag and there is none.

    Labels are the ids themselves, -100 on the prompt, on latent slots (nothing is predicted there:
    arXiv 2512.02240) and before the first (or last) thought.
    """
    latent = tags.latent_token_id if tags else None
    slots = [k for k, token in enumerate(completion) if token == latent]
    start = 0
    if loss_after != "prompt":
        if not slots:
            return None
        start = slots[0] if loss_after == "first" else slots[-1]
    labels = [
        token if k >= start and token != latent else -100 for k, token in enumerate(completion)
    ]
    return {
        "input_ids": [*prompt, *completion],
        "labels": [-100] * len(prompt) + labels,
    }
