"""Stage 3 on the tiny model: what TRL is asked, what it computes, what it must not touch."""

import inspect
import json
import re

import pytest
import torch
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

import litereason
import naive
from litereason import policy_pass
from litereason.checkpoints import load
from litereason.errors import ConfigError, DataError
from litereason.grpo import LatentGRPOConfig, LatentGRPOTrainer
from litereason.rl_config import CHOICES
from litereason.tasks.stories import StoriesTask

HOOKS = {
    "_generate": ["self", "prompts"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_send_telemetry": ["self"],
    "_tokenize_prompts": ["self", "prompts"],
    "_generate_single_turn": [
        "self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images",
    ],
    "_generate_and_score_completions": ["self", "inputs"],
    "_prepare_inputs": ["self", "generation_batch"],
    "_get_train_sampler": ["self", "dataset"],
    "_save": ["self", "output_dir", "state_dict"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
}  # fmt: skip


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
    sampler = inspect.signature(RepeatSampler.__init__).parameters
    assert list(sampler)[1:] == [
        "data_source", "mini_repeat_count", "batch_size", "repeat_count", "shuffle", "seed",
    ]  # fmt: skip


@pytest.fixture
def make_trainer(tiny_base, tmp_path):
    """Makes trainers of the tiny model in float64, with tags made likely."""

    def make(latent=True, task=None, examples=2, reward_funcs=(), peft=None, **changes):
        model, tokenizer = load(tiny_base, dtype=torch.float64)
        if latent:
            litereason.attach(model, tokenizer, litereason.LatentConfig(projector="rms", depth=1))
            tags = [f"\n<implicit_thought>{n}</implicit_thought>" for n in range(1, 6)]
            ids = torch.tensor(tokenizer.convert_tokens_to_ids(tags))
            with torch.no_grad():
                model.lm_head.weight[ids] += 0.05 * torch.randn(
                    5, 96, generator=torch.manual_seed(0), dtype=torch.float64
                )
        options = {
            "output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "learning_rate": 1e-3,
            "num_generations": 4, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
            "max_completion_length": 24, "max_steps": 2, "save_strategy": "no", "logging_steps": 1,
            "refresh_share": 1.0, "temperature": 0.7,
        }  # fmt: skip
        args = LatentGRPOConfig(**(options | changes))
        task = task or StoriesTask()
        more = {"peft_config": peft} if peft else {}
        return LatentGRPOTrainer(
            model, args, task, task.examples("train", examples), tokenizer,
            "latent" if latent else "plain", reward_funcs, **more,
        )  # fmt: skip

    return make


@pytest.fixture
def trainer(make_trainer):
    return make_trainer()


class Alternating(StoriesTask):
    """Every other completion earns 1, whatever it says."""

    name = "alternating"
    calls = 0

    def reward(self, example, completion):
        type(self).calls += 1
        return float(type(self).calls % 2)


@pytest.fixture
def alternating():
    Alternating.calls = 0
    return Alternating()


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
    lengths = [len(ids) - count for ids, count in zip(completions, counts, strict=True)]
    assert metrics["completions/max_length"][-1] == max(lengths)
    ended = [
        length
        for length, ids in zip(lengths, completions, strict=True)
        if ids[-1] in trainer.eos_token_ids
    ]
    assert metrics["completions/max_terminated_length"][-1] == max(ended, default=0)


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
    seen = [row["latent/refresh_positions"] for row in logged]
    assert seen == sorted(seen) and seen[0] > 0 and seen[-1] == trainer.refreshed["positions"]
    assert 0 < trainer.refreshed["slots"] < trainer.refreshed["positions"]


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


LOSSES = CHOICES["loss_type"]


@pytest.mark.parametrize("loss_type", LOSSES)
def test_every_loss_of_trl_trains(make_trainer, alternating, loss_type):
    """Two passes over each generation, a KL term, two micro-batches a step."""
    trainer = make_trainer(
        task=alternating, loss_type=loss_type, beta=0.05, num_iterations=2, max_steps=2,
        per_device_train_batch_size=4, gradient_accumulation_steps=2, refresh="off",
    )  # fmt: skip
    before = trainer.model.lm_head.weight.detach().clone()
    trainer.train()
    logs = [row for row in trainer.state.log_history if "loss" in row]
    assert len(logs) == 2 and all(abs(row["loss"]) < 1e3 for row in logs)
    assert logs[0]["kl"] == pytest.approx(0, abs=1e-9), "the reference takes its own latent steps"
    assert logs[1]["kl"] > 1e-9
    assert not torch.equal(before, trainer.model.lm_head.weight)


def test_trl_has_no_loss_that_is_not_tested():
    source = inspect.getsource(GRPOTrainer._compute_loss)
    assert set(re.findall(r'"(\w*(?:po|PO))"', source)) == set(LOSSES)


def test_the_loss_counts_discrete_tokens_only(make_trainer, alternating):
    """dr_grpo by hand: on policy every ratio is 1, so a row adds -advantage x its discrete tokens."""
    trainer = make_trainer(task=alternating, loss_type="dr_grpo", scale_rewards="none", max_steps=1)
    seen = []
    inner = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: seen.append(inputs) or inner(model, inputs)
    trainer.train()
    (inputs,) = seen
    ids, mask = inputs["completion_ids"], inputs["completion_mask"]
    slots = ((ids == trainer.latent_id) & (mask == 1)).sum()
    assert slots > 0
    discrete = ((ids != trainer.latent_id) & (mask == 1)).sum(1)
    expected = -(inputs["advantages"] * discrete).sum() / (8 * 24)
    loss = next(row["loss"] for row in trainer.state.log_history if "loss" in row)
    assert loss == pytest.approx(float(expected), abs=1e-6)
    assert abs(loss) > 1e-3


def test_accumulation_changes_nothing(make_trainer, alternating):
    """Sixteen completions at once, or four times four: the same completions, loss and weights."""
    weights, losses = [], []
    for size, steps in ((16, 1), (4, 4)):
        Alternating.calls = 0
        trainer = make_trainer(
            task=alternating, examples=4, per_device_train_batch_size=size, max_steps=2,
            gradient_accumulation_steps=steps, loss_type="dapo", refresh="off",
        )  # fmt: skip
        trainer.train()
        weights.append(trainer.model.lm_head.weight.detach().clone())
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-7, atol=1e-9)
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)


