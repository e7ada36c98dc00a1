"""COCONUT: the rows of each stage by hand, its loss, its refusals, a killed run, the command line."""

import re

import pytest
import torch
from safetensors.torch import load_file

import litereason
import naive
from conftest import random_llama, word_tokenizer
from litereason import files
from litereason.baselines import coconut
from litereason.cli import main
from litereason.losses import next_token_loss
from litereason.sft import ProjectorTrainer, SFTJob, right_padded
from litereason.stages import SFTConfig

WORDS = word_tokenizer()
LATENT, EOS = 4, 2
PREFIX = "\n<implicit_thought>6</implicit_thought>"  # two stages of three steps
TRACE = "\n1. a\n2. b\n\n3. c\n\\boxed{Yes}"


@pytest.fixture
def model():
    return litereason.attach(
        random_llama(WORDS), WORDS, litereason.LatentConfig(projector="identity")
    )


@pytest.mark.parametrize(
    ("text", "stage", "wanted"),
    [
        (TRACE, 0, ("", TRACE)),
        (TRACE, 1, ("\n<2>", "\n2. b\n\n3. c\n\\boxed{Yes}")),
        (TRACE, 2, ("\n<4>", "\n\n3. c\n\\boxed{Yes}")),
        (TRACE, 3, ("\n<4>", "\n\\boxed{Yes}")),  # the last stage: all sentences, K c steps
        ("\n1. a\n2. b\n3. c\n4. d\n5. e\n\\boxed{No}", 3, ("\n<4>", "\n\\boxed{No}")),
        ("\n1. a\n\\boxed{No}", 1, ("\n<2>", "\n\\boxed{No}")),
        ("\n1. a\n\\boxed{No}", 2, ("\n<4>", "\n\\boxed{No}")),  # fewer sentences, as many steps
        ("\n\\boxed{No}", 1, ("\n<2>", "\n\\boxed{No}")),  # none at all
        ("\\boxed{No}", 3, ("<4>", "\n\\boxed{No}")),
        ("It is odd. It is 3. So \\boxed{3}. Yes.", 1, ("<2>", " It is 3. So \\boxed{3}. Yes.")),
        ("It is odd. It is 3. So \\boxed{3}. Yes.", 3, ("<4>", " So \\boxed{3}. Yes.")),
        ("It is odd. It is three.", 3, ("<4>", " It is three.")),  # no box: the last sentence
    ],
)
def test_what_a_stage_replaces(model, text, stage, wanted):
    thought, rest = coconut.split(text, stage, 2, 2, model.latent_tags)
    thought = thought.replace("<implicit_thought>", "<").replace("</implicit_thought>", ">")
    assert (thought, rest) == wanted


def job_of(model, traces, tmp_path, held_out=(), max_length=4096, **options) -> SFTJob:
    config = SFTConfig(model="m", method="coconut", method_options=options, max_length=max_length)
    return SFTJob(
        config=config, settings=None, directory=tmp_path, model=model, tokenizer=WORDS,  # pyright: ignore[reportArgumentType]
        traces=traces, held_out=held_out,
    )  # fmt: skip


def ids_of(text: str) -> list[int]:
    return WORDS(text)["input_ids"]


def test_rows_by_hand(model, tmp_path):
    """Two sentences and, without a box, a third that is the answer."""
    first, (two, three, line) = ids_of("w1"), ids_of(" w2 w3\n")
    job = job_of(model, [(" w9", "w1\n w2\n w3")], tmp_path, stages=2, steps_a_stage=1)
    prompt, plain = ids_of(" w9"), [*first, line, two, line, three, EOS]
    (row,) = job.config.how.rows(job, job.traces, 0)
    assert row == {"input_ids": prompt + plain, "labels": [-100, *plain]}
    for stage, steps, rest in ((1, 1, plain[2:]), (2, 2, plain[4:]), (3, 2, plain[4:])):
        tag = ids_of(f"<implicit_thought>{steps}</implicit_thought>")
        (row,) = job.config.how.rows(job, job.traces, stage)
        assert row["input_ids"] == [*prompt, *tag, *[LATENT] * steps, *rest]
        assert row["labels"] == [-100] * (1 + len(tag) + steps) + rest


