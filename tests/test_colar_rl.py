"""CoLaR's RL: what was drawn is kept, is an action, and has the density that it was drawn with."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from torch.distributions import Normal
from trl import GRPOTrainer

import litereason
import naive
from litereason import cost, files
from litereason.baselines.colar import Colar, Frame
from litereason.baselines.colar_rl import ColarLoop, ColarRL, normals
from litereason.checkpoints import load, save
from litereason.cli import main
from litereason.errors import ConfigError, DataError, ModelError
from litereason.grpo import LatentGRPOConfig
from litereason.rollout import draws, roll_out
from litereason.sft import ProjectorConfig, SFTJob
from litereason.stages import SFTConfig
from litereason.tasks.stories import StoriesTask


class Alternating(StoriesTask):
    """Every other completion earns 1, whatever it says."""

    name = "alternating"

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = 0

    def reward(self, example, completion):
        self.calls += 1
        return float(self.calls % 2)


def thinker(tiny_base):
    """The tiny model in float64; its latent head says something, its end marker is likely."""
    model, tokenizer = load(tiny_base, dtype=torch.float64)
    litereason.attach(model, tokenizer, litereason.LatentConfig(projector="colar", depth=1))
    with torch.no_grad():
        model.lm_head.weight[:] += 0.03 * torch.randn(
            model.lm_head.weight.shape, generator=torch.manual_seed(0), dtype=torch.float64
        )
        model.latent_projector.out.weight.normal_(std=0.05, generator=torch.manual_seed(1))
        end = tokenizer.convert_tokens_to_ids("</think>")
        model.lm_head.weight[end] = 0.5 * model.lm_head.weight[:40].sum(0)
    return model, tokenizer


@pytest.fixture
def make_trainer(tiny_base, tmp_path):
    def make(task=None, wording=None, examples=2, **changes):
        model, tokenizer = thinker(tiny_base)
        options = {
            "output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "learning_rate": 1e-3,
            "num_generations": 4, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
            "max_completion_length": 16, "max_steps": 2, "save_strategy": "no", "logging_steps": 1,
            "temperature": 0.7,
        }  # fmt: skip
        args = LatentGRPOConfig(**(options | changes))
        task = task or Alternating()
        how = ColarRL(**({"max_steps": 6} | (wording or {})))
        return how.trainer(model, args, task, task.examples("train", examples), tokenizer, "plain")

    return make


@pytest.fixture
def trainer(make_trainer):
    return make_trainer()


def inputs_of(trainer):
    """A scored generation, as the loss gets it, in the order of the rows."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rows = [dict(row) for row in trainer.train_dataset for _ in range(4)]
    return trainer._generate_and_score_completions(rows)


def unpadded(inputs, row):
    prompt = inputs["prompt_ids"][row][inputs["prompt_mask"][row] == 1].tolist()
    new = inputs["completion_ids"][row][inputs["completion_mask"][row] == 1].tolist()
    return prompt, new


def states_of(trainer, prompt, new, latents):
    """Last hidden states `(length, width)`, the drawn latents at their slots."""
    table, left = trainer.model.get_input_embeddings().weight, list(latents)
    embeds = [left.pop(0) if i == trainer.latent_id else table[i] for i in [*prompt, *new]]
    return naive.hidden_of(trainer.model, torch.stack(embeds))


def test_the_hook_of_trl_is_where_we_override_it():
    assert list(inspect.signature(GRPOTrainer._compute_loss).parameters) == [
        "self", "model", "inputs",
    ]  # fmt: skip


