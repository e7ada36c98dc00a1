"""attach, load, save: any Hugging Face causal LM gains latent steps, in place.

Two mixins go in front of the model's own classes. `LatentBackbone` goes over the backbone
(`LlamaModel`...), because that is what every caller passes through, fused heads included: it replaces
the input embedding of each latent slot by P(last hidden state of the position before).
`LatentCausalLM` goes over the language model and makes `generate` honour tags. Parameter names, PEFT
targets and tied weights stay as they were; the projector is one more module, `latent_projector`.

How a forward with latent slots is cut into passes is in `latent_forward.py`; how it is trained, in
`sft.py` and `grpo.py`.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from litereason import files, latent_forward
from litereason.cache import hidden_states_of
from litereason.config import LatentConfig
from litereason.errors import LatentError, ModelError
from litereason.generation import latent_processors
from litereason.projector import Projector, build_projector
from litereason.tags import Tags

LATENT_TOKEN = "<|latent|>"
# Tokens that published tokenizers reserve and nobody writes; the first that exists is used.
RESERVED = re.compile(r"<\|?(latent|reserved_special_token_\d+|unused_?\d+|empty_output)\|?>")


class LatentBackbone:
    """Mixin over a backbone: `forward` fills latent slots. Installed by `attach` or `load`."""

    latent_token_id: int
    # False while a policy gradient is taken: latents are then constants (METHOD, stage 3).
    latent_gradients: bool = True
    # Latents so far that no norm can take: not finite, or as good as.
    latents_out_of_range: int = 0

    def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:
        base = super().forward  # pyright: ignore[reportAttributeAccessIssue]
        if input_ids is None:
            return base(**kwargs)
        latent = input_ids == self.latent_token_id
        if not bool(latent.any()):
            output = self._plain(base, input_ids, kwargs)
        elif input_ids.shape[1] == 1 and has_past(kwargs.get("past_key_values")):
            embeds = latent_forward.embed(self, input_ids)
            previous = hidden_states_of(kwargs["past_key_values"]).last()
            embeds = latent_forward.put_latents(self, embeds, latent, previous)
            output = base(**{**kwargs, "inputs_embeds": embeds})
        else:
            return latent_forward.run(self, base, input_ids, latent, kwargs)
        if output.past_key_values is not None:
            hidden_states_of(output.past_key_values).append(output.last_hidden_state)
        return output

    def _plain(self, base: Any, input_ids: torch.Tensor, kwargs: dict[str, Any]) -> Any:
        """No latent slot. In training the projector stays in the graph, for DDP and frozen bases."""
        projector: Any = self.latent_projector  # pyright: ignore[reportAttributeAccessIssue]
        training = self.training and torch.is_grad_enabled()  # pyright: ignore[reportAttributeAccessIssue]
        if not training or not any(p.requires_grad for p in projector.parameters()):
            return base(input_ids=input_ids, **kwargs)
        embeds = latent_forward.embed(self, input_ids)
        embeds = embeds + 0.0 * projector(embeds[:1, :1]).sum()
        return base(**{**kwargs, "inputs_embeds": embeds})


class LatentCausalLM:
    """Mixin over a causal LM: `generate` interleaves latent and discrete steps."""

    latent_tags: Tags

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)  # pyright: ignore[reportCallIssue]
        settings = LatentConfig.from_dict(config.litereason)
        _install(self, settings, build_projector(settings.projector, self, settings.depth))

    @property
    def latent_config(self) -> LatentConfig:
        """The settings that are saved with the model."""
        return LatentConfig.from_dict(self.config.litereason)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def latent_projector(self) -> Any:
        """The Reasoning Projector."""
        return backbone(self).latent_projector

    def generate(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `transformers`' `generate`; the latent id is never sampled and forced while owed."""
        if inputs is None and kwargs.get("input_ids") is None:
            raise LatentError(
                "generate() was called without input ids; latent steps are found by reading them. "
                "Pass input_ids (not inputs_embeds)"
            )
        kwargs["logits_processor"] = latent_processors(
            self.latent_tags, kwargs.get("logits_processor")
        )
        return super().generate(inputs, *args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def prepare_inputs_for_generation(
        self, input_ids: Any, past_key_values: Any = None, **kwargs: Any
    ) -> Any:
        """As the model's own; a ready-made cache gets its layer of hidden states first.

        With it the cache is no longer one that `generate` would compile for, so that the attention
        mask stays the plain one that latent slots need.
        """
        if past_key_values is not None and past_key_values.layers:
            hidden_states_of(past_key_values)
        return super().prepare_inputs_for_generation(  # pyright: ignore[reportAttributeAccessIssue]
            input_ids, past_key_values=past_key_values, **kwargs
        )


def attach(model: Any, tokenizer: Any, config: LatentConfig | None = None) -> Any:
    """Give a causal LM latent steps, in place, and return it.

    Args:
        model: any Hugging Face causal LM.
        tokenizer: its tokenizer; a latent token is added to it if there is a free embedding row.
        config: what a latent step is; the default is the paper's projector.

    Raises:
        ModelError: no usable special token, a tokenizer of another model, or latent steps already
            attached.
    """
    if has_latents(model):
        raise ModelError("this model already has latent steps; attach() is called once")
    if not (isinstance(model, PreTrainedModel) and model.can_generate()):
        raise ModelError(f"expected a Hugging Face causal LM, got {type(model).__name__}")
    if model.config.is_encoder_decoder:
        raise ModelError("encoder-decoder models have no single backbone; use a causal LM")
    config = config or LatentConfig()
    projector = build_projector(config.projector, model, config.depth)  # fails before any change
    config = reserve_latent_token(model, tokenizer, config)
    model.config.litereason = config.to_dict()
    projector.start_from(model)
    _install(model, config, projector)
    model.latent_tags = Tags(tokenizer, config)  # pyright: ignore[reportArgumentType]
    return model


def load(path: str | Path, **kwargs: Any) -> tuple[Any, Any]:
    """Load a model and its tokenizer; a LiteReason checkpoint comes back with its latent steps.

    Args:
        path: a local directory, a hub id, or a name that `litereason get` knows.
        kwargs: passed to `from_pretrained` (`dtype`, `device_map`, `revision`...).

    Raises:
        ModelError: no such model, or a checkpoint without its projector.
    """
    from litereason.models import resolve

    name = resolve(str(path))
    where = {k: kwargs[k] for k in ("revision", "token", "cache_dir") if k in kwargs}
    try:
        config = AutoConfig.from_pretrained(name, **where)
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", **where)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load a model from {name!r}: {error}") from error
    if tokenizer.pad_token is None:  # Llama 3, GPT-2: padding is masked, so any token serves
        tokenizer.pad_token = tokenizer.eos_token
    if not getattr(config, "litereason", None):
        model, _ = _from_pretrained(AutoModelForCausalLM, name, config, kwargs)
        check_match(model, tokenizer)
        return model.eval(), tokenizer
    base: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    latent_class: Any = with_latents(base, LatentCausalLM)
    model, report = _from_pretrained(latent_class, name, config, kwargs)
    check_match(model, tokenizer)
    settings = model.latent_config
    if tokenizer.convert_tokens_to_ids(settings.latent_token) != settings.latent_token_id:
        raise ModelError(
            f"the tokenizer beside {name!r} does not have {settings.latent_token!r} at id "
            f"{settings.latent_token_id}; use the one that was saved with the model"
        )
    if lost := [key for key in report["missing_keys"] if "latent_projector" in key]:
        raise ModelError(f"{name!r} names a projector but lacks its weights, e.g. {lost[0]!r}")
    model.latent_tags = Tags(tokenizer, model.latent_config)
    return model.eval(), tokenizer


