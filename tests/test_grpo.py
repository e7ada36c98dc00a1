"""Stage 3 on the tiny model: what TRL is asked, what it computes, what it must not touch."""

import inspect

import pytest
import torch
from trl import GRPOTrainer

import litereason
import naive
from litereason.checkpoints import load
from litereason.grpo import LatentGRPOConfig, LatentGRPOTrainer
from litereason.tasks.stories import StoriesTask

HOOKS = {
    "_generate": ["self", "prompts"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_send_telemetry": ["self"],
}


def test_the_hooks_of_trl_are_where_we_override_them():
    """A new TRL that renames a hook would silently train without us: fail instead."""
    for name, parameters in HOOKS.items():
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == parameters
    scored = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
    assert list(scored)[:6] == [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size",
    ]  # fmt: skip
    source = inspect.getsource(GRPOTrainer._generate)
    assert "return prompt_ids, completion_ids, tool_mask," in source


@pytest.fixture
def trainer(tiny_base, tmp_path):
    """A trainer of the tiny model in float64, with tags made likely."""
    model, tokenizer = load(tiny_base, dtype=torch.float64)
    litereason.attach(model, tokenizer, litereason.LatentConfig(projector="rms", depth=1))
    tags = [f"\n<implicit_thought>{n}</implicit_thought>" for n in range(1, 6)]
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(tags))
    with torch.no_grad():
        model.lm_head.weight[ids] += 0.05 * torch.randn(5, 96, generator=torch.manual_seed(0))
    args = LatentGRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, learning_rate=1e-3, num_generations=4,
        per_device_train_batch_size=8, gradient_accumulation_steps=1, max_completion_length=24,
        max_steps=2, save_strategy="no", logging_steps=1, refresh_share=1.0, temperature=0.7,
    )  # fmt: skip
    task = StoriesTask()
    return LatentGRPOTrainer(model, args, task, task.examples("train", 2), tokenizer, "latent")


def rollout(trainer):
    prompts = [row["prompt"] for row in trainer.train_dataset for _ in range(4)]
    prompt_ids, completion_ids, mask, *_ = trainer._generate(prompts)
    return prompt_ids, completion_ids, mask


def test_only_discrete_tokens_are_actions(trainer):
    trainer.model.train()
    _, completions, mask = rollout(trainer)
    latent = trainer.latent_id
    assert sum(ids.count(latent) for ids in completions) > 0
    for ids, actions in zip(completions, mask, strict=True):
        assert actions == [int(token != latent) for token in ids]
    metrics = trainer._metrics["train"]
    counts = [ids.count(latent) for ids in completions]
    assert metrics["latent/steps"][-1] == pytest.approx(sum(counts) / 8)
    assert metrics["latent/trigger_rate"][-1] == pytest.approx(sum(c > 0 for c in counts) / 8)
    discrete = sum(len(ids) for ids in completions) - sum(counts)
    assert metrics["completions/mean_length"][-1] == pytest.approx(discrete / 8)


def test_log_probabilities_equal_the_naive_loop(trainer):
    """Temperature, the latent id outside the softmax, uneven lengths, entropies."""
    prompts, completions, _ = rollout(trainer)
    width, new = max(map(len, prompts)), max(map(len, completions))
    rows = [
        [0] * (width - len(p)) + p + c + [0] * (new - len(c))
        for p, c in zip(prompts, completions, strict=True)
    ]
    mask = [
        [0] * (width - len(p)) + [1] * (len(p) + len(c)) + [0] * (new - len(c))
        for p, c in zip(prompts, completions, strict=True)
    ]
    got, entropy, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, torch.tensor(rows), torch.tensor(mask), new, compute_entropy=True
    )
    model, latent = trainer.model, trainer.latent_id
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        ids = prompt + completion
        logits = model.lm_head(naive.hidden_of(model, naive.inputs_of(model, ids))).clone() / 0.7
        logits[:, latent] = -torch.inf
        spread = logits.log_softmax(-1)
        for k, token in enumerate(completion):
            at = spread[len(prompt) + k - 1]
            expected = 0.0 if token == latent else float(at[token])
            assert float(got[row, k]) == pytest.approx(expected, abs=1e-6)
            assert float(entropy[row, k]) == pytest.approx(
                -float((at.exp() * at).nansum()), abs=1e-6
            )


def test_rl_trains_the_policy_and_the_refresh_trains_the_projector(trainer):
    model = trainer.model
    policy = model.lm_head.weight.detach().clone()
    projector = [p.detach().clone() for p in model.latent_projector.parameters()]
    trainer.reward_funcs[0] = lambda completions, **kwargs: [1.0, 0.0] * (len(completions) // 2)
    trainer.train()
    assert not torch.equal(policy, model.lm_head.weight)
    after = model.latent_projector.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(projector, after, strict=True))
    logged = [row for row in trainer.state.log_history if "latent/refresh_loss_before" in row]
    assert logged, "the refresh logs its loss before and after"


def test_without_refresh_the_projector_stays(tiny_base, trainer):
    trainer.callback_handler.callbacks = [
        c for c in trainer.callback_handler.callbacks if type(c).__name__ != "ProjectorRefresh"
    ]
    projector = [p.detach().clone() for p in trainer.model.latent_projector.parameters()]
    trainer.reward_funcs[0] = lambda completions, **kwargs: [1.0, 0.0] * (len(completions) // 2)
    trainer.train()
    assert all(
        torch.equal(a, b)
        for a, b in zip(projector, trainer.model.latent_projector.parameters(), strict=True)
    )


def test_a_refresh_with_nothing_to_replace_is_skipped(trainer):
    """RL that has collapsed to bare answers goes on; the metrics say that the refresh did not."""
    trainer.rewarded = [(0, "\n\\boxed{Yes}")] * 20
    refresh = next(
        c for c in trainer.callback_handler.callbacks if type(c).__name__ == "ProjectorRefresh"
    )
    trainer.state.epoch, trainer.state.global_step = 1.0, 1
    refresh.on_step_end(trainer.args, trainer.state, trainer.control)
    assert trainer._metrics["train"]["latent/refresh_skipped"] == [1.0]
    assert trainer.rewarded == []