def test_drawn_latents_are_the_means_and_the_rows_own_numbers(tiny_base):
    model, tokenizer = thinker(tiny_base)
    from transformers import GenerationConfig

    prompts = [[1, 7, 9], [1, 7, 9], [1, 8, 30, 31, 32], [1, 7, 9]]
    config = GenerationConfig(max_new_tokens=14, do_sample=True, top_k=0, pad_token_id=0,
                              eos_token_id=tokenizer.eos_token_id, disable_compile=True)  # fmt: skip
    uniform = draws((3,), range(4), 14)
    with torch.no_grad(), Colar(max_steps=5)(model, tokenizer, 1.0) as fresh:
        made = roll_out(model, prompts, config, uniform, loop=ColarLoop, fresh=fresh)
        apart = roll_out(model, prompts, config, uniform, 2, loop=ColarLoop, fresh=fresh)
    assert model.latent_projector.noise == 0 and model.latent_projector.normal is None
    latent = model.latent_tags.latent_token_id
    steps = [done.ids.count(latent) for done in made]
    assert len(set(steps)) > 1 and max(steps) == 5
    table = model.get_input_embeddings().weight
    for row, (prompt, done, alone) in enumerate(zip(prompts, made, apart, strict=True)):
        assert done.ids == alone.ids
        torch.testing.assert_close(done.latents, alone.latents)
        inputs, kept = [table[i] for i in prompt], list(done.latents)
        for place, token in enumerate(done.ids):
            if token != latent:
                inputs.append(table[token])
                continue
            state = naive.hidden_of(model, torch.stack(inputs))[-1]
            mean, log_std = model.latent_projector.gaussian(state)
            normal = normals(uniform[row, place][None], 96)[0]
            wanted = model.latent_projector.scale * (mean + log_std.exp() * normal)
            torch.testing.assert_close(kept[0], wanted, rtol=1e-5, atol=1e-5)
            inputs.append(kept.pop(0))


def test_numbers_of_a_draw_are_normal_and_repeatable():
    uniform = torch.rand(200, dtype=torch.float64, generator=torch.manual_seed(0))
    found = normals(uniform, 50)
    assert torch.equal(found[3:5], normals(uniform[3:5], 50))
    assert abs(float(found.mean())) < 0.05 and abs(float(found.std()) - 1) < 0.05
    assert float(torch.corrcoef(found[:20]).fill_diagonal_(0).abs().max()) < 0.6


def test_what_was_forced_is_no_action():
    frame, latent = Frame((11, 12), (26, 27)), 4
    ended = [11, 12, latent, latent, 26, 27, 9, 2]
    assert frame.actions(ended, latent, 5) == [0, 0, 1, 1, 1, 0, 1, 1]
    assert frame.actions(ended, latent, 2) == [0, 0, 1, 1, 0, 0, 1, 1], "the bound ended it"
    assert frame.actions(ended[:3], latent, 5) == [0, 0, 1], "cut short"
    assert frame.actions([11, 12, 26, 27, 9], latent, 5) == [0, 0, 1, 0, 1]
    assert frame.actions([11], latent, 5) == [0]


def test_log_probabilities_are_the_normals_and_the_heads(trainer):
    """Uneven rows with the same ids and other latents; computed by hand, a row after the other."""
    inputs = inputs_of(trainer)
    trainer.drawn = inputs["latents"]
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    keep = inputs["completion_ids"].shape[1]
    model, head, latent = trainer.model, trainer.model.latent_projector, trainer.latent_id
    got, entropy, _ = trainer._get_per_token_logps_and_entropies(
        model, ids, mask, keep, batch_size=3, compute_entropy=True
    )
    assert entropy.shape == got.shape == (8, keep)
    end, slots = trainer.frame.closing[0], 0
    for row in range(8):
        prompt, new = unpadded(inputs, row)
        count = new.count(latent)
        kept = inputs["latents"][row, :count]
        states = states_of(trainer, prompt, new, kept)[len(prompt) - 1 : -1]
        logits = model.lm_head(states) / 0.7
        logits[:, latent] = -torch.inf
        spread = logits.log_softmax(-1)
        mean, log_std = head.gaussian(states)
        drawn = iter(kept)
        for k, token in enumerate(new):
            if token == latent:
                slots += 1
                density = Normal(mean[k], log_std[k].exp()).log_prob(next(drawn) / head.scale)
                wanted = (1 - spread[k, end].exp()).log() + density.mean()
            else:
                wanted = spread[k, token]
            assert float(got[row, k].detach()) == pytest.approx(float(wanted.detach()), abs=1e-6)
    assert slots > 8