def test_groups_stay_together_in_micro_batches(make_trainer, alternating):
    trainer = make_trainer(
        task=alternating, examples=4, per_device_train_batch_size=4, gradient_accumulation_steps=4,
        max_steps=1,
    )  # fmt: skip
    seen = []
    inner = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: seen.append(inputs) or inner(model, inputs)
    trainer.train()
    assert len(seen) == 4
    for inputs in seen:
        assert len({tuple(row) for row in inputs["prompt_ids"].tolist()}) == 1


def test_latents_are_replayed_or_found_again(make_trainer, alternating, monkeypatch):
    monkeypatch.setattr(
        policy_pass, "_fill_after", lambda *_: pytest.fail("latents were found again")
    )
    trainer = make_trainer(task=alternating, refresh="off", num_iterations=2, max_steps=2)
    trainer.train()
    drift = [row["latent/drift"] for row in trainer.state.log_history if "latent/drift" in row]
    assert drift[0] < 1e-9 < drift[1], "the second pass has another policy"
    trainer = make_trainer(task=alternating, refresh="off", refill_latents=True, max_steps=1)
    with pytest.raises(pytest.fail.Exception, match="found again"):
        trainer.train()


def test_replayed_and_refilled_losses_agree_on_policy(make_trainer, alternating):
    norms = []
    for refill in (False, True):
        Alternating.calls = 0
        trainer = make_trainer(task=alternating, refill_latents=refill, max_steps=1, refresh="off")
        trainer.train()
        norms.append(next(r["grad_norm"] for r in trainer.state.log_history if "grad_norm" in r))
    assert norms[0] == pytest.approx(norms[1], rel=1e-6) and norms[0] > 0


