"""`litereason compare` end to end at the smallest scale: resumes, keeps going, checks first."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from litereason import cost, files
from litereason.arms import ARMS, chosen
from litereason.cli import main
from litereason.compare import command as module
from litereason.compare.command import compare
from litereason.compare.config import CompareConfig
from litereason.errors import ConfigError, DataError, LiteReasonError
from litereason.run_dir import only_run

SMALLEST = {
    "base": {"steps": 4, "batch_size": 8, "curriculum": 2, "hasty_steps": 1},
    "collect": {"demonstrations": True, "limit": 12},
    "sft": {
        "projector": "rms",
        "projector_depth": 1,
        "train": "all",
        "loss_after": "prompt",
        "limit": 12,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
    },
    "rl": {
        "limit": 4,
        "max_steps": 2,
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "max_completion_length": 40,
    },
    "eval": {"limit": 6, "samples": 2, "batch_size": 12, "max_new_tokens": 40},
}
SOME = ("base", "direct", "rl", "litereason", "litereason-skip")


def settings(tmp_path, **more):
    return {**SMALLEST, "run_dir": str(tmp_path / "run"), "arms": SOME, "seeds": (0, 1), **more}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished comparison."""
    tmp_path = tmp_path_factory.mktemp("compare")
    compare(CompareConfig(**settings(tmp_path)))
    return tmp_path / "run"


def test_every_arm_runs_under_every_seed(done):
    found = files.read_json(done / "comparison.json")
    assert list(found["arms"]) == list(SOME)
    assert found["seeds"] == [0, 1] and found["items"] == 6 and found["samples"] == 2
    for name, arm in found["arms"].items():
        assert arm["status"] == "done" and arm["title"] == ARMS[name].title
        assert len(arm["figures"]["accuracy"]["by_seed"]) == 2
    assert {(p["a"], p["b"]) for p in found["pairs"]} >= {("litereason", "rl"), ("rl", "base")}
    assert (done / "report.html").stat().st_size > 50_000
    assert not list(done.glob("**/checkpoints"))


def test_an_arm_costs_what_its_stages_cost(done):
    for name, stages in (
        ("base", ["eval/base"]),
        ("rl", ["rl/rl", "eval/rl"]),
        ("litereason", ["collect/traces", "sft/litereason", "rl/litereason", "eval/litereason"]),
        (
            "litereason-skip",
            ["collect/traces", "sft/litereason", "rl/litereason", "eval/litereason-skip"],
        ),
    ):
        note = files.read_json(done / "seed-1" / "arms" / f"{name}.json")
        assert note["stages"] == stages
        parts = [cost.read(done / "seed-1" / place) for place in stages]
        assert note["cost"]["flops"] == sum(part.flops for part in parts) > 0
        assert note["cost"]["training_tokens"] == sum(part.training_tokens for part in parts)
    judged = files.read_jsonl(done / "seed-1" / "eval" / "rl" / "records.jsonl")
    spent = cost.read(done / "seed-1" / "eval" / "rl")
    assert spent.discrete_tokens == sum(row["discrete_tokens"] for row in judged)
    assert spent.forward_positions > spent.discrete_tokens


def test_arms_side_by_side_share_traces_that_another_holds(done):
    bench = CompareConfig(**settings(done.parent)).bench("litereason", 1)
    with only_run(done / "seed-1/collect/traces"):
        traces = bench.collect()
    assert traces.exists() and bench.used == ["collect/traces"]