def test_each_row_has_the_latents_that_it_was_made_with(trainer):
    """The first of each: its Gaussian after the opening, and the row's own numbers."""
    inputs = inputs_of(trainer)
    uniform = draws((trainer.args.seed, 0, 0, 0), range(8), 16)
    head, first, found = trainer.model.latent_projector, len(trainer.frame.opening), 0
    for row in range(8):
        prompt, new = unpadded(inputs, row)
        if new[first] != trainer.latent_id:
            continue
        found += 1
        mean, log_std = head.gaussian(states_of(trainer, prompt, new[:first], [])[-1])
        normal = normals(uniform[row, first][None], 96)[0]
        wanted = head.scale * (mean + log_std.exp() * normal)
        torch.testing.assert_close(inputs["latents"][row, 0], wanted, rtol=1e-5, atol=1e-5)
    assert found > 4


def test_an_end_marker_that_is_certain_keeps_the_loss_finite(trainer):
    inputs = inputs_of(trainer)
    with torch.no_grad():
        trainer.model.lm_head.weight[trainer.frame.closing[0]] *= 1e4
        trainer.model.lm_head.weight[trainer.frame.closing[0]].abs_()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad.isfinite().all() for p in trainer.model.parameters() if p.grad is not None)


def test_latents_go_where_their_rows_go(make_trainer):
    """Rows are shuffled and split for the steps of a generation; ids alone would mix latents up."""
    trainer = make_trainer(
        per_device_train_batch_size=4, steps_per_generation=4, max_steps=4, examples=4
    )
    original, seen = {}, []
    inner, scored = trainer._compute_loss, trainer._generate_and_score_completions

    def generate(rows):
        output = scored(rows)
        for k, row in enumerate(output["row"].tolist()):
            original[row] = output["latents"][k].clone()
        return output

    def loss(model, inputs):
        for k, row in enumerate(inputs["row"].tolist()):
            assert torch.equal(inputs["latents"][k], original[row])
            seen.append(row)
        found = inner(model, inputs)
        assert torch.equal(trainer.drawn, inputs["latents"]), "what the policy pass put back"
        return found

    trainer._compute_loss, trainer._generate_and_score_completions = loss, generate
    trainer.train()
    assert sorted(seen) == list(range(16))


def test_the_same_ids_with_other_latents_are_scored_apart(trainer):
    inputs = inputs_of(trainer)
    trainer.drawn = inputs["latents"]
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)[:1].repeat(2, 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)[:1].repeat(2, 1)
    trainer.drawn = torch.stack([inputs["latents"][0], inputs["latents"][0] + 0.5])
    assert trainer.latent_id in ids[0]
    keep = inputs["completion_ids"].shape[1]
    got, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, keep)
    assert not torch.allclose(got[0], got[1])


def test_training_moves_both_heads(make_trainer):
    trainer = make_trainer(beta=0.01)
    model = trainer.model
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    trainer.train()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert {"lm_head.weight", "model.latent_projector.out.weight"} <= moved
    assert "model.layers.0.self_attn.q_proj.weight" in moved
    log = [row for row in trainer.state.log_history if "reward" in row]
    assert len(log) == 2 and all(row["latent/steps"] > 0 for row in log)
    assert log[0]["kl"] == pytest.approx(0, abs=1e-6), "the reference sees the same latents"
    assert not any(key.startswith("latent/refresh") for row in log for key in row)


def test_the_gradient_of_a_latent_pulls_the_mean_to_it(trainer):
    """Advantage 1 on one row: its drawn latents become more likely."""
    inputs = inputs_of(trainer)
    inputs["advantages"] = torch.zeros(8, dtype=torch.float64)
    row = int((inputs["completion_ids"] == trainer.latent_id).sum(1).argmax())
    inputs["advantages"][row] = 1
    head = trainer.model.latent_projector
    prompt, new = unpadded(inputs, row)
    kept = inputs["latents"][row, : new.count(trainer.latent_id)]

    def density():
        states = states_of(trainer, prompt, new, kept)[len(prompt) - 1 : -1]
        slots = torch.tensor(new) == trainer.latent_id
        return head.log_density(states[slots], kept).sum()

    before = float(density().detach())
    trainer._compute_loss(trainer.model, inputs).backward()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter -= 1e-2 * parameter.grad
    assert float(density().detach()) > before