def test_the_tag_stands_as_it_does_at_inference(model, tmp_path):
    """Rows begin with the very ids of the prefix that completions get."""
    job = job_of(model, [(" w9", "\nw1\n w2\n w3")] * 2, tmp_path, stages=2, steps_a_stage=2)
    prefix = job.config.how.prefix(job)
    assert prefix == "\n<implicit_thought>4</implicit_thought>"
    start = coconut.prefix_ids(model, WORDS, prefix)
    for row in job.config.how.rows(job, job.traces, 3):
        assert row["input_ids"][1 : 1 + len(start)] == start


def test_the_loss_is_that_of_the_naive_loop(model, tmp_path):
    traces = [(" w9 w8 w7", "\nw1\n w2\n w3 w4 w5"), (" w6", "\n w5\n w3"), (" w2 w3", "\n w1")]
    job = job_of(model, traces, tmp_path, stages=2, steps_a_stage=2)
    for stage in range(4):
        rows = job.config.how.rows(job, traces, stage)
        with torch.no_grad():
            found = next_token_loss(model, **right_padded(rows, 0))
            wanted = torch.zeros((), dtype=torch.float64)
            for row in rows:
                ids, labels = row["input_ids"], torch.tensor(row["labels"][1:])
                logits = model(inputs_embeds=naive.inputs_of(model, ids)[None]).logits[0, :-1]
                keep = labels != -100
                spread = logits.log_softmax(-1)[keep]
                wanted -= spread.gather(1, labels[keep][:, None]).sum()
        torch.testing.assert_close(found, wanted)


def refused(job, match):
    with pytest.raises(litereason.LiteReasonError, match=match):
        job.config.how.check(job)


def accepted(job):
    job.config.how.check(job)


def test_refusals(model, latent_llama, tmp_path):
    plain = [(" w9", "\n w1\n w2")]
    accepted(job_of(model, plain, tmp_path, stages=2))
    refused(job_of(latent_llama, plain, tmp_path), "projector 'mlp', but COCONUT has none")
    refused(job_of(model, plain, tmp_path, stages=11, steps_a_stage=3), "are 33 latent steps")
    thought = [*plain, (" w9", "\n<implicit_thought>2</implicit_thought>\n w2")]
    refused(job_of(model, thought, tmp_path, stages=2), "trace 2 holds a thought")
    with pytest.raises(litereason.LiteReasonError, match="longer than --max_length 3"):
        job = job_of(model, plain, tmp_path, max_length=3)
        job.config.how.rows(job, job.traces, 1)


def test_a_tag_that_cannot_be_written(tmp_path):
    from litereason.stories.tiny import tiny_model, tiny_tokenizer

    tokenizer = tiny_tokenizer([])
    config = litereason.LatentConfig(projector="identity", max_latent_steps=40)
    model = litereason.attach(tiny_model(tokenizer), tokenizer, config)
    options = {"settings": None, "directory": tmp_path, "held_out": (), "tokenizer": tokenizer}
    traces = [("", "\nskip\n\\boxed{Yes}")]
    for stages in (4, 5):
        told = {"stages": stages, "steps_a_stage": 8}
        config = SFTConfig(model="m", method="coconut", method_options=told)
        job = SFTJob(config=config, model=model, traces=traces, **options)  # pyright: ignore[reportArgumentType]
        if stages == 4:
            accepted(job)
        else:
            refused(job, "cannot write the tag '<implicit_thought>40")


def test_new_tags_are_the_last_tokens():
    """Other tokens keep their ids."""
    from litereason.stories.tiny import tiny_tokenizer

    vocabulary = tiny_tokenizer(["Do it."]).get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    tags = [f"\n<implicit_thought>{n}</implicit_thought>" for n in range(1, 33)]
    place = tokens.index("\nDo it.")
    assert tokens[place - 5 : place] == tags[:5] and tokens[place + 1 : place + 28] == tags[5:]
    assert all(re.fullmatch("<think [1-5]>|</think>", token) for token in tokens[place + 28 :])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method_options": {"stages": 0}}, "of coconut: stages is 0"),
        ({"method_options": {"stages": 1.5}}, "--stages is 1.5; expected int"),
        ({"method_options": {"steps_a_stage": 0}}, "steps_a_stage is 0"),
        ({"method_options": {"epochs_a_stage": float("nan")}}, "epochs_a_stage is nan"),
        (
            {"method_options": {"epochs": 2}},
            "--method_options.epochs is unknown to coconut; it takes st",
        ),
        ({"trainer": {"num_train_epochs": 2}}, "counts --method_options.epochs_a_stage"),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(litereason.LiteReasonError, match=message):
        SFTConfig(model="m", method="coconut", **options)


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    from litereason.tasks.stories import StoriesTask

    task = StoriesTask()
    rows = [
        {"item": example.id, "completion": task.demonstration(example)}
        for example in task.examples("train", 10)
    ]
    return files.write_jsonl(tmp_path_factory.mktemp("run") / "traces.jsonl", rows)