def _from_pretrained(kind: Any, name: str, config: Any, kwargs: dict[str, Any]) -> Any:
    """(model, loading report); anything wrong with the weights is a `ModelError`."""
    try:
        return kind.from_pretrained(name, config=config, output_loading_info=True, **kwargs)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the weights of {name!r}: {error}") from error


def save(model: Any, path: str | Path, tokenizer: Any = None) -> Path:
    """Write a full checkpoint, whole or not at all; plain transformers can open it too.

    Args:
        model: a model with or without latent steps.
        path: the directory to make; an older one of that name is replaced.
        tokenizer: needed only for a model without latent steps.
    """
    if tokenizer is None and not has_latents(model):
        raise ModelError(
            "a model without latent steps does not know its tokenizer: pass tokenizer="
        )
    tokenizer = tokenizer or model.latent_tags.tokenizer
    with files.new_directory(path) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return Path(path)


@contextlib.contextmanager
def constant_latents(model: Any) -> Iterator[None]:
    """Within it, latents are constants: gradients reach the policy, not the projector."""
    spine = backbone(model)
    before = getattr(spine, "latent_gradients", True)
    spine.latent_gradients = False
    try:
        yield
    finally:
        spine.latent_gradients = before


def has_latents(model: Any) -> bool:
    """Whether latent steps are attached."""
    return isinstance(model, LatentCausalLM)