def test_joint_training_moves_the_projector_by_the_policy_gradient(make_trainer, alternating):
    for refresh, moves in (("joint", True), ("off", False)):
        trainer = make_trainer(task=alternating, refresh=refresh, max_steps=1)
        before = [p.detach().clone() for p in trainer.model.latent_projector.parameters()]
        trainer.train()
        after = trainer.model.latent_projector.parameters()
        moved = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert moved == moves


@pytest.mark.parametrize("saved", [False, True])
def test_an_adapter_trains_with_a_kl_term(make_trainer, alternating, saved):
    """The base stays, the adapter moves, the reference is the policy without it."""
    from peft import LoraConfig

    peft = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM",
        modules_to_save=["latent_projector"] if saved else None,
    )  # fmt: skip
    trainer = make_trainer(task=alternating, peft=peft, beta=0.05, max_steps=3)
    names = dict(trainer.model.named_parameters())
    before = {name: p.detach().clone() for name, p in names.items()}
    trainer.train()
    logs = [row for row in trainer.state.log_history if "kl" in row]
    assert logs[0]["kl"] == pytest.approx(0, abs=1e-9) and logs[-1]["kl"] > 1e-12
    moved = {name for name, p in names.items() if not torch.equal(p, before[name])}
    assert any("lora_" in name for name in moved)
    assert all("lora_" in name or "latent_projector" in name for name in moved)
    assert any("latent_projector" in name for name in moved), "the refresh trains it"


def test_several_rewards_are_weighed(make_trainer, alternating):
    def short(completion_ids, examples, **kwargs):
        assert len(examples) == len(completion_ids) and examples[0].id.startswith("train-")
        return [-float(len(ids)) for ids in completion_ids]

    trainer = make_trainer(
        task=alternating, reward_funcs=[short], reward_weights=[1.0, 0.5], max_steps=1,
        length_penalty="correct_only", length_penalty_weight=0.25, length_penalty_span=8,
    )  # fmt: skip
    trainer.train()
    row = next(row for row in trainer.state.log_history if "reward" in row)
    parts = [row[f"rewards/{name}/mean"] for name in ("reward", "short", "length")]
    assert row["reward"] == pytest.approx(parts[0] + 0.5 * parts[1] + 0.25 * parts[2], rel=1e-5)
    assert parts[0] == 0.5 and parts[1] < 0 and parts[2] <= 0


class Unscorable(StoriesTask):
    """The first of four completions cannot be scored, the others earn 0, 1, 1."""

    name = "unscorable"
    calls = 0

    def reward(self, example, completion):
        type(self).calls += 1
        return [None, 0.0, 1.0, 1.0][(type(self).calls - 1) % 4]


def test_what_cannot_be_scored_has_no_advantage(make_trainer):
    """Mean and deviation are those of the scorable three: 2/3 and 0.5774."""
    Unscorable.calls = 0
    trainer = make_trainer(
        task=Unscorable(), max_steps=1, length_penalty="overlong", length_penalty_span=8
    )
    seen = []
    inner = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: seen.append(inputs) or inner(model, inputs)
    trainer.args.reward_weights = trainer.reward_weights = torch.tensor([1.0, 0.0])
    trainer.train()
    advantages = seen[0]["advantages"].view(2, 4)
    expected = torch.tensor([0.0, -2 / 3, 1 / 3, 1 / 3]) / (1 / 3) ** 0.5
    torch.testing.assert_close(advantages, expected.expand(2, 4), rtol=1e-3, atol=1e-3)
    assert next(r["unscorable"] for r in trainer.state.log_history if "unscorable" in r) == 0.25


def test_a_batch_in_which_nothing_can_be_scored_teaches_nothing(make_trainer):
    class Nothing(StoriesTask):
        name = "nothing"

        def reward(self, example, completion):
            return None

    trainer = make_trainer(task=Nothing(), max_steps=1, refresh="off")
    before = trainer.model.lm_head.weight.detach().clone()
    trainer.train()
    assert torch.equal(before, trainer.model.lm_head.weight)
    row = next(row for row in trainer.state.log_history if "unscorable" in row)
    assert row["unscorable"] == 1.0