def test_baselines_come_out_beside_the_others(tmp_path):
    names = (
        "mixture-of-inputs",
        "soft-thinking",
        "soft-thinking-one",
        "soft-thinking-cold",
        "coconut",
        "colar",
        "colar-2",
        "colar-rl",
    )
    told = {"coconut": {"sft": {"max_steps": 1, "method_options": {"stages": 1}}}}
    told["colar-rl"] = {"rl": {"method_options": {"max_steps": 8}}}
    compare(CompareConfig(**settings(tmp_path, arms=names, seeds=(0,), changes=told)))
    run = tmp_path / "run"
    found = files.read_json(run / "comparison.json")["arms"]
    assert list(found) == ["rl", *names]
    for name, arm in found.items():
        assert arm["status"] == "done" and arm["reason"] is None, name
        if name == "rl":
            continue
        assert len(arm["figures"]["accuracy"]["by_seed"]) == 1
        records = files.read_jsonl(run / "seed-0" / "eval" / name / "records.jsonl")
        steps = [row["latent_steps"] for row in records]
        assert len(records) == 12 and any(steps) == (name != "mixture-of-inputs"), name
    stages = {name: files.read_json(run / "seed-0" / "arms" / f"{name}.json") for name in names}
    own = ["rl/rl", "collect/own"]
    assert stages["soft-thinking"]["stages"] == ["eval/soft-thinking"]
    cold = yaml.safe_load((run / "seed-0/eval/soft-thinking-cold/config.yaml").read_text())
    assert cold["settings"]["decoding_options"] == {"patience": 4}
    one = yaml.safe_load((run / "seed-0/eval/soft-thinking-one/config.yaml").read_text())
    assert one["settings"]["decoding_options"] == {"k": 1}
    assert stages["coconut"]["stages"] == [*own, "sft/coconut", "eval/coconut"]
    assert stages["colar"]["stages"] == [*own, "sft/colar", "eval/colar"]
    assert stages["colar-2"]["stages"] == [*own, "sft/colar", "eval/colar-2"]
    two = yaml.safe_load((run / "seed-0/eval/colar-2/config.yaml").read_text())
    assert two["settings"]["decoding_options"] == {"r": 2}
    assert stages["colar-rl"]["stages"] == [*own, "sft/colar", "rl/colar-rl", "eval/colar-rl"]
    for place in ("sft/coconut", "sft/colar", "rl/colar-rl"):
        assert cost.read(run / "seed-0" / place).training_tokens > 0, place
    assert stages["colar-rl"]["cost"]["flops"] > stages["colar"]["cost"]["flops"] > 0


def test_it_goes_on_and_repeats_nothing(done, capsys):
    before = (done / "seed-0" / "eval" / "rl" / "summary.json").stat().st_mtime_ns
    compare(CompareConfig(**settings(done.parent)))
    assert (done / "seed-0" / "eval" / "rl" / "summary.json").stat().st_mtime_ns == before
    assert "eval rl" not in capsys.readouterr().err


def test_other_settings_are_refused(done):
    changed = settings(done.parent, eval=SMALLEST["eval"] | {"max_new_tokens": 41})
    with pytest.raises(ConfigError, match=r"other settings .* another --run_dir, or"):
        compare(CompareConfig(**changed))


def test_an_arm_that_fails_leaves_the_others_whole(tmp_path, monkeypatch):
    real = module.ARMS["rl"].run

    class Broken(type(module.ARMS["rl"])):
        def run(self, bench):
            if not bench.dry and bench.seed == 1:
                raise DataError("no luck today")
            real(bench)

    monkeypatch.setitem(module.ARMS, "rl", Broken())
    config = CompareConfig(**settings(tmp_path, arms=("base", "rl", "direct")))
    with pytest.raises(DataError, match="1 of 3 arms failed under some seed: rl"):
        compare(config)
    found = files.read_json(tmp_path / "run" / "comparison.json")["arms"]
    assert [found[name]["status"] for name in ("base", "direct", "rl")] == [
        "done",
        "done",
        "partial",
    ]
    assert "no luck today" in found["rl"]["reason"]
    assert found["rl"]["seeds"] == [0]
    compare(CompareConfig(**settings(tmp_path, arms=("base", "direct"))))  # they are well
    monkeypatch.undo()
    compare(config)  # the same command tries it again
    found = files.read_json(tmp_path / "run" / "comparison.json")["arms"]
    assert found["rl"]["status"] == "done" and found["rl"]["reason"] is None