def backbone(model: Any) -> Any:
    """The transformer under the LM head (`LlamaModel`...)."""
    return model.base_model


def has_past(cache: Any) -> bool:
    """Whether a KV cache holds any position."""
    return cache is not None and cache.get_seq_length() > 0


def with_latents(base: type, mixin: type) -> type:
    """A class like `base` with `mixin` in front. Keeps the name, which checkpoints record."""
    return type(base.__name__, (mixin, base), {"__module__": base.__module__})


def _install(model: Any, config: LatentConfig, projector: Projector) -> None:
    spine = backbone(model)
    spine.latent_projector = projector
    spine.latent_token_id = config.latent_token_id
    spine.__class__ = with_latents(type(spine), LatentBackbone)
    if not isinstance(model, LatentCausalLM):
        model.__class__ = with_latents(type(model), LatentCausalLM)


def check_match(model: Any, tokenizer: Any) -> int:
    """Check that tokenizer and model belong together; return the number of embedding rows.

    Raises:
        ModelError: the tokenizer has more tokens than the model has rows, or far fewer.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    size = len(tokenizer)
    if size > rows or rows > 1.25 * size + 256:
        raise ModelError(
            f"the tokenizer has {size} tokens but the model embeds {rows}; "
            "load both from the same checkpoint"
        )
    return rows


def reserve_latent_token(model: Any, tokenizer: Any, config: LatentConfig) -> LatentConfig:
    """Choose the token that marks latent slots, adding it where the embeddings have a free row.

    Raises:
        ModelError: no reserved token and no free row, or a `latent_token` that text can hold.
    """
    rows = check_match(model, tokenizer)
    vocabulary = tokenizer.get_vocab()
    name = config.latent_token
    if name is None:
        reserved = sorted(filter(RESERVED.fullmatch, tokenizer.get_added_vocab()))
        name = reserved[0] if reserved else LATENT_TOKEN
    if name not in vocabulary and max(vocabulary.values()) + 1 < rows:
        tokenizer.add_special_tokens(
            {"extra_special_tokens": [name]}, replace_extra_special_tokens=False
        )
        vocabulary = tokenizer.get_vocab()
    if name not in vocabulary:
        raise ModelError(
            f"the tokenizer has no reserved token for latent slots and the model no free embedding "
            f"row ({rows} rows, {len(tokenizer)} tokens). Name an unused special token with "
            "LatentConfig(latent_token=...), or call model.resize_token_embeddings("
            f"{rows + 1}) first"
        )
    token_id = vocabulary[name]
    taken = {"pad": tokenizer.pad_token_id, "eos": tokenizer.eos_token_id}
    taken |= {"bos": tokenizer.bos_token_id, "unk": tokenizer.unk_token_id}
    if token_id in taken.values() or name not in tokenizer.get_added_vocab():
        use = next((k for k, v in taken.items() if v == token_id), "an ordinary word")
        raise ModelError(
            f"latent_token {name!r} (id {token_id}) is {use}; expected a special token that nothing "
            "else uses"
        )
    values = config.to_dict() | {"latent_token": name, "latent_token_id": token_id}
    return LatentConfig.from_dict(values)