def test_long_prompts_are_refused_dropped_or_cut(make_trainer, capsys):
    lengths = {len(ids) for ids in rollout(make_trainer(examples=6))[0]}
    limit = max(lengths) - 1
    with pytest.raises(DataError, match=rf"of 6 prompts have more than {limit} tokens .*'train-0-"):
        make_trainer(examples=6, max_prompt_length=limit)
    with pytest.raises(DataError, match="6 of 6 prompts"):
        make_trainer(examples=6, max_prompt_length=2, long_prompts="drop")
    dropped = make_trainer(examples=6, max_prompt_length=limit, long_prompts="drop")
    assert len(dropped.train_dataset) == len(dropped.prompt_ids) < 6
    cut = make_trainer(examples=6, max_prompt_length=limit, long_prompts="truncate")
    assert {len(ids) for ids in rollout(cut)[0]} <= {*lengths, limit} - {max(lengths)}
    assert len(cut.train_dataset) == 6
    said = capsys.readouterr().err
    assert "left out" in said and "cut to their last" in said


def test_latents_can_be_switched_off(make_trainer, alternating):
    trainer = make_trainer(task=alternating, max_thoughts=0, max_steps=1)
    trainer.train()
    row = next(row for row in trainer.state.log_history if "latent/steps" in row)
    assert row["latent/steps"] == 0 and row["latent/trigger_rate"] == 0


def test_steps_that_are_not_finite_are_skipped_and_counted(make_trainer, alternating):
    trainer = make_trainer(task=alternating, max_steps=2, refresh="off")
    inner = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: (
        inner(model, inputs) * (torch.nan if trainer.state.global_step == 0 else 1.0)
    )
    before = trainer.model.lm_head.weight.detach().clone()
    trainer.train()
    assert trainer.skipped_steps == 1
    logs = [row["non_finite_steps"] for row in trainer.state.log_history if "reward" in row]
    assert logs == [0.0, 1.0]
    assert bool(trainer.model.lm_head.weight.isfinite().all())
    assert not torch.equal(before, trainer.model.lm_head.weight)


def test_draws_differ_between_steps_and_epochs_between_orders(make_trainer, alternating):
    trainer = make_trainer(task=alternating, examples=6, max_steps=6, refresh="off")
    seen, orders = [], []
    inner = trainer._generate_single_turn

    def generate(prompt_ids, *args, **kwargs):
        found = inner(prompt_ids, *args, **kwargs)
        seen.append(str(found[0]))
        orders.append(str(prompt_ids))
        return found

    trainer._generate_single_turn = generate
    trainer.args.learning_rate = 0.0
    trainer.train()
    assert len(seen) == 6 and len(set(seen)) == 6
    assert orders[:3] != orders[3:], "another epoch, another order"


def test_refresh_every_other_epoch(make_trainer, alternating):
    """Six prompts, two a step: an epoch is three steps; the policy does not move in a refresh."""
    trainer = make_trainer(task=alternating, examples=6, max_steps=12, refresh_every=2)
    trainer.train()
    logged = [r["step"] for r in trainer.state.log_history if "latent/refresh_loss_after" in r]
    assert logged == [6, 12]