def test_all_is_checked_before_anything_runs(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    told = {**SMALLEST, "run_dir": str(tmp_path / "run"), "compare": {"arms": ["base", "rl"]}}
    recipe.write_text(yaml.safe_dump(told))
    for words, what in (
        (["--arms", "rl,nobody"], "unknown arms"),
        (["--arms", "distill"], "Did you mean distil?"),
        (["--seeds", "0,0"], "different numbers"),
        (["--rl.num_generations", "3"], "arm 'rl', rl"),
        (["--rl.no_such_thing", "3"], "no_such_thing"),
        (["--eval.split", "nowhere"], "nowhere"),
        (["--changes.rl.rl.learning_rate", "high"], "learning_rate"),
        (["--changes.nobody.rl.limit", "3"], "nobody"),
        (["--variants.rl.arm", "rl"], "variant 'rl'"),
        (["--variants.slow.arm", "nobody"], "variant 'slow'"),
        (["--variants.slow.arm", "rl", "--variants.slow.rll.limit", "3"], "variant 'slow'"),
        (
            ["--arms", "slow", "--variants.slow.arm", "rl", "--variants.slow.rl.max_steps", "few"],
            "arm 'slow', rl",
        ),
        (["--base.stepps", "3"], "stepps"),
        (["--model", "x"], "got both, --model x"),
        (["--workers", "0"], "--workers"),
    ):
        assert main(["compare", "--config", str(recipe), *words]) == 2, words
        assert what in " ".join(capsys.readouterr().err.split()), words
    assert not (tmp_path / "run").exists()


def test_changes_reach_their_arm_alone(tmp_path):
    config = CompareConfig(
        **settings(tmp_path, changes={"rl": {"rl": {"max_steps": 1}, "eval": {"limit": 5}}})
    )
    for name, steps in (("rl", 1), ("litereason", 2)):
        bench = config.bench(name, 0, dry=True)
        seen = {}
        bench._stage = lambda kind, name, function, seen=seen, b=bench, **told: (
            seen.update({kind: b.sections[kind] | told | b.changes.get(kind, {})}),
            b.run,
        )[1]
        ARMS[name].run(bench)
        assert seen["rl"]["max_steps"] == steps


def test_distilled_thoughts_come_from_the_policy_that_rl_taught(tmp_path):
    """Its controls train on the very traces that it collected, whatever it alone was told."""
    names = ("rl", "distil", "distil-lp", "distil-pause", "distil-other-row")
    names = (*names, "distil-rl", "distil-rl-pause", "distil-rl-other-row")
    names = (*names, "distil-pause-told", "distil-words")
    told = {"distil": {"collect": {"samples": 3}}}
    compare(CompareConfig(**settings(tmp_path, arms=names, seeds=(0,), changes=told)))
    run = tmp_path / "run" / "seed-0"
    notes = {name: files.read_json(run / "arms" / f"{name}.json") for name in names}
    assert {name: note["status"] for name, note in notes.items()} == dict.fromkeys(names, "done")
    shared = ["rl/rl", "collect/distil"]
    assert notes["distil"]["stages"] == [*shared, "sft/distil", "eval/distil"]
    for name in ("distil-pause", "distil-pause-told", "distil-words"):
        assert notes[name]["stages"] == [*shared, f"sft/{name}", f"eval/{name}"]
    controls = {
        name: yaml.safe_load((run / "sft" / name / "config.yaml").read_text())["settings"]
        for name in ("distil-pause-told", "distil-words")
    }
    settled = {
        name: (one["method"], one["projector"], one["mode"]) for name, one in controls.items()
    }
    assert settled["distil-pause-told"] == ("distil", "pause-told", "latent")
    assert settled["distil-words"][2] == "plain"
    other = [*shared, "sft/distil", "eval/distil-other-row"]
    assert notes["distil-other-row"]["stages"] == other
    for name in ("distil-rl", "distil-rl-pause"):
        own = ["collect/traces", f"sft/{name}", f"rl/{name}"]
        assert notes[name]["stages"] == [*own, f"eval/{name}"]
    own = ["collect/traces", "sft/distil-rl", "rl/distil-rl", "eval/distil-rl-other-row"]
    assert notes["distil-rl-other-row"]["stages"] == own
    first = yaml.safe_load((run / "sft" / "distil-rl" / "config.yaml").read_text())["settings"]
    assert first["method"] == "distil" and first["model"].endswith("base/model")
    assert notes["distil-lp"]["stages"] == [*shared, "sft/distil", "rl/distil-lp", "eval/distil-lp"]
    kept = yaml.safe_load((run / "sft" / "distil" / "config.yaml").read_text())["settings"]
    assert kept["model"] == str(run / "rl" / "rl" / "model") and kept["method"] == "distil"
    # the second of two steps takes two passes; the pause's rows are the same
    trained = [cost.read(run / "sft" / name).training_tokens for name in ("distil", "distil-pause")]
    assert trained[0] == pytest.approx(1.5 * trained[1], abs=1) and trained[1]
    pairs = files.read_json(tmp_path / "run" / "comparison.json")["pairs"]
    asked = {(p["a"], p["b"]) for p in pairs if p["metric"] == "accuracy"}
    assert {("distil", "distil-pause"), ("distil", "distil-other-row"), ("distil", "rl")} <= asked
    assert {("distil", "distil-pause-told"), ("distil", "distil-words")} <= asked
    assert {("distil-rl", f"distil-rl-{control}") for control in ("pause", "other-row")} <= asked
    assert ("distil", "distil-rl-other-row") not in asked


def test_brief_thoughts_come_from_short_reasoning_that_was_pruned(tmp_path):
    """RL, RL with the penalty from there, traces of that policy, pruned; the controls share them."""
    names = ("rl", "rl-longer", "brief-rl", "brief-whole", "brief", "brief-words", "brief-pause")
    names = (*names, "brief-whole-pause", "brief-other-row")
    names = (*names, "brief-whole-pause-told", "brief-pause-told")
    compare(CompareConfig(**settings(tmp_path, arms=names, seeds=(0,))))
    run = tmp_path / "run" / "seed-0"
    notes = {name: files.read_json(run / "arms" / f"{name}.json") for name in names}
    assert {name: note["status"] for name, note in notes.items()} == dict.fromkeys(names, "done")
    whole = ["rl/rl", "rl/brief-rl", "collect/brief-whole", "sft/brief-whole"]
    shared = ["rl/rl", "rl/brief-rl", "collect/brief"]
    assert notes["rl-longer"]["stages"] == ["rl/rl", "rl/rl-longer", "eval/rl-longer"]
    assert notes["brief-rl"]["stages"] == [*shared[:2], "eval/brief-rl"]
    assert notes["brief-whole"]["stages"] == [*whole, "eval/brief-whole"]
    assert notes["brief"]["stages"] == [*whole, "collect/brief", "sft/brief", "eval/brief"]
    assert notes["brief-words"]["stages"] == [*shared, "sft/brief-words", "eval/brief-words"]
    pause = [*whole[:3], "sft/brief-whole-pause"]
    assert notes["brief-whole-pause"]["stages"] == [*pause, "eval/brief-whole-pause"]
    pause += ["collect/brief", "sft/brief-pause", "eval/brief-pause"]
    assert notes["brief-pause"]["stages"] == pause
    pause = [*whole[:3], "sft/brief-whole-pause-told", "collect/brief", "sft/brief-pause-told"]
    assert notes["brief-pause-told"]["stages"] == [*pause, "eval/brief-pause-told"]
    other = [*whole, "collect/brief", "sft/brief", "eval/brief-other-row"]
    assert notes["brief-other-row"]["stages"] == other

    def told(place: str) -> dict:
        return yaml.safe_load((run / place / "config.yaml").read_text())["settings"]

    for name, penalty in (("brief-rl", "correct_only"), ("rl-longer", "none")):
        assert told(f"rl/{name}")["model"] == str(run / "rl" / "rl" / "model")
        assert told(f"rl/{name}")["trainer"].get("length_penalty", "none") == penalty
    assert told("collect/brief")["prune"] == 1.0 and told("collect/brief-whole")["prune"] is None
    for name in ("brief-whole", "brief-whole-pause"):
        assert told(f"sft/{name}")["model"] == str(run / "rl" / "brief-rl" / "model")
        whole_traces = run / "collect" / "brief-whole" / "traces.jsonl"
        assert told(f"sft/{name}")["traces"] == str(whole_traces)
    for name in ("brief-whole-pause", "brief-pause"):
        assert told(f"sft/{name}")["projector"] == "pause"
        one = told(f"sft/{name}-told")
        assert (one["projector"], one["method"]) == ("pause-told", "distil")
    for name, start in (
        ("brief", "sft/brief-whole"),
        ("brief-words", "rl/brief-rl"),
        ("brief-pause", "sft/brief-whole-pause"),
        ("brief-pause-told", "sft/brief-whole-pause-told"),
    ):
        assert told(f"sft/{name}")["model"] == str(run / start / "model")
        assert told(f"sft/{name}")["traces"] == str(run / "collect" / "brief" / "traces.jsonl")
    pairs = files.read_json(tmp_path / "run" / "comparison.json")["pairs"]
    asked = {p["b"] for p in pairs if p["a"] == "brief" and p["metric"] == "accuracy"}
    assert asked == {*names} - {"brief", *(name for name in names if "whole" in name)}


def test_a_variant_is_its_arm_under_other_settings(tmp_path):
    told = {
        "arms": ("rl", "quick"),
        "seeds": (0,),
        "changes": {"rl": {"rl": {"max_steps": 2, "learning_rate": 1e-4}}},
        "variants": {"quick": {"arm": "rl", "title": "Hurried", "rl": {"max_steps": 1}}},
    }
    config = CompareConfig(**settings(tmp_path, **told))
    compare(config)
    run = tmp_path / "run"
    for name, steps in (("rl", 2), ("quick", 1)):
        path = run / "seed-0" / "rl" / name
        kept = yaml.safe_load((path / "config.yaml").read_text())["settings"]
        assert kept["trainer"]["max_steps"] == steps and kept["trainer"]["learning_rate"] == 1e-4
    found = files.read_json(run / "comparison.json")
    assert found["arms"]["quick"]["title"] == "Hurried"
    assert found["arms"]["quick"]["trains"] == ARMS["rl"].trains
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [("quick", "rl")] * 3
    assert [arm.name for arm in chosen(["quick"], config.known())] == ["rl", "quick"]


def test_arms_and_variants_may_follow_but_not_change(tmp_path):
    told = {"arms": ("direct",), "seeds": (0,)}
    compare(CompareConfig(**settings(tmp_path, **told)))
    slow = {"slow": {"arm": "direct", "eval": {"batch_size": 3}}}
    more = settings(tmp_path, arms=("direct", "slow"), seeds=(0,), variants=slow)
    compare(CompareConfig(**more))
    changed = dict(more, variants={"slow": {"arm": "direct", "eval": {"batch_size": 2}}})
    with pytest.raises(
        ConfigError, match=r"'slow' is done under seed 0.*'batch_size': 3.*another name"
    ) as error:
        compare(CompareConfig(**changed))
    seed = tmp_path / "run" / "seed-0"
    assert str(error.value).endswith(f"rm -r {seed}/eval/slow {seed}/arms/slow.json")
    with pytest.raises(ConfigError, match="'direct' is done under seed 0"):
        compare(
            CompareConfig(
                **settings(tmp_path, **told, changes={"direct": {"eval": {"batch_size": 1}}})
            )
        )
    with pytest.raises(ConfigError, match="begun with other settings"):
        compare(CompareConfig(**settings(tmp_path, **told, task_options={"events": 5})))


def test_what_came_of_a_model_is_not_kept_when_that_is_trained_again(tmp_path):
    """The refusal names all that came of it, and its command makes the way free."""
    told = settings(tmp_path, arms=("rl", "rl-longer", "direct"), seeds=(0,))
    compare(CompareConfig(**told))
    seed = tmp_path / "run" / "seed-0"
    changed = told | {"changes": {"rl": {"rl": {"learning_rate": 0.5}}}}
    with pytest.raises(ConfigError, match="'rl' is done under seed 0, but was told") as error:
        compare(CompareConfig(**changed))
    command = shlex.split(str(error.value).rsplit(": ", 1)[1])
    gone = ["rl/rl", "eval/rl", "rl/rl-longer", "eval/rl-longer"]
    gone += ["arms/rl.json", "arms/rl-longer.json"]
    assert command == ["rm", "-r", *(str(seed / place) for place in gone)]
    before = {place: seed / place / "summary.json" for place in ("eval/direct", "eval/rl-longer")}
    made = {place: path.stat().st_mtime_ns for place, path in before.items()}
    # only that arm's own things are deleted, as if by hand
    for place in ("rl/rl", "eval/rl"):
        shutil.rmtree(seed / place)
    (seed / "arms" / "rl.json").unlink()
    with pytest.raises(DataError, match="1 of 3 arms failed under some seed: rl-longer"):
        compare(CompareConfig(**changed))
    reason = files.read_json(seed / "arms" / "rl-longer.json")["reason"]
    assert f"{seed}/rl/rl-longer was begun with another model directory" in reason
    note = files.read_json(seed / "arms" / "rl-longer.json")
    stages = ["rl/rl", "rl/rl-longer", "eval/rl-longer"]
    files.write_json(seed / "arms" / "rl-longer.json", note | {"status": "done", "stages": stages})
    with pytest.raises(ConfigError, match="rl-longer was made from another model dir") as error:
        compare(CompareConfig(**changed))
    command = shlex.split(str(error.value).rsplit(": ", 1)[1])
    gone = ["rl/rl-longer", "eval/rl-longer", "arms/rl-longer.json"]
    assert command == ["rm", "-r", *(str(seed / place) for place in gone)]
    subprocess.run(command, check=True)
    compare(CompareConfig(**changed))
    assert made["eval/direct"] == before["eval/direct"].stat().st_mtime_ns
    assert made["eval/rl-longer"] != before["eval/rl-longer"].stat().st_mtime_ns


def test_the_config_says_what_all_calls_asked_for(tmp_path, capsys):
    slow = {"slow": {"arm": "direct", "eval": {"batch_size": 3}}}
    changes = {"base": {"eval": {"batch_size": 5}}}
    told = settings(tmp_path, arms=("base",), seeds=(0, 1), changes=changes)
    compare(CompareConfig(**told))
    compare(CompareConfig(**settings(tmp_path, arms=("slow",), seeds=(0,), variants=slow)))
    assert "are of seeds [0] now; before, also of [1]" in " ".join(capsys.readouterr().err.split())
    path = tmp_path / "run" / "config.yaml"
    found = yaml.safe_load(path.read_text())["settings"]
    assert (found["arms"], found["seeds"]) == (["base", "slow"], [0, 1])
    assert (found["changes"], found["variants"]) == (changes, slow)
    assert found["eval"] == told["eval"]


def test_arms_of_an_earlier_call_that_never_ran_are_named_and_left_out(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    files.write_json(run / "arms.json", {"coconut": {"title": "COCONUT"}})
    compare(CompareConfig(**settings(tmp_path, arms=("direct",), seeds=(0,))))
    assert "and left out: coconut" in " ".join(capsys.readouterr().err.split())
    assert list(files.read_json(run / "comparison.json")["arms"]) == ["direct"]


def test_variants_that_no_one_asked_for_are_named(tmp_path, capsys):
    slow = {"slow": {"arm": "direct", "eval": {"batch_size": 3}}}
    compare(CompareConfig(**settings(tmp_path, arms=("direct",), seeds=(0,), variants=slow)))
    assert "and that do not run: slow" in " ".join(capsys.readouterr().err.split())
    assert list(files.read_json(tmp_path / "run" / "comparison.json")["arms"]) == ["direct"]


def test_fewer_arms_may_have_more_seeds(tmp_path, capsys):
    compare(CompareConfig(**settings(tmp_path, arms=("base", "direct"), seeds=(0,))))
    compare(CompareConfig(**settings(tmp_path, arms=("direct",), seeds=(0, 1))))
    assert "and left out: base" in " ".join(capsys.readouterr().err.split())
    found = files.read_json(tmp_path / "run" / "comparison.json")
    assert (list(found["arms"]), found["seeds"]) == (["direct"], [0, 1])
    compare(CompareConfig(**settings(tmp_path, arms=("base", "direct"), seeds=(0,))))
    found = files.read_json(tmp_path / "run" / "comparison.json")
    assert (list(found["arms"]), found["seeds"]) == (["base", "direct"], [0])


def test_an_evaluation_that_was_lost_is_made_again(tmp_path):
    told = settings(tmp_path, arms=("base", "direct"), seeds=(0,))
    compare(CompareConfig(**told))
    lost = tmp_path / "run" / "seed-0" / "eval" / "base" / "summary.json"
    before = files.read_json(lost)
    lost.unlink()
    compare(CompareConfig(**told))
    assert files.read_json(lost)["accuracy"] == before["accuracy"]


def test_a_comparison_in_which_all_failed_has_a_page_and_says_so(tmp_path, monkeypatch):
    class Broken(type(module.ARMS["direct"])):
        def run(self, bench):
            if not bench.dry:
                raise DataError("no luck today")
            super().run(bench)

    monkeypatch.setitem(module.ARMS, "direct", Broken())
    with pytest.raises(DataError, match="all arms failed"):
        compare(CompareConfig(**settings(tmp_path, arms=("direct",), seeds=(0,))))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "no luck today" in page and "<dt>Task</dt><dd>stories</dd>" in page


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ({"variants": {"v": "distil"}}, "variant 'v' is 'distil'"),
        ({"variants": {"v": {"arm": "rl", "rl": 3}}}, "variant 'v', rl: got 3"),
        ({"variants": {"v": {"arm": ["rl"]}}}, "arm is ['rl']"),
        ({"variants": {"v": {"arm": "rl", "against": "v"}}}, "against is 'v'"),
        ({"variants": {"v": {"arm": "rl", "title": 3}}}, "title is 3"),
        ({"variants": {5: {"arm": "base"}}}, "variant 5"),
        ({"variants": {"all": {"arm": "base"}}}, "variant 'all' has the name of something else"),
        ({"variants": {"own": {"arm": "base"}}}, "variant 'own' has the name of something else"),
        ({"changes": {"distl": {}}}, "Did you mean distil?"),
        ({"variants": {"v": {"arm": "distl"}}}, "Did you mean distil?"),
        ({"arms": ("",)}, "--arms is empty"),
        ({"changes": {"rl": 3}}, "changes of 'rl': got 3"),
        ({"changes": {"rl": {"rl": None}}}, "changes of 'rl', rl: got None"),
        (
            {"changes": {"rl": {"sft": {"limit": 3}}}},
            "told 'sft' options, and has no such stage of its own; it has eval, rl",
        ),
        (
            {"arms": ("distil-pause",), "changes": {"distil-pause": {"collect": {"limit": 3}}}},
            "told 'collect' options, and has no such stage of its own",
        ),
        ({"changes": {"rl": {"eval": {"limit": 4}}}}, "judged with limit 4 and 'base' with 6"),
        ({"changes": {"rl": {"eval": {"seed": 7}}}}, "seed is 7, but the comparison chooses it"),
        ({"eval": {"limit": 6, "name": "x"}}, "name is 'x', but the comparison chooses it"),
        ({"arms": ()}, "--arms is empty"),
        ({"seeds": ("a", "b")}, "--seeds is ('a', 'b')"),
        ({"base": {"steps": "many"}}, "--steps is 'many'; expected int"),
        ({"base": {"steps": -3}}, "steps is -3; expected at least 1"),
        ({"base": {"styles": {"loud": 1}}}, "expected a share for some of"),
        ({"base": None, "model": "/no/such/model"}, "a path that does not exist"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_runs(tmp_path, told, what):
    with pytest.raises(LiteReasonError) as error:
        compare(CompareConfig(**settings(tmp_path, arms=("base", "rl")) | told))
    assert what in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_variant_may_be_held_against_another_arm(tmp_path):
    other = {"again": {"arm": "direct", "against": "base", "eval": {"batch_size": 3}}}
    config = CompareConfig(**settings(tmp_path, arms=("again",), seeds=(0,), variants=other))
    assert [arm.name for arm in chosen(config.arms, config.known())] == ["base", "again"]
    compare(config)
    found = files.read_json(tmp_path / "run" / "comparison.json")["pairs"]
    assert {p["b"] for p in found if p["a"] == "again"} == {"base"}


def test_arms_that_are_needed_come_along():
    assert [arm.name for arm in chosen(["litereason-zeros"])] == ["litereason", "litereason-zeros"]
    assert [arm.name for arm in chosen(["all"])] == list(ARMS)


def test_list_arms(capsys):
    assert main(["compare", "--list-arms"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ARMS)


def test_another_model_or_reward_under_the_same_name_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from litereason.tasks.stories import StoriesTask\n\n\nclass Mine(StoriesTask):\n    bonus = 0\n"
    )
    first = settings(tmp_path, arms=("base",), seeds=(0,), task=f"{tmp_path}/mine.py:Mine")
    compare(CompareConfig(**first))
    more = CompareConfig(**first | {"arms": ("base", "direct")})
    asked = tmp_path / "run" / "config.yaml"
    begun = asked.read_text()
    weights = tmp_path / "run" / "base" / "model" / "model.safetensors"
    was = weights.read_bytes()
    weights.write_bytes(was[:-4] + bytes(4))
    with pytest.raises(ConfigError, match="begun with another model"):
        compare(more)
    weights.write_bytes(was)
    code = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(code.replace("bonus = 0", "bonus = 1"))
    with pytest.raises(ConfigError, match="begun with another data, task or reward file"):
        compare(more)
    (tmp_path / "mine.py").write_text(code)
    assert asked.read_text() == begun  # a call that was refused asked for nothing
    asked.write_text("a: [")
    with pytest.raises(DataError, match=r"config\.yaml is broken.* Put it back as it was, or"):
        compare(more)
    asked.unlink()
    with pytest.raises(ConfigError, match=r"config\.yaml is missing"):
        compare(more)
    asked.write_text(begun)
    compare(more)


def test_a_moved_run_goes_on_in_its_new_place(tmp_path):
    compare(CompareConfig(**settings(tmp_path, arms=("base", "rl"), seeds=(0,))))
    (tmp_path / "run").rename(tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "seed-0" / "eval" / "rl")
    told = settings(tmp_path, arms=("base", "rl"), seeds=(0,), run_dir=str(tmp_path / "other"))
    assert compare(CompareConfig(**told)) == tmp_path / "other" / "report.html"
    found = files.read_json(tmp_path / "other" / "comparison.json")["arms"]
    assert found["rl"]["status"] == "done"


def test_a_config_is_a_recipe(tmp_path, capsys):
    """What the page shows as the command that repeats a stage, and all of it."""
    compare(CompareConfig(**settings(tmp_path, arms=("direct",), seeds=(0,))))
    run = tmp_path / "run"
    page = (run / "report.html").read_text()
    for place, stage in (("seed-0/eval/direct/config.yaml", "eval"), ("config.yaml", "compare")):
        words = f"litereason {stage} --config {run}/{place}"
        assert words in page
        again = [*words.split()[1:], "--run_dir", str(tmp_path / stage)]
        assert main(again) == 0
    before, *others = (
        (home / "eval/direct/records.jsonl").read_text()
        for home in (run / "seed-0", tmp_path / "eval", tmp_path / "compare" / "seed-0")
    )
    assert others == [before, before]


def test_a_curriculum_that_no_model_takes_is_refused_before_anything_runs(tmp_path):
    told = {"coconut": {"sft": {"method_options": {"stages": 40}}}}
    with pytest.raises(ConfigError, match="at most 32"):
        compare(CompareConfig(**settings(tmp_path, arms=("coconut",), changes=told)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "broken", [{"stages": [1]}, {"stages": ["eval"]}, {"cost": {"flops": "x"}}]
)
def test_a_broken_note_says_what_to_do(tmp_path, broken):
    compare(CompareConfig(**settings(tmp_path, arms=("direct",), seeds=(0,))))
    note = tmp_path / "run" / "seed-0" / "arms" / "direct.json"
    files.write_json(note, files.read_json(note) | broken)
    for text in (None, "{"):
        if text:
            files.write_text(note, text)
        with pytest.raises(DataError, match=f"{note} is broken .*Delete it"):
            compare(CompareConfig(**settings(tmp_path, arms=("direct",), seeds=(0,))))


def test_the_recipe_is_sound(monkeypatch, tmp_path):
    """Every arm's stages take what the recipe says, on both styles of traces."""
    seen = []
    monkeypatch.setattr(module, "open_stage", lambda run, config: seen.append(config) or 1 / 0)
    recipe = str(Path(__file__).parents[1] / "recipes" / "compare_demo.yaml")
    verbose = ["--base.styles", "{verbose: 0.9, hunch: 0.1}"]
    for words, styles in (
        ([], {"delta": 0.9, "hunch": 0.1}),
        (verbose, {"verbose": 0.9, "hunch": 0.1}),
    ):
        with pytest.raises(ZeroDivisionError):
            main(["compare", "--config", recipe, "--run_dir", str(tmp_path), *words])
        assert seen[-1].lessons().styles == styles
        assert seen[-1].eval["limit"] >= 1000 and len(seen[-1].seeds) >= 3


def test_the_research_recipe_is_sound(monkeypatch, tmp_path):
    """Every variant's stages take what it changes; each names a hypothesis of docs/research.md."""
    seen = []
    monkeypatch.setattr(module, "open_stage", lambda run, config: seen.append(config) or 1 / 0)
    home = Path(__file__).parents[1]
    for recipe in ("compare_demo", "research"):
        with pytest.raises(ZeroDivisionError):
            path = str(home / "recipes" / f"{recipe}.yaml")
            main(["compare", "--config", path, "--run_dir", str(tmp_path / recipe)])
    demo, config = seen
    schedule = ("lr_scheduler_type", "lr_scheduler_kwargs")  # found later
    for name in ("brief-rl", "brief-whole", "brief", "brief-whole-pause", "brief-pause"):
        there, here = (found.changes[name] for found in (demo, config))  # tested here, judged there
        for stage in here:
            kept = {k: v for k, v in there[stage].items() if k not in schedule}
            assert kept == here[stage], (name, stage)
    assert config.eval["split"] == "validation" and len(config.seeds) >= 3
    plan = (home / "docs" / "research.md").read_text()
    for name in config.variants:
        assert f"`{name}`" in plan, name
        assert name in config.arms
    told = config.changes_of("words-5")["sft"]
    assert (
        told["ratio"] == 0.2 and told["max_steps"] == config.changes["distil"]["sft"]["max_steps"]
    )
