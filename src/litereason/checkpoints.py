"""load and save: checkpoints of models with latent steps.

Three kinds, each whole or absent on disk, each opened by `load`:

- full: as transformers writes it, the projector in the same safetensors (plain transformers opens it
  too, as the plain model);
- projector only: a few MB, and the name, revision and fingerprint of the base;
- adapter: what PEFT writes for LoRA and its kin, the projector beside it.

What is left out: intermediate checkpoints of a training run, which are the Trainer's.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import cached_file

from litereason import files, model_card
from litereason.config import LatentConfig
from litereason.errors import ConfigError, DataError, ModelError
from litereason.extras import need
from litereason.fingerprint import fingerprint, same_base
from litereason.model import (
    LatentCausalLM,
    causal_lm,
    detach,
    has_latents,
    install,
    projector_of,
    with_latents,
)
from litereason.projector import PROJECTORS, build_projector
from litereason.reserved_token import check_match
from litereason.tags import Tags

SETTINGS = "litereason.json"
WEIGHTS = "projector.safetensors"
ADAPTER = "adapter_config.json"
# What transformers raises on files that are missing, cut or hold something else.
BROKEN = (OSError, ValueError, TypeError, AttributeError, KeyError)


def load(path: str | Path, base: str | Path | None = None, **kwargs: Any) -> tuple[Any, Any]:
    """Load a model and its tokenizer; a LiteReason checkpoint comes back with its latent steps.

    Args:
        path: a local directory, a hub id, or a name that `litereason get` knows.
        base: for a projector or adapter checkpoint, where its base is now; default: where it was.
        kwargs: passed to the model's `from_pretrained` (`dtype`, `device_map`, `revision`...); and
            `is_trainable=True`, to train an adapter on.

    Raises:
        ModelError: no such model, a checkpoint without its projector, or a base that is not the one
            that the projector was trained on.
    """
    where = {k: kwargs[k] for k in ("revision", "token", "cache_dir") if k in kwargs}
    if (settings := _settings_file(str(path), where)) is not None:
        return _load_on_base(settings.parent, base, kwargs)
    if base is not None:
        raise ModelError(f"{str(path)!r} is a full model, which has no base to be loaded on")
    from litereason.models import resolve

    name = resolve(str(path))
    try:
        config = AutoConfig.from_pretrained(name, **where)
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", **where)
    except BROKEN as error:
        raise ModelError(f"cannot load a model from {name!r}: {error}") from error
    if tokenizer.pad_token is None:  # Llama 3, GPT-2: padding is masked, so any token serves
        tokenizer.pad_token = tokenizer.eos_token
    if not getattr(config, "litereason", None):
        model, _ = _from_pretrained(AutoModelForCausalLM, name, config, kwargs)
        check_match(model, tokenizer)
        model.loaded_as = _origin(str(path), where)
        return model.eval(), tokenizer
    base_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    latent_class: Any = with_latents(base_class, LatentCausalLM)
    model, report = _from_pretrained(latent_class, name, config, kwargs)
    check_match(model, tokenizer)
    _check_latent_token(tokenizer, model.latent_config, name)
    if lost := [key for key in report["missing_keys"] if "latent_projector" in key]:
        raise ModelError(
            f"{name!r} names a projector but lacks its weights, e.g. {lost[0]!r}. Was it loaded and saved "
            "by plain transformers? Then take 'litereason' out of its config.json, or use "
            "litereason.load and litereason.save"
        )
    if more := [key for key in report["unexpected_keys"] if "latent_projector" in key]:
        raise ModelError(f"{name!r} holds more of a projector than its config names: {more[0]!r}")
    model.latent_tags = Tags(tokenizer, model.latent_config)
    return model.eval(), tokenizer


def to_own_device(model: Any) -> Any:
    """`model` on the GPU of this process, if there are any."""
    if torch.cuda.is_available():
        return model.to(torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))))
    return model


def save(
    model: Any,
    path: str | Path,
    tokenizer: Any = None,
    projector_only: bool = False,
    **kwargs: Any,
) -> Path:
    """Write a checkpoint, whole or not at all; `load` opens it.

    A PEFT model gives an adapter checkpoint, any other a full one, which plain transformers can open
    too.

    Args:
        model: a model with or without latent steps.
        path: the directory to make; an older one of that name is replaced.
        tokenizer: needed only for a model without latent steps.
        projector_only: write the projector alone, and which base it belongs to.
        kwargs: passed to `save_pretrained` (`max_shard_size`...).

    Raises:
        ModelError: no tokenizer, or `projector_only` for a base that was trained as well.
    """
    if tokenizer is None and not has_latents(model):
        raise ModelError(
            "a model without latent steps does not know its tokenizer: pass tokenizer="
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            "the adapter was added by model.add_adapter(), which saves it without its base; use "
            "peft.get_peft_model(model, config) instead"
        )
    if has_latents(model) and (projector_only or causal_lm(model) is not model):
        _check_base_untouched(model, projector_only)
    elif projector_only:
        raise ModelError("projector_only=True needs a model with latent steps; attach them first")
    _check_target(Path(path), model, projector_only)
    tokenizer = tokenizer or model.latent_tags.tokenizer
    peft = causal_lm(model) is not model
    with files.new_directory(path) as partial:
        if has_latents(model) and (projector_only or peft):
            settings = causal_lm(model).latent_config.to_dict()
            files.write_text(partial / SETTINGS, json.dumps(settings, indent=2) + "\n")
            save_file(_projector_state(model), partial / WEIGHTS)
        if not projector_only:
            model.save_pretrained(partial, **kwargs)
        tokenizer.save_pretrained(partial)
        if has_latents(model):
            (partial / "README.md").write_text(model_card.text(model), encoding="utf-8")
    return Path(path)


def _check_target(path: Path, model: Any, projector_only: bool) -> None:
    """Raise `ModelError` where writing would take away something that is not an older checkpoint."""
    if path.is_file():
        raise ModelError(f"{str(path)!r} is a file; name a directory to save to")
    marks = ("config.json", SETTINGS, ADAPTER)
    if path.is_dir() and any(path.iterdir()) and not any((path / m).is_file() for m in marks):
        raise ModelError(
            f"{str(path)!r} holds files but no checkpoint, and saving replaces the directory; name another"
        )
    small = projector_only or causal_lm(model) is not model
    if small and has_latents(model):
        base = (causal_lm(model).latent_config.base or {}).get("name")
        if base and path.resolve() == Path(base).resolve():
            raise ModelError(f"{str(path)!r} is the base itself, which would be lost; name another")


def _projector_state(model: Any) -> dict[str, Any]:
    """The projector's own weights, without the layers that PEFT may have put around them."""
    projector = projector_of(model)
    wrapped = [
        f"{name}." for name, module in projector.named_modules() if hasattr(module, "base_layer")
    ]
    state = {}
    for name, value in projector.state_dict().items():
        around = next((w for w in wrapped if name.startswith(w)), None)
        if around is None:
            state[name] = value.detach().contiguous()
        elif name.startswith(around + "base_layer."):
            state[name.replace(".base_layer.", ".")] = value.detach().contiguous()
    return state