@pytest.fixture(scope="module")
def whole(tiny_base, traces):
    """A run of three steps a stage, four stages, that nothing disturbed."""
    assert sft(tiny_base, traces, "whole", "--eval_traces", traces, "--eval_rows", 3) == 0
    return traces.parent / "sft" / "whole"


def sft(base, traces, name, *more) -> int:
    options = ["--model", base, "--run_dir", traces.parent, "--name", name, "--limit", 10]
    options += ["--traces", traces, "--method", "coconut"]
    options += ["--method_options.stages", 2, "--method_options.steps_a_stage", 3]
    options += [
        "--method_options.epochs_a_stage",
        1,
        "--per_device_train_batch_size",
        4,
        "--save_steps",
        2,
    ]
    options += ["--gradient_accumulation_steps", 1, "--mode", "plain", *more]
    return main(["sft", *map(str, options)])


def weights(directory):
    return load_file(directory / "model" / "model.safetensors")


def metrics(directory):
    rows = files.read_jsonl(directory / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("dies_at", [2, 6, 10], ids=["in stage 0", "in stage 1", "before stage 3"])
def test_a_killed_run_goes_on_in_its_stage(tiny_base, traces, whole, monkeypatch, dies_at):
    """It dies in step `dies_at`; a checkpoint is written after a stage's second and third step."""
    compute_loss, steps = ProjectorTrainer.compute_loss, []

    def dies(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == dies_at:
            raise KeyboardInterrupt
        return compute_loss(self, *args, **kwargs)

    monkeypatch.setattr(ProjectorTrainer, "compute_loss", dies)
    name, more = f"killed-{dies_at}", ("--eval_traces", traces, "--eval_rows", 3)
    assert sft(tiny_base, traces, name, *more) == 130
    directory = whole.parent / name
    assert len(list((directory / "checkpoints").iterdir())) <= 2  # the stage and the one before
    steps[:] = [1] * dies_at
    assert sft(tiny_base, traces, name, *more) == 0
    assert len(steps) - dies_at == 12 - {2: 0, 6: 5, 10: 9}[dies_at]
    wanted, found = weights(whole), weights(directory)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert metrics(directory) == metrics(whole)


def test_stages_by_the_command_line(tiny_base, whole):
    rows = metrics(whole)
    assert [row["step"] for row in rows] == list(range(1, 13))
    rates = [row["learning_rate"] for row in rows]
    assert rates[:3] == rates[3:6] == rates[6:9] == rates[9:]  # anew at each stage
    assert not (whole / "checkpoints").exists()
    summary = files.read_json(whole / "summary.json")
    assert summary["prefix"] == PREFIX and summary["rows"] == 10
    assert summary["held_out"]["rows"] == 3 and summary["held_out"]["latents"] > 0
    before, after = load_file(tiny_base / "model.safetensors"), weights(whole)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_completions_by_the_command_line(whole, tmp_path):
    words = ["--model", whole / "model", "--run_dir", tmp_path, "--name", "arm", "--prefix", PREFIX]
    words += ["--limit", 4, "--samples", 2, "--max_new_tokens", 12, "--max_thoughts", 0]
    assert main(["eval", *map(str, words)]) == 0
    records = files.read_jsonl(tmp_path / "eval" / "arm" / "records.jsonl")
    assert len(records) == 8
    for record in records:
        assert record["spans"][:2] == [["tag", PREFIX], ["latent", 6]]
        assert record["latent_steps"] == 6 and record["thoughts"] == 1
        assert 1 <= record["discrete_tokens"] <= 13
    assert any(record["discrete_tokens"] > 1 for record in records)


def test_an_unknown_method(tiny_base, traces, capsys):
    words = ["sft", "--model", tiny_base, "--run_dir", traces.parent, "--method", "cocnut"]
    assert main(list(map(str, words))) == 2
    assert (
        "--method is 'cocnut'; expected one of thoughts, distil, coconut, colar"
        in capsys.readouterr().err
    )
