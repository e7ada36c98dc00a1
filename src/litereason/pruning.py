"""Traces without what only restates the prompt: `litereason collect --prune`.

A sentence whose words stand in one sentence of the prompt, in the same order, mostly says nothing new. It
needs neither words nor latent steps: what is worked out from it can be worked out from the prompt. Only the
words are looked at, so that whether a sentence goes is known before anything is worked out; to leave out
what turned out to be of no use would make the gap tell the answer (docs/research.md).
"""

from collections.abc import Sequence

from litereason.text_metrics import in_common, words
from litereason.traces import replaceable, split_sentences


def prune(text: str, prompt: str, share: float) -> tuple[str, int, int]:
    """A trace without the sentences that restate its prompt; thoughts and the answer stay.

    Args:
        text, prompt: the completion and what it answers.
        share: at least this share of a sentence's words stands, in order, in one sentence of the prompt;
            1: all.

    Returns:
        (the text that is left; how many sentences of reasoning there were, and were left out).
    """
    sentences = split_sentences(text)
    sources = [words(sentence) for sentence in split_sentences(prompt)]
    free = replaceable(sentences)
    out = {i for i in free if restated(words(sentences[i]), sources) >= share}
    return "".join(s for i, s in enumerate(sentences) if i not in out), len(free), len(out)


def restated(said: Sequence[str], sources: Sequence[Sequence[str]]) -> float:
    """The largest share of the words `said` that one source holds in that order; 0 if there are none."""
    return max((in_common(said, one) / len(said) for one in sources if said), default=0.0)
