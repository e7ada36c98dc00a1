"""Likelihoods under a reference model: equal to whole sequences, a prompt computed once, kept on disk."""

import pytest
import torch

import architectures
import litereason
from conftest import random_llama, word_tokenizer
from litereason import files
from litereason.checkpoints import save
from litereason.errors import ModelError, RewardError
from litereason.likelihood import Passage, Reference
from litereason.model import backbone

PROMPT = [7, 9, 11, 13, 8, 20, 6, 9, 31, 12, 25]
PASSAGES = [Passage([10], [12, 14, 7]), Passage([5, 6, 22, 7, 8], [9]), Passage([], [30, 6, 7, 18])]


@pytest.fixture
def base(tmp_path):
    tokenizer = word_tokenizer()
    return save(random_llama(tokenizer), tmp_path / "model", tokenizer)


@pytest.fixture
def reference(base, tmp_path):
    return Reference(str(base), tmp_path / "kept")


def naive(model, prompt, passage):
    """One whole sequence, all logits."""
    ids = torch.tensor([[*prompt, *passage.lead, *passage.text]])
    with torch.no_grad():
        log_probs = model(input_ids=ids).logits.log_softmax(-1)
    start = len(prompt) + len(passage.lead)
    found = [log_probs[0, p - 1, ids[0, p]].item() for p in range(start, ids.shape[1])]
    return -sum(found) / len(found)


@pytest.mark.parametrize("family", ["Llama", "GPT-2", "Mistral", "Gemma 3 (text)", "BLOOM"])
def test_losses_equal_whole_sequences(family, tmp_path):
    model, tokenizer = architectures.make(family)
    path = save(litereason.detach(model), tmp_path / "model", tokenizer)
    found = Reference(str(path), tmp_path / "kept").losses(PROMPT, PASSAGES)
    wanted = [naive(model, PROMPT, passage) for passage in PASSAGES]
    assert found == pytest.approx(wanted, rel=1e-6)
    assert max(found) - min(found) > 0.1


def test_the_head_takes_some_positions_at_a_time(reference, monkeypatch):
    monkeypatch.setattr("litereason.losses.LOGITS", 1)
    wanted = [naive(reference.model, PROMPT, passage) for passage in PASSAGES]
    assert reference.losses(PROMPT, PASSAGES) == pytest.approx(wanted, rel=1e-9)


def test_a_prompt_is_computed_once(reference):
    seen = []
    handle = backbone(reference.model).norm.register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape[1])
    )
    reference.losses(PROMPT, PASSAGES)
    handle.remove()
    assert seen == [len(PROMPT), 4, 6, 4]


def test_kept_losses_are_read_back(reference, base, tmp_path, monkeypatch):
    passages = [PASSAGES[0]._replace(keep=True), PASSAGES[1]]
    wanted = reference.losses(PROMPT, passages)
    (kept,) = (tmp_path / "kept").iterdir()
    assert files.read_json(kept)["loss"] == wanted[0]

    again = Reference(str(base), tmp_path / "kept")
    computed = []
    real = again._computed
    monkeypatch.setattr(again, "_computed", lambda p, some: computed.extend(some) or real(p, some))
    assert again.losses(PROMPT, passages) == wanted
    assert computed == passages[1:]
    other = [passages[0]._replace(lead=[11])]
    assert again.losses(PROMPT, other) != wanted[:1]
    assert again.losses([*PROMPT, 6], passages[:1]) != wanted[:1]


def test_another_model_has_losses_of_its_own(reference, tmp_path):
    tokenizer = word_tokenizer()
    other = random_llama(tokenizer)
    with torch.no_grad():
        other.lm_head.weight[7] += 1.0
    path = save(other, tmp_path / "other", tokenizer)
    passages = [PASSAGES[0]._replace(keep=True)]
    mine = reference.losses(PROMPT, passages)
    theirs = Reference(str(path), tmp_path / "kept").losses(PROMPT, passages)
    assert abs(mine[0] - theirs[0]) > 1e-4


def test_latent_steps_of_a_reference_are_taken_off(base, tmp_path, reference):
    model, tokenizer = litereason.load(base)
    path = save(litereason.attach(model, tokenizer), tmp_path / "latent", tokenizer)
    found = Reference(str(path), tmp_path / "kept").losses(PROMPT, PASSAGES)
    assert found == pytest.approx(reference.losses(PROMPT, PASSAGES), rel=1e-12)


def test_a_loss_that_is_no_number_is_not_kept(reference, tmp_path):
    with torch.no_grad():
        reference.model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(RewardError, match="loss of nan"):
        reference.losses(PROMPT, [PASSAGES[0]._replace(keep=True)])
    assert not (tmp_path / "kept").exists()


def test_a_reference_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        Reference(str(tmp_path / "nowhere")).ids("a")