def test_the_refresh_moves_the_projector_alone(make_trainer, alternating):
    from litereason.refresh import refresh_projector

    trainer = make_trainer(task=alternating)
    model = trainer.model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    texts = [(ids, "\n1. Mara map\n2. Bram rope\n\\boxed{No}") for ids in trainer.prompt_ids]
    refresh_projector(model, trainer.processing_class, texts, (0.5,), 1e-2, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == flags[name] and parameter.grad is None
        assert torch.equal(parameter, before[name]) != name.startswith("model.latent_projector")


def test_evaluation_data_and_names_that_clash_are_refused(make_trainer):
    def length(completions, **kwargs):
        return [0.0] * len(completions)

    with pytest.raises(ConfigError, match="names of their own"):
        make_trainer(reward_funcs=[length])
    with pytest.raises(ConfigError, match="eval_dataset is not supported"):
        LatentGRPOTrainer(None, LatentGRPOConfig(use_cpu=True, bf16=False, num_generations=8), None, [],
                          None, "plain", eval_dataset=[])  # fmt: skip


def test_tensorboard_gets_what_the_console_gets(make_trainer, alternating, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    trainer = make_trainer(task=alternating, report_to=["tensorboard"], max_steps=2)
    trainer.train()
    trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    names = set(events.Tags()["scalars"])
    for name in ("latent/trigger_rate", "latent/drift", "latent/steps_per_thought", "entropy"):
        assert f"train/{name}" in names
    logged = [e.value for e in events.Scalars("train/latent/trigger_rate")]
    rows = [r for r in trainer.state.log_history if "latent/trigger_rate" in r]
    assert logged == pytest.approx([r["latent/trigger_rate"] for r in rows])


def test_the_refresh_keeps_to_the_bound_on_a_thought(make_trainer, alternating, monkeypatch):
    from litereason import refresh

    trainer = make_trainer(task=alternating)
    seen = []
    monkeypatch.setattr(refresh, "fit", lambda model, rows, *rest: seen.extend(rows) or 0)
    text = "\n<implicit_thought>5</implicit_thought>\n2. Bram rope\n\\boxed{No}"
    trajectories = [(ids, text) for ids in trainer.prompt_ids]
    for bound, slots in ((None, 6), (2, 3)):  # the thought's 5, and one for the sentence replaced
        seen.clear()
        refresh.refresh_projector(
            trainer.model, trainer.processing_class, trajectories, (1.0,), 1e-2, 1, bound
        )
        assert {row["input_ids"].count(trainer.latent_id) for row in seen} == {slots}


def test_a_refresh_in_training_has_the_bound_and_the_rate(make_trainer, alternating, monkeypatch):
    from litereason import refresh, watch

    given = []
    inner = watch.refresh_projector
    monkeypatch.setattr(
        watch, "refresh_projector", lambda *args: given.append(args[-1]) or inner(*args)
    )
    monkeypatch.setattr(refresh, "rate", lambda step, steps: 0.0)
    trainer = make_trainer(task=alternating, max_latent_steps=3)
    projector = [p.detach().clone() for p in trainer.model.latent_projector.parameters()]
    trainer.train()
    assert given and set(given) == {3}
    after = trainer.model.latent_projector.parameters()
    assert all(torch.equal(a, b) for a, b in zip(projector, after, strict=True)), "a rate of 0"


def test_steps_that_cannot_be_scored_are_told(make_trainer, alternating, tmp_path, capsys):
    """Neither a reward nor its spread has a value when a judge is down: None in TRL's log."""
    from litereason.trainers import use_our_callbacks

    class Down(Alternating):
        name = "down"

        def reward(self, example, completion):
            value = super().reward(example, completion)
            return value if type(self).calls in (9, 17) else None  # one of step 2, one of step 3

    trainer = make_trainer(task=Down(), max_steps=3, refresh="off")
    use_our_callbacks(trainer, "rl", tmp_path / "metrics.jsonl")
    trainer.train()
    said = " ".join(capsys.readouterr().err.split())
    assert "step 1: 100% unscorable" in said or "100% unscorable" in said
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "reward" not in rows[0] and rows[0]["unscorable"] == 1 and "reward" in rows[1]


def test_rate_of_a_refresh():
    """Ten per cent of the steps rise, the first from above 0; the cosine ends near a tenth."""
    from litereason.refresh import rate

    assert rate(0, 1) == 1 and rate(0, 10) == 1
    assert rate(0, 20) == 0.5 and rate(1, 20) == 1
    assert rate(11, 20) == pytest.approx(0.1 + 0.9 * 0.5)  # half of the 18 steps after the warm-up
    assert 0.1 < rate(19, 20) < 0.11


def test_the_defaults_are_a_run(tmp_path):
    """A whole group fits a batch without another option."""
    LatentGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