def test_what_cannot_be_trained(make_trainer, tiny_base, tmp_path):
    with pytest.raises(ConfigError, match="max_steps is 0"):
        make_trainer(wording={"max_steps": 0})
    with pytest.raises(ModelError, match="cannot read '<hm 5>'"):
        make_trainer(wording={"opening": "<hm {r}>"})

    class Thoughtful(StoriesTask):
        def prompt(self, example, mode="plain"):
            return super().prompt(example, mode) + "\n<implicit_thought>2</implicit_thought>"

    with pytest.raises(DataError, match="prompts without tags"):
        make_trainer(task=Thoughtful())
    model, tokenizer = load(tiny_base)
    args = LatentGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(ModelError, match="this one has None"):
        ColarRL().trainer(model, args, StoriesTask(), [], tokenizer, "plain")


# --- the command line --------------------------------------------------------------------------------


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_sft_evaluation_and_rl_by_the_command_line(tiny_base, tmp_path, capsys):
    task = StoriesTask()
    rows = [{"item": e.id, "completion": task.demonstration(e)} for e in task.examples("train", 20)]
    traces = files.write_jsonl(tmp_path / "traces.jsonl", rows)
    arm = ["--run_dir", tmp_path, "--name", "colar", "--mode", "plain"]
    sft = ["sft", "--model", tiny_base, *arm, "--method", "colar", "--traces", traces]
    sft += [
        "--limit",
        20,
        "--copies",
        2,
        "--max_steps",
        4,
        "--eval_traces",
        traces,
        "--eval_rows",
        3,
    ]
    assert run(*sft, "--method_options.latent_loss", "mse", "--save_steps", 2) == 0
    model = tmp_path / "sft" / "colar" / "model"
    summary = files.read_json(tmp_path / "sft" / "colar" / "summary.json")
    assert summary["rows"] == 40 and summary["skipped_steps"] == 0
    assert summary["held_out"]["rows"] == 3 and summary["held_out"]["zeros"]["items"] == 3
    settings = yaml.safe_load((tmp_path / "sft" / "colar" / "config.yaml").read_text())["settings"]
    assert (settings["projector"], settings["train"]) == ("colar", "all"), (
        "the method's, not asked for"
    )
    decode = ["--decoding", "colar", "--decoding_options.r", 2, "--decoding_options.max_steps", 7]
    options = ["--limit", 6, "--samples", 2, "--max_new_tokens", 30]
    assert run("eval", "--model", model, *arm, *options, *decode) == 0
    records = files.read_jsonl(tmp_path / "eval" / "colar" / "records.jsonl")
    assert len(records) == 12 and all(1 <= row["latent_steps"] <= 7 for row in records)
    assert all(row["spans"][0] == ["discrete", "<think 2>"] for row in records)
    assert all(row["spans"][2][1].startswith("</think>") for row in records)
    trainer = ["--max_steps", 2, "--num_generations", 4, "--per_device_train_batch_size", 8]
    trainer += ["--gradient_accumulation_steps", 1, "--max_completion_length", 20]
    rl = ["rl", "--model", model, *arm, "--limit", 2, *trainer, "--method", "colar"]
    assert run(*rl, "--method_options.max_steps", 6) == 0
    metrics = files.read_jsonl(tmp_path / "rl" / "colar" / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [1, 2] and metrics[0]["latent_steps"] > 0
    spent = cost.read(tmp_path / "rl" / "colar")
    assert spent.discrete_tokens == metrics[-1]["generated_tokens"] and spent.latent_steps > 0
    written = spent.discrete_tokens + spent.latent_steps
    prompts = (metrics[-1]["num_tokens"] - written) / 4  # a group's prompt counts once
    assert spent.training_tokens == pytest.approx(prompts + written, abs=2)
    again, _ = load(tmp_path / "rl" / "colar" / "model")
    assert again.latent_config.projector == "colar"


def test_training_costs_its_compressed_rows(tiny_base, tmp_path):
    """Two epochs of rows with a slot for each group of tokens."""
    model, tokenizer = load(tiny_base)
    litereason.attach(model, tokenizer, litereason.LatentConfig(projector="colar", depth=1))
    config = SFTConfig(model="m", method="colar", copies=2)
    settings = ProjectorConfig(
        output_dir=str(tmp_path / "checkpoints"), use_cpu=True, save_strategy="no", num_train_epochs=2,
        per_device_train_batch_size=2, gradient_accumulation_steps=1, train="all",
    )  # fmt: skip
    pairs = [("\n1.", "\n1. so\n2. so\n3. so\n\\boxed{Yes}"), ("\n2.", "\n2. ok\n\\boxed{No}")]
    job = SFTJob(
        config=config, settings=settings, directory=tmp_path, model=model, tokenizer=tokenizer,
        traces=pairs, held_out=(),
    )  # fmt: skip
    rows = config.how.rows(job, pairs, range(1, 6), 2)
    lengths = [len(row["input_ids"]) for row in rows]
    slots = sum(row["input_ids"].count(4) for row in rows)
    assert sum(lengths) < 2 * sum(len(tokenizer(p + t)["input_ids"]) + 3 for p, t in pairs)
    assert config.how(job) == {"rows": 4, "skipped_steps": 0}
    spent = cost.read(tmp_path)
    assert spent.training_tokens == spent.forward_positions == 2 * sum(lengths)
    head = cost.projector_weights(model)
    assert spent.flops == 12 * (cost.weights(model) * sum(lengths) + head * slots) and head * slots


def test_the_plan_of_a_run_knows_that_the_head_trains(tiny_base, tmp_path, capsys):
    model, tokenizer = thinker(tiny_base)
    save(model, tmp_path / "model", tokenizer)
    words = ["rl", "--model", tmp_path / "model", "--run_dir", tmp_path, "--mode", "plain"]
    words += ["--dry_run", "--limit", 8, "--num_generations", 4, "--max_completion_length", 40]
    words += ["--per_device_train_batch_size", 8]
    assert run(*words, "--method", "colar") == 0
    total = sum(p.numel() for p in model.parameters())
    head = model.latent_projector.parameter_count()
    told = " ".join(capsys.readouterr().out.split())
    assert f"{total:,}, of which the policy gradient trains {total:,}; projector {head:,}" in told
    assert run(*words) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"of which the policy gradient trains {total - head:,}" in told
    launch = Path(__file__).parents[1] / "recipes" / "launch" / "fsdp2.yaml"
    assert run(*words, "--launch", launch, "--method", "colar") == 2
    assert "sharded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sft", "--method", "colour"], "--method is 'colour'"),
        (["sft", "--method", "colar", "--method_options.rate", 2], "rate is unknown to colar"),
        (["sft", "--method_options.largest", 2], "largest is unknown to thoughts; it takes none"),
        (["rl", "--method", "coconut"], "--method is 'coconut'; expected one of thoughts, colar"),
        (["rl", "--method", "colar", "--method_options.noise", 2], "noise is unknown to colar"),
        (["rl", "--method", "colar", "--method_options.r", 0], "r is 0"),
        (["rl", "--method", "colar"], "needs a model with the projector 'colar'"),
    ],
)
def test_mistakes_on_the_command_line(words, told, tiny_base, tmp_path, capsys):
    rows = [{"prompt": "Ask.", "completion": "\n1. Mara map\n\\boxed{No}"}]
    traces = files.write_jsonl(tmp_path / "collect" / "litereason" / "traces.jsonl", rows)
    assert Path(traces).exists()
    assert run(*words, "--model", tiny_base, "--run_dir", tmp_path) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_saved_head_keeps_its_scale(tiny_base, tmp_path):
    model, _ = thinker(tiny_base)
    again, _ = load(save(model, tmp_path / "model"))
    assert float(again.latent_projector.scale) == pytest.approx(float(model.latent_projector.scale))