def _settings_file(path: str, where: dict[str, Any]) -> Path | None:
    """The settings of a projector or adapter checkpoint; None for any other model."""
    if Path(path).is_dir():
        return Path(path) / SETTINGS if (Path(path) / SETTINGS).is_file() else None
    if "/" not in path or Path(path).exists():
        return None
    try:
        found = cached_file(path, SETTINGS, _raise_exceptions_for_missing_entries=False, **where)
    except (OSError, ValueError):  # no such repository, no network: said when the model is loaded
        return None
    if not found:
        return None
    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.txt"]
    options = {k: v for k, v in where.items() if v is not None}
    return Path(snapshot_download(path, allow_patterns=patterns, **options)) / SETTINGS


def _origin(path: str, where: dict[str, Any]) -> dict[str, str | None]:
    """Name of a plain model, and for a hub id the commit that was loaded."""
    if Path(path).is_dir():
        return {"name": str(Path(path).resolve()), "revision": None}
    revision = None
    if "/" in path:
        snapshot = Path(cached_file(path, "config.json", **where) or "").parent  # by now on disk
        revision = snapshot.name if snapshot.parent.name == "snapshots" else None
    return {"name": path, "revision": revision}


def _load_on_base(
    directory: Path, base: str | Path | None, kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    """A base, and on it the projector (and the adapter) of `directory`."""
    try:
        config = LatentConfig.from_dict(json.loads((directory / SETTINGS).read_text("utf-8")))
        if config.projector not in PROJECTORS:
            raise ConfigError(f"unknown projector {config.projector!r}")
        if config.base is not None and not {"dtype", "digest", "sketch"} <= set(config.base):
            raise TypeError(f"base is {config.base!r}; expected a fingerprint")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"cannot read {directory / SETTINGS}: {error}") from error
    known = config.base or {}
    options = {k: v for k, v in kwargs.items() if k not in ("revision", "is_trainable")}
    if base is None:
        base = known.get("name") or ""
        options["revision"] = known.get("revision") or "main"
    try:
        model, _ = load(base, **options)
    except ModelError as error:
        raise ModelError(
            f"{str(directory)!r} holds a projector only; its base {str(base)!r} cannot be loaded: "
            f"{error}. If the base is elsewhere now, pass base="
        ) from error
    if has_latents(model):
        detach(model)
    found = fingerprint(model)
    if known.get("digest") and not same_base(known, found):  # pyright: ignore[reportArgumentType]
        raise ModelError(
            f"the projector in {str(directory)!r} was trained on another base than {str(base)!r}: the "
            f"weights differ (digest {known['digest']} in {known['dtype']}, found {found['digest']} in "
            f"{found['dtype']}). Load it on {known.get('name')!r}, revision {known.get('revision')!r}"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    except BROKEN as error:
        raise ModelError(f"cannot load the tokenizer of {str(directory)!r}: {error}") from error
    _check_latent_token(tokenizer, config, str(directory))
    projector = build_projector(config.projector, model, config.depth)
    if str(model.dtype) in ("torch.bfloat16", "torch.float16"):
        projector.float()
    try:
        projector.load_state_dict(load_file(directory / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"cannot load {directory / WEIGHTS}: {error}") from error
    model.config.litereason = config.to_dict()
    install(model, config, projector.to(model.device))
    model.latent_tags = Tags(tokenizer, config)
    if (directory / "adapter_model.safetensors").is_file() and not (directory / ADAPTER).is_file():
        raise ModelError(f"{str(directory)!r} holds an adapter's weights but no {ADAPTER}")
    if (directory / ADAPTER).is_file():
        peft = need("peft", "peft")
        try:
            model = peft.PeftModel.from_pretrained(
                model, str(directory), is_trainable=kwargs.get("is_trainable", False)
            )
        except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
            raise ModelError(f"cannot load the adapter of {str(directory)!r}: {error}") from error
        if kwargs.get("is_trainable"):
            projector_of(model).requires_grad_(True)
    return model.eval(), tokenizer


def _from_pretrained(kind: Any, name: str, config: Any, kwargs: dict[str, Any]) -> Any:
    """(model, loading report); anything wrong with the weights is a `ModelError`."""
    try:
        return kind.from_pretrained(name, config=config, output_loading_info=True, **kwargs)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the weights of {name!r}: {error}") from error


def _check_latent_token(tokenizer: Any, config: LatentConfig, name: str) -> None:
    token = config.latent_token
    if token is None or tokenizer.convert_tokens_to_ids(token) != config.latent_token_id:
        raise ModelError(
            f"the tokenizer beside {name!r} does not have {config.latent_token!r} at id "
            f"{config.latent_token_id}; use the one that was saved with the model"
        )


def _check_base_untouched(model: Any, projector_only: bool) -> None:
    inner = causal_lm(model)
    if projector_only and inner is not model:
        raise ModelError("projector_only=True would lose the adapter; save without it")
    known = inner.latent_config.base
    if projector_only and known and not known.get("name"):
        raise ModelError(
            "projector_only=True needs a base that can be found again: this one was made or trained in "
            "this process. Save the full model; or save the base, load it and attach"
        )
    if not known or same_base(known, fingerprint(inner)):
        return
    if inner is not model:
        raise ModelError(
            "the adapter is on a policy that was trained before, which would be lost: the base is not "
            "what it was when latent steps were attached. Call merge_and_unload() and save the result"
        )
    if projector_only:
        raise ModelError(
            "projector_only=True would lose what the policy learned: the base is not what it was when "
            "latent steps were attached. Save the full model"
        )
