"""Figures of texts: by hand, and Rouge-L against another library's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from litereason.text_metrics import rouge_l, text_metrics, unique_share, unseen_trigrams, words

TEXTS = st.lists(st.sampled_from("abcd"), max_size=12)


def test_words_are_lower_case_without_punctuation():
    text = "“Don’t!” she said -- don't; the O'Neills' Élan, well-known, 3 x"
    assert words(text) == [
        "don't", "she", "said", "don't", "the", "o'neills", "élan", "well", "known", "3", "x",
    ]  # fmt: skip
    assert words(" ...\n") == []


def test_share_of_unique_words_by_hand():
    assert unique_share(words("The cat saw the dog. The end.")) == 5 / 7
    assert unique_share([]) is None


def test_unseen_trigrams_by_hand():
    # the-cat-sat is in the first reference; cat-sat-on only across the two; sat-on-the in neither;
    # on-the-cat neither; the-cat-sat again.
    text = words("The cat sat on the cat sat")
    references = [words("so the cat sat"), words("on it")]
    assert unseen_trigrams(text, references) == 3 / 5
    assert unseen_trigrams(text, []) == 1.0
    assert unseen_trigrams(text, [text]) == 0.0
    assert unseen_trigrams(words("two words"), references) is None


def test_rouge_l_by_hand():
    # Longest common subsequence "police the gunman": 3 of 4 and 3 of 5 words.
    found, reference = words("police kill the gunman"), words("police ended then the gunman")
    assert rouge_l(found, reference) == pytest.approx(2 * 3 / 9)
    assert rouge_l(found, []) == rouge_l([], []) == 0.0


@given(TEXTS, TEXTS)
def test_rouge_l_is_that_of_rouge_score(found, reference):
    score = RougeScorer(["rougeL"]).score(" ".join(reference), " ".join(found))["rougeL"]
    assert rouge_l(found, reference) == pytest.approx(score.fmeasure)
    assert rouge_l(found, reference) == rouge_l(reference, found)


def test_all_figures_of_a_text():
    parts = {"plan": "Anna takes the boat.", "synopsis": ""}
    found = text_metrics("Anna takes the boat home.", parts, gold="The boat sinks.")
    assert found == {
        "words": 5,
        "unique_words": 1.0,
        "unseen_trigrams": 1 / 3,
        "rouge_l_gold": pytest.approx(2 * 2 / 8),
        "rouge_l_plan": pytest.approx(2 * 4 / 9),
        "rouge_l_synopsis": 0.0,
    }
    assert "rouge_l_gold" not in text_metrics("Anna", parts)
