"""attach, detach: any Hugging Face causal LM gains latent steps, in place, and loses them again.

Two mixins go in front of the model's own classes. `LatentBackbone` goes over the backbone
(`LlamaModel`...), because that is what every caller passes through, fused heads included: it replaces
the input embedding of each latent slot by P(last hidden state of the position before).
`LatentCausalLM` goes over the language model and makes `generate` honour tags. Parameter names, PEFT
targets and tied weights stay as they were; the projector is one more module, `latent_projector`.

How a forward with latent slots is cut into passes is in `latent_forward.py`; how models are written
and read, in `checkpoints.py`; how they are trained, in `sft.py` and `grpo.py`.
"""

import contextlib
import dataclasses
import functools
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from litereason import latent_forward
from litereason.cache import check_cache, has_past, hidden_states_of, is_static
from litereason.config import LatentConfig
from litereason.console import say
from litereason.errors import ConfigError, LatentError, ModelError
from litereason.fingerprint import fingerprint, same_base
from litereason.generation import latent_processors
from litereason.projector import Projector, build_projector, check_not_quantized
from litereason.reserved_token import reserve_latent_token
from litereason.tags import Tags

# Backbones that take no position_ids but read positions off the attention mask, so that all is well.
FROM_MASK = ("BloomModel",)


