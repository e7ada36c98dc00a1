"""The LMs that write story information, and the record of all that they wrote.

A writer is a local model (here) or an endpoint (`endpoint`). `Scribe` asks a writer only for what it has
not written yet, so a run that was killed, or that an endpoint broke off, goes on where it stopped. What is
left out: what they are asked (`story`).
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from litereason import files
from litereason.errors import DataError

TRIES = 8  # for one text
FEWEST_WORDS = 3  # less is no answer
CIRCLE = 8  # words that come again: the writer goes round in circles
BATCH_TOKENS = 8192  # of prompts at once in a local model: longer batches gain nothing on a CPU


@dataclasses.dataclass(frozen=True)
class Request:
    """A text to be written; `about` names it for people, `words` is how long it may be."""

    about: str
    prompt: str
    words: int


class Writer(Protocol):
    """Writes texts.

    Attributes:
        identity: what its answers depend on beside the prompt, as plain data.
        context: tokens that a prompt and its answer may take together.
        retries: how often it had to be asked again.
    """

    identity: dict[str, Any]
    context: int
    retries: int

    def count(self, text: str) -> int:
        """Tokens of `text`, or a safe estimate."""
        ...

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, str]]:
        """(index, text) of each request, in any order, as they are done."""
        ...


def most_tokens(words: int) -> int:
    """Tokens that are enough for so many words of English."""
    return 3 * words // 2 + 16


def tidy(text: str, truncated: bool) -> str:
    """An answer in one paragraph, without the thoughts of a reasoning model; "" if it is none.

    Small models fall into loops: an answer ends where `CIRCLE` words come again. One that was cut there, or
    that stopped for length (`truncated`), ends with its last whole sentence, if it has one.
    """
    text = text.encode("utf-8", "replace").decode()  # half a surrogate cannot be written
    words = re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.S).split()
    seen: dict[tuple[str, ...], int] = {}
    for k in range(len(words) - CIRCLE + 1):
        if k >= CIRCLE + seen.setdefault(tuple(words[k : k + CIRCLE]), k):
            words, truncated = words[:k], True
            break
    text = " ".join(words)
    if truncated and (ends := [m.end() for m in re.finditer(r"[.!?][”\"’')]*(?=\s|$)", text)]):
        text = text[: ends[-1]]
    return text if len(re.findall(r"\w+", text)) >= FEWEST_WORDS else ""


class LocalWriter:
    """A causal LM on this machine."""

    def __init__(
        self,
        name: str,
        temperature: float = 0.3,
        batch_size: int = 8,
        context: int | None = None,
        seed: int = 0,
    ) -> None:
        """Load the model.

        Args:
            name: as `litereason.load` takes it.
            context: tokens of prompt and answer together; default: all that the model can take.

        Raises:
            ModelError: no such model.
        """
        import torch

        from litereason.checkpoints import load
        from litereason.fingerprint import fingerprint

        self.model, self.tokenizer = load(name)
        if torch.cuda.is_available():
            self.model = self.model.to("cuda")
        self.temperature, self.batch_size, self.seed = temperature, batch_size, seed
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 8192
        self.context = min(context or most, most)
        self.retries = 0
        digest = fingerprint(self.model)["digest"]
        self.identity = {"weights": digest, "temperature": temperature, "seed": seed}

    def count(self, text: str) -> int:
        """Tokens of `text`."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, str]]:
        """Batches of like length; an empty answer is drawn again, with some temperature.

        Raises:
            DataError: a prompt that is too long, or an answer that stays empty.
        """
        from litereason.sampling import check_lengths, encode

        prompts = [encode(self.tokenizer, request.prompt) for request in requests]
        for request, prompt in zip(requests, prompts, strict=True):
            check_lengths(self.model, [request.about], [prompt], most_tokens(request.words))
        left = list(range(len(requests)))
        for attempt in range(TRIES):
            left.sort(key=lambda i: (requests[i].words, len(prompts[i])))
            empty = []
            for batch in self._batches(left, prompts, requests):
                done = self._draw([prompts[i] for i in batch], requests[batch[0]].words, attempt)
                for i, text in zip(batch, done, strict=True):
                    if text:
                        yield i, text
                    else:
                        empty.append(i)
            left = empty
            if not left:
                return
            self.retries += len(left)
        raise DataError(
            f"{requests[left[0]].about}: the model wrote nothing, {TRIES} times. Use a stronger --writer"
        )

    def _batches(
        self, order: Sequence[int], prompts: Sequence[list[int]], requests: Sequence[Request]
    ) -> Iterator[list[int]]:
        """Requests of one length limit whose padded prompts are not too much at once."""
        batch: list[int] = []
        for i in order:
            tokens = (len(batch) + 1) * len(prompts[i])
            other = batch and requests[i].words != requests[batch[0]].words
            if batch and (len(batch) == self.batch_size or tokens > BATCH_TOKENS or other):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _draw(self, prompts: list[list[int]], words: int, attempt: int) -> list[str]:
        import torch

        from litereason.sampling import SamplingConfig, generate_batch

        how = SamplingConfig(
            temperature=max(self.temperature, 0.7) if attempt else self.temperature,
            max_new_tokens=most_tokens(words),
            max_thoughts=0,
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed + attempt)
            done = generate_batch(self.model, self.tokenizer, prompts, how)
        return [tidy(completion.text, completion.truncated) for completion in done]


class Scribe:
    """A writer that never writes a text twice: answers are kept in a file, by what they answer.

    Attributes:
        calls: texts that the writer wrote.
        cached: texts that were there.
    """

    def __init__(self, writer: Writer, path: Path, tell: Callable[[], Any] = lambda: None) -> None:
        """Read what was written before.

        Args:
            path: of the answers, a line of JSON each.
            tell: called after each text.
        """
        self.writer, self.path, self.tell = writer, path, tell
        self.calls = self.cached = 0
        self._answers = {row["key"]: row["text"] for row in files.finished_lines(path)}

    def write(self, requests: Sequence[Request]) -> list[str]:
        """The texts, in order."""
        keys = [self._key(request) for request in requests]
        missing = {k: i for i, k in reversed([*enumerate(keys)]) if k not in self._answers}
        wanted = sorted(missing.values())
        for _ in range(len(keys) - len(wanted)):
            self.cached += 1
            self.tell()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            for i, text in self.writer.write([requests[i] for i in wanted]):
                key, about = keys[wanted[i]], requests[wanted[i]].about
                file.write(
                    json.dumps({"key": key, "about": about, "text": text}, ensure_ascii=False)
                    + "\n"
                )
                file.flush()
                self._answers[key] = text
                self.calls += 1
                self.tell()
        return [self._answers[key] for key in keys]

    def _key(self, request: Request) -> str:
        told = json.dumps([self.writer.identity, request.prompt, request.words], sort_keys=True)
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
