"""The tag, and the rule that says which positions are latent.

Pure functions of token ids, shared by generation, data preparation, training and reports. A thought
is a tag `<implicit_thought>N</implicit_thought>` and the N latent slots after it; a latent slot is a
position that holds `latent_token_id`. The token that completes the closing tag ends the tag, even
when a tokenizer merged the next character into it (`>\\n`). A tag without a number, with 0, or not
closed is plain text (arXiv 2512.02240, section 3).
"""

import copy
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from litereason.config import LatentConfig
from litereason.errors import LatentError, ModelError

# A tag has at most this many tokens: one a character of `<implicit_thought>999</implicit_thought>`,
# with room for spaces. Only so much of the text is decoded to look for it.
WINDOW = 64


class Tags:
    """Reads tags in token ids. One a model: holds its tokenizer and the reserved id.

    Args:
        tokenizer: any Hugging Face tokenizer.
        config: a `LatentConfig` whose `latent_token_id` is set.
    """

    def __init__(self, tokenizer: Any, config: LatentConfig) -> None:
        if config.latent_token_id is None:
            raise ModelError("Tags needs a LatentConfig with latent_token_id; attach() fills it in")
        self.tokenizer = tokenizer
        self.latent_token_id = config.latent_token_id
        self.max_latent_steps = config.max_latent_steps
        self.pattern = re.compile(rf"<{config.tag}>\s*([0-9]+)\s*</{config.tag}>")
        self.name = config.tag
        self._closing_tokens = closing_tokens(tokenizer, config.tag) - {config.latent_token_id}
        self._closing_ids = torch.tensor(sorted(self._closing_tokens))

    def text(self, steps: int) -> str:
        """The tag that announces `steps` latent steps."""
        return f"<{self.name}>{steps}</{self.name}>"

    def closed_by(self, ids: Sequence[int]) -> int:
        """The N of the tag that the *last* token of `ids` completes, clamped; 0 if it does not."""
        if not len(ids) or int(ids[-1]) not in self._closing_tokens:
            return 0
        window = [int(i) for i in ids[-WINDOW:]]
        head = ""
        if self.latent_token_id in window:  # a thought's slots end the text before it
            after = window[::-1].index(self.latent_token_id)
            head = self._opened_by(ids[: len(ids) - after])
            window = window[len(window) - after :]
        found = self.pattern.findall(head + self._decode(window))
        # The last token completes a tag exactly when there is one more tag with it than without.
        if len(found) <= len(self.pattern.findall(head + self._decode(window[:-1]))):
            return 0
        return min(int(found[-1]), self.max_latent_steps)

    def _opened_by(self, ids: Sequence[int]) -> str:
        """Text after the `>` in the token that closed the tag before the slots at the end of `ids`.

        A token such as `><` closes one tag and opens the next.
        """
        end = len(ids)
        while end and int(ids[end - 1]) == self.latent_token_id:
            end -= 1
        if not self.closed_by(ids[:end]):
            return ""
        text = self._decode([int(ids[end - 1])])
        return text[closing_end(text, self.name) :]

    def start_of(self, ids: Sequence[int], least: int = 0) -> int:
        """Where in `ids` the tag begins that their last token completes; `len(ids)` if none does.

        A tag whose `<` was merged into an earlier token than `least` begins at `least`.
        """
        end = len(ids)
        if not self.closed_by(ids):
            return end
        return next(
            k for k in range(end - 1, least - 1, -1) if k == least or self.closed_by(ids[k:])
        )

    def pending(self, ids: Sequence[int]) -> int:
        """How many latent steps the positions after `ids` (shape `(length,)`) still owe."""
        end = len(ids)
        while end and int(ids[end - 1]) == self.latent_token_id:
            end -= 1
        return max(0, self.closed_by(ids[:end]) - (len(ids) - end))

    def pending_rows(self, input_ids: torch.Tensor) -> torch.Tensor:
        """`pending` for each row of `input_ids`, shape `(batch, length)` -> `(batch,)`.

        Only rows whose last discrete token can close a tag are decoded, so that a batch in which
        nothing closes costs one comparison.
        """
        owed = torch.zeros(input_ids.shape[0], dtype=torch.long)
        latent = input_ids == self.latent_token_id
        trailing = latent.flip(1).long().cumprod(1).sum(1)
        last = (input_ids.shape[1] - 1 - trailing).clamp(min=0)
        closers = self._closing_ids.to(input_ids.device)
        closes = torch.isin(input_ids.gather(1, last[:, None])[:, 0], closers)
        for row in closes.nonzero()[:, 0].tolist():
            steps = self.closed_by(input_ids[row, : int(last[row]) + 1].tolist())
            owed[row] = max(0, steps - int(trailing[row]))
        return owed.to(input_ids.device)

    def limited(self, max_latent_steps: int) -> "Tags":
        """The same tags with a lower bound on what a thought may take."""
        tags = copy.copy(self)
        tags.max_latent_steps = min(max_latent_steps, self.max_latent_steps)
        return tags

    def unexplained(self, ids: Sequence[int]) -> int | None:
        """Index of the first latent slot that no tag announces, or None.

        A thought may have fewer slots than its tag says (a cap was set, or it was cut short), never
        more.
        """
        ids = [int(i) for i in ids]
        start = 0
        while self.latent_token_id in ids[start:]:
            start = ids.index(self.latent_token_id, start)
            end = start
            while end < len(ids) and ids[end] == self.latent_token_id:
                end += 1
            steps = self.closed_by(ids[:start])
            if end - start > steps:
                return start + steps
            start = end
        return None

    def check(self, ids: Sequence[int], what: str) -> None:
        """Raise `LatentError` if `ids` of `what` hold a latent slot that no tag announces."""
        place = self.unexplained(ids)
        if place is None:
            return
        name = self.tokenizer.convert_ids_to_tokens(self.latent_token_id)
        before = self._decode([int(i) for i in ids[max(0, place - 12) : place]])
        raise LatentError(
            f"{what}: position {place} holds the reserved token {name!r} (id {self.latent_token_id}), "
            f"but no tag before it announces a latent step there; the text before it is {before!r}. "
            f"Remove {name!r} from the text; a thought is asked for by {self.text(3)!r} alone"
        )

    def expand(self, ids: Iterable[int]) -> list[int]:
        """`ids` with the missing latent slots put in after every tag: text -> replayable record."""
        expanded: list[int] = []
        owed = 0
        for token in ids:
            token = int(token)
            if token == self.latent_token_id:
                owed = max(0, owed - 1)
            else:
                expanded += [self.latent_token_id] * owed
                owed = 0
            expanded.append(token)
            if token in self._closing_tokens:
                owed = self.closed_by(expanded)
        return expanded + [self.latent_token_id] * owed

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


def pending(ids: Sequence[int], tags: Tags) -> int:
    """How many latent steps the next positions owe after `ids` (`model.latent_tags` is a `Tags`)."""
    return tags.pending(ids)


def closing_tokens(tokenizer: Any, name: str) -> frozenset[int]:
    """Ids of the tokens that can complete `</name>`.

    Other tokens with a `>`, such as `<|im_end|>`, complete no tag, and rows that end in them are not
    looked at.
    """
    return frozenset(i for token, i in tokenizer.get_vocab().items() if closing_end(token, name))


def closing_end(token: str, name: str) -> int:
    """Index after the `>` up to which `token` holds the end of `</name>`, or all of it; 0: none."""
    end = f"</{name}>"
    for k, character in enumerate(token):
        if character == ">" and (end.endswith(token[: k + 1]) or token[: k + 1].endswith(end)):
            return k + 1
    return 0