class Pickled:
    """Classes made at run time are found again when a model is unpickled or copied."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        mixin, base = type(self).__bases__
        return _blank, (base, mixin), self.__dict__


def _blank(base: type, mixin: type) -> Any:
    made: Any = with_latents(base, mixin)
    return made.__new__(made)


class LatentBackbone(Pickled):
    """Mixin over a backbone: `forward` fills latent slots. Installed by `attach` or `load`."""

    latent_token_id: int
    # False while a policy gradient is taken: latents are then constants (arXiv 2512.02240).
    latent_gradients: bool = True
    # Latents so far that no norm can take: not finite, or as good as.
    latents_out_of_range: int = 0

    def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:
        base = super().forward  # pyright: ignore[reportAttributeAccessIssue]
        if input_ids is None:
            return base(**kwargs)
        cache: Any = kwargs.get("past_key_values")
        check_cache(cache, self)
        if is_static(cache) and kwargs.get("attention_mask") is None:
            # `generate` leaves out a mask of ones; without one, unused places would be attended to
            seen = input_ids.shape[1] + int(cache.get_seq_length())
            kwargs["attention_mask"] = input_ids.new_ones(input_ids.shape[0], seen)
        latent = input_ids == self.latent_token_id
        if not bool(latent.any()):
            output = self._plain(base, input_ids, kwargs)
        elif input_ids.shape[1] == 1 and has_past(cache):
            embeds = latent_forward.embed(self, input_ids)
            previous = hidden_states_of(cache).last()
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


class Enterable(Pickled):
    """Mixin over a causal LM: `model(inside=f)` runs `f(model)` inside the model's forward.

    What acts around a forward (DDP, FSDP, DeepSpeed, autocast) then sees one, whatever `f` computes.
    """

    def forward(self, *args: Any, inside: Any = None, **kwargs: Any) -> Any:
        if inside is not None:
            return inside(self)
        return super().forward(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]


class LatentCausalLM(Enterable):
    """Mixin over a causal LM: `generate` interleaves latent and discrete steps."""

    latent_tags: Tags

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)  # pyright: ignore[reportCallIssue]
        settings = LatentConfig.from_dict(config.litereason)
        install(self, settings, build_projector(settings.projector, self, settings.depth))

    @property
    def latent_config(self) -> LatentConfig:
        """The settings that are saved with the model."""
        return LatentConfig.from_dict(self.config.litereason)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def latent_projector(self) -> Any:
        """The Reasoning Projector."""
        return backbone(self).latent_projector

    def generate(
        self,
        inputs: Any = None,
        *args: Any,
        latent: bool = True,
        max_latent_steps: int | None = None,
        max_thoughts: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `transformers`' `generate`; the latent id is never sampled and forced while owed.

        Args:
            latent: False takes no latent step: tags that are written are plain text.
            max_latent_steps: bound on the steps of one thought, at most the model's own.
            max_thoughts: bound on the thoughts of one completion; later tags are plain text.

        Raises:
            ConfigError: a bound that is out of range.
            LatentError: `inputs_embeds`, or a prompt with latent slots that no tag announces.
        """
        tags, steps = self.latent_tags, max_latent_steps
        for name, value, kind in (
            ("latent", latent, bool),
            ("max_latent_steps", steps, int),
            ("max_thoughts", max_thoughts, int),
        ):
            if value is not None and type(value) is not kind:
                raise ConfigError(f"{name} is {value!r}; expected {kind.__name__}")
        if steps is not None and not 1 <= steps <= tags.max_latent_steps:
            raise ConfigError(
                f"max_latent_steps is {steps}; expected 1 to {tags.max_latent_steps}, the model's own "
                "(LatentConfig.max_latent_steps)"
            )
        if max_thoughts is not None and max_thoughts < 0:
            raise ConfigError(f"max_thoughts is {max_thoughts}; expected 0 or more, or None")
        if kwargs.get("inputs_embeds") is not None:
            raise LatentError(
                "generate() was called with inputs_embeds; latent steps are found by reading ids. "
                "Pass input_ids"
            )
        ids = inputs if inputs is not None else kwargs.get("input_ids")
        if ids is not None:
            for row in (ids == tags.latent_token_id).any(1).nonzero()[:, 0].tolist():
                tags.check(ids[row].tolist(), f"row {row} of the prompt")
        settings = kwargs.get("generation_config") or next(iter(args), None)
        settings = settings or self.generation_config  # pyright: ignore[reportAttributeAccessIssue]
        kwargs["logits_processor"] = latent_processors(
            tags if steps is None else tags.limited(steps),
            kwargs.get("logits_processor"),
            latent,
            max_thoughts,
            start=0 if ids is None else ids.shape[1],
            beams=(kwargs.get("num_beams") or settings.num_beams or 1) > 1,
        )
        return super().generate(inputs, *args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> Any:
        """Not with latent steps: it keeps its own cache and samples by its own rules."""
        raise LatentError(
            "continuous batching (generate_batch) takes no latent steps; use generate(), or "
            "litereason.detach(model) first"
        )

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
    """Give a causal LM latent steps, in place, and return it; says what was added.

    Args:
        model: any Hugging Face causal LM.
        tokenizer: its tokenizer; a latent token is added to it if there is a free embedding row.
        config: what a latent step is; the default is the paper's projector.

    Raises:
        ModelError: a model that cannot take latent steps, no usable special token, a tokenizer of
            another model, or latent steps already attached.
    """
    if model is not causal_lm(model):
        raise ModelError("a PEFT model takes no latent steps: attach() to the base, then wrap it")
    if has_latents(model):
        raise ModelError(
            "this model already has latent steps; attach() is called once. To change the projector, "
            "call litereason.detach(model) first"
        )
    config = config or LatentConfig()
    check_architecture(model)
    check_not_quantized(model, config.projector)
    projector = build_projector(config.projector, model, config.depth)  # fails before any change
    config = reserve_latent_token(model, tokenizer, config)
    config = dataclasses.replace(config, base=_identity(model))
    model.config.litereason = config.to_dict()
    projector.start_from(model)
    if model.dtype in (torch.bfloat16, torch.float16):
        projector.float()
    total, added = model.num_parameters(), projector.parameter_count()
    install(model, config, projector)
    model.latent_tags = Tags(tokenizer, config)  # pyright: ignore[reportArgumentType]
    say(
        f"latent steps attached: projector {config.projector!r} adds {added:,} parameters "
        f"({added / total:.1%} of {total:,}); slots hold {config.latent_token!r} "
        f"(id {config.latent_token_id})"
    )
    return model


def _identity(model: Any) -> dict[str, str | None]:
    """Name, revision and fingerprint of a plain model."""
    name = model.config._name_or_path or None
    if name and Path(name).is_dir():
        name = str(Path(name).resolve())
    origin = {"name": name, "revision": None}
    return {**getattr(model, "loaded_as", origin), **fingerprint(model)}


def detach(model: Any) -> Any:
    """Take latent steps off again, in place, and return the plain model.

    Its weights are as they are now: what training changed in the policy stays.
    """
    if not has_latents(model):
        raise ModelError("this model has no latent steps to take off")
    if model is not causal_lm(model):
        raise ModelError("a PEFT model is taken apart first: call merge_and_unload(), or unload()")
    known = model.latent_config.base
    if known and not same_base(known, fingerprint(model)):
        # trained: no longer what was loaded
        model.loaded_as, model.config._name_or_path = {"name": None, "revision": None}, ""
    spine = backbone(model)
    del spine.latent_projector, spine.latent_token_id, model.latent_tags, model.config.litereason
    for module in (spine, model):
        module.__class__ = type(module).__bases__[1]
    return model


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
    """Whether latent steps are attached (to the model under PEFT's wrapper, if there is one)."""
    return isinstance(causal_lm(model), LatentCausalLM)


def causal_lm(model: Any) -> Any:
    """The causal LM itself, without PEFT's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def backbone(model: Any) -> Any:
    """The transformer under the LM head that reads the ids (`LlamaModel`, `OPTDecoder`...)."""
    inner = causal_lm(model)
    spine = inner.get_decoder()
    return getattr(inner, "model", inner) if spine is inner else spine  # Llama 4


def projector_of(model: Any) -> Any:
    """The Reasoning Projector that is in use: PEFT trains a copy of a module that it saves."""
    projector = backbone(model).latent_projector
    copies = getattr(projector, "modules_to_save", None)
    return projector if copies is None else copies[projector.active_adapter]


@functools.cache
def with_latents(base: type, mixin: type) -> type:
    """A class like `base` with `mixin` in front.

    Keeps the name, which checkpoints record, and the signature of `forward`, which `generate` reads.
    """

    @functools.wraps(base.forward)  # pyright: ignore[reportAttributeAccessIssue]
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return mixin.forward(self, *args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    return type(base.__name__, (mixin, base), {"__module__": base.__module__, "forward": forward})


def enterable(model: Any) -> Any:
    """Let a causal LM be entered with `model(inside=...)`, in place; one with latent steps can be."""
    inner = causal_lm(model)
    if not isinstance(inner, Enterable):
        inner.__class__ = with_latents(type(inner), Enterable)
    return model


def install(model: Any, config: LatentConfig, projector: Projector) -> None:
    """Put the projector and the mixins in place."""
    spine = backbone(model)
    spine.latent_projector = projector
    spine.latent_token_id = config.latent_token_id
    # The projector's master weights stay in float32 beside a bfloat16 or float16 base.
    kept = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    model._keep_in_fp32_modules_strict = {*kept, "latent_projector"}
    spine.__class__ = with_latents(type(spine), LatentBackbone)
    if not isinstance(model, LatentCausalLM):
        model.__class__ = with_latents(type(model), LatentCausalLM)


def check_architecture(model: Any) -> None:
    """Raise `ModelError` unless latent steps can be right in this architecture; says why not."""
    name = type(model).__name__
    if not (isinstance(model, PreTrainedModel) and model.can_generate()):
        raise ModelError(f"expected a Hugging Face causal LM, got {name}")
    if model.config.is_encoder_decoder:
        raise ModelError(
            f"{name} is an encoder-decoder model, which has no single backbone; use a causal LM"
        )
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or [])
    recurrent = kinds - {"full_attention", "sliding_attention", "chunked_attention"}
    if model._is_stateful or recurrent:
        found = (
            f"layers of type {', '.join(sorted(recurrent))}" if recurrent else "a recurrent state"
        )
        raise ModelError(
            f"{name} has {found}: its state is not a KV cache alone, so it cannot be cut at latent "
            "slots, repeated and cropped exactly. Use a model whose layers are all attention"
        )
    spine = backbone(model)
    kind = type(spine).__name__
    if not isinstance(spine, PreTrainedModel) or not _calls_backbone_with_ids(model):
        raise ModelError(
            f"{name} does not pass token ids to its {kind}, where latent steps are put in. Use a causal "
            "LM of text (for a multimodal model, its text model)"
        )
    takes = inspect.signature(spine.forward).parameters
    if "past_key_values" not in takes or not hasattr(config, "use_cache"):
        raise ModelError(f"{name} has no KV cache, which latent steps go on from")
    # A pass over some rows' positions must be able to say where they stand.
    source = sys.modules[type(spine).__module__]
    counts_itself = any("create_position_ids_from_input_ids" in vars(c) for c in _names(source))
    if ("position_ids" not in takes and kind not in FROM_MASK) or counts_itself:
        raise ModelError(
            f"{name} counts positions by itself, from the cache or from padding: they would be wrong where "
            "rows of a batch think at different times. Use a model whose positions can be given "
            "(position_ids)"
        )
    if getattr(config, "hidden_size_per_layer_input", None):
        raise ModelError(
            f"{name} reads the token ids again in every layer (per-layer embeddings), where a latent "
            "has none. Use a model without them"
        )


def _names(module: Any) -> list[Any]:
    """A module, and the classes it defines."""
    return [module, *(c for c in vars(module).values() if isinstance(c, type))]


class _Reached(Exception):
    """Ends a trial forward where it enters the backbone."""


def _calls_backbone_with_ids(model: Any) -> bool:
    """Whether the language model's forward enters its backbone, and with ids; computes nothing."""
    found = []

    def enter(module: Any, args: Any, kwargs: Any) -> None:
        found.append(args[0] if args else kwargs.get("input_ids"))
        raise _Reached

    handle = backbone(model).register_forward_pre_hook(enter, with_kwargs=True)
    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    try:
        with contextlib.suppress(_Reached):
            model(input_ids=ids)
    finally:
        handle.remove()
    entered = found[0] if found else None
    # by form, which a model on the meta device has as well
    return (
        isinstance(entered, torch.Tensor)
        and entered.dtype == ids.dtype
        and entered.shape == ids.shape
    )
