"""Tiny models of many families, and how far latent steps in each are from the naive loop.

`measure` is used by the tests and by `docs/update_architectures.py`, which writes the table.
"""

import functools
import math
from typing import Any

import torch
import transformers

import litereason
import naive
from conftest import word_tokenizer
from litereason.model import constant_latents
from litereason.projector import SwiGLU

NEW = 24
TAG = "<implicit_thought>3</implicit_thought>"
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.35,
}
GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.3}
NEOX = {k: v for k, v in SHAPE.items() if k not in ("num_key_value_heads", "head_dim")}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
WINDOW = {"sliding_window": 6}
HYBRID = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], **WINDOW}

# name -> (prefix of the classes, changes to the config, what is special)
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "Llama": ("Llama", SHAPE, ""),
    "Mistral": ("Mistral", SHAPE | WINDOW, "sliding window"),
    "Qwen2": ("Qwen2", SHAPE, ""),
    "Qwen3": ("Qwen3", SHAPE, ""),
    "Qwen3-MoE": ("Qwen3Moe", SHAPE | MOE | {"decoder_sparse_step": 1}, "mixture of experts"),
    "Mixtral": ("Mixtral", SHAPE | {"num_local_experts": 4}, "mixture of experts"),
    "Gemma": ("Gemma", SHAPE, "scaled embeddings"),
    "Gemma 2": (
        "Gemma2",
        SHAPE | HYBRID | {"query_pre_attn_scalar": 8},
        "scaled embeddings, soft caps, hybrid windows",
    ),
    "Gemma 3 (text)": (
        "Gemma3",
        SHAPE | HYBRID | {"query_pre_attn_scalar": 8},
        "scaled embeddings, hybrid windows",
    ),
    "Phi-3": ("Phi3", SHAPE, "fused projections"),
    "GPT-2": ("GPT2LMHead", GPT | {"n_positions": 128}, "learned positions"),
    "GPT-Neo": (
        "GPTNeo",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}
        | {"attention_types": [[["global", "local"], 1]], "window_size": 6},
        "learned positions, local layers",
    ),
    "GPT-NeoX": ("GPTNeoX", NEOX, "parallel blocks"),
    "OLMo 2": ("Olmo2", SHAPE, ""),
    "Granite": (
        "Granite",
        SHAPE | {"embedding_multiplier": 3.0, "logits_scaling": 0.5, "residual_multiplier": 0.7},
        "embeddings multiplied after they come in, scaled logits",
    ),
    "SmolLM3": ("SmolLM3", SHAPE, "layers without positions"),
    "StableLM": ("StableLm", SHAPE, ""),
    "StarCoder 2": ("Starcoder2", SHAPE, ""),
    "Cohere": ("Cohere", SHAPE, "scaled logits"),
    "BLOOM": ("Bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4}, "ALiBi"),
    "OPT": (
        "OPT",
        SHAPE | {"ffn_dim": 48, "word_embed_proj_dim": 32},
        "learned positions",
    ),
    "Falcon": ("Falcon", NEOX | {"new_decoder_architecture": True}, "parallel blocks"),
    "Phi": ("Phi", SHAPE, "parallel blocks"),
    "Llama 4 (text)": (
        "Llama4",
        SHAPE | {"num_local_experts": 4, "intermediate_size_mlp": 48, "attention_chunk_size": 64},
        "mixture of experts, layers without positions",
    ),
    "gpt-oss": (
        "GptOss",
        SHAPE | HYBRID | {"num_local_experts": 4},
        "mixture of experts, attention sinks, hybrid windows",
    ),
}


def make(family: str) -> tuple[Any, Any]:
    """(random float64 model with latent steps, tokenizer)."""
    prefix, changes, _ = FAMILIES[family]
    words = word_tokenizer()
    config_name = prefix.removesuffix("LMHead") + "TextConfig"
    if not hasattr(transformers, config_name):
        config_name = config_name.replace("Text", "")
    settings = changes | {
        "vocab_size": len(words),
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
    }
    config = getattr(transformers, config_name)(**settings)
    name = prefix + ("Model" if prefix.endswith("LMHead") else "ForCausalLM")
    torch.manual_seed(3)
    model = getattr(transformers, name)(config)
    for parameter in model.parameters():  # some families start near zero: their text would not vary
        if parameter.dim() > 1 and parameter.std() < 0.1:
            torch.nn.init.normal_(parameter, std=0.35)
    if hasattr(config, "_experts_implementation"):
        model.set_experts_implementation("eager")  # the fused ones take no float64
    litereason.attach(model.double().eval(), words, litereason.LatentConfig(depth=2))
    with torch.no_grad():  # large random weights, three deep, would leave the range of numbers
        for parameter in model.latent_projector.parameters():
            parameter.mul_(0.4)
    return model, words


def prompts_of(tokenizer: Any) -> list[list[int]]:
    """Plain, with a finished thought, with a half-finished one, and ending in a tag."""
    word = tokenizer.convert_tokens_to_ids
    tag, latent = word(TAG), word("<|latent|>")
    return [
        [1, word(" w3"), word(" w4")],
        [1, word(" w5"), tag, latent, latent, latent, word(" w7"), word(" w8"), word(" w1")],
        [1, word(" w9"), word(" w2"), tag, latent],
        [1, word(" w11"), word(" w12"), word(" w13"), word(" w14"), word(" w15"), tag],
    ]


def padded(rows: list[list[int]], pad: int, side: str) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, `(batch, longest)`."""
    width = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        fill, ones = [pad] * (width - len(row)), [1] * len(row)
        ids.append(fill + row if side == "left" else row + fill)
        mask.append([0] * len(fill) + ones if side == "left" else ones + [0] * len(fill))
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def log_probs(model: Any, batch: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
    """`(batch, length - 1)`: of each id but the first, the latent id outside the softmax."""
    latent = torch.tensor([model.latent_tags.latent_token_id])
    logits = model(**batch, **kwargs).logits.index_fill(2, latent, -torch.inf)
    return logits[:, :-1].log_softmax(-1).gather(2, batch["input_ids"][:, 1:, None])[..., 0]


def discrete(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """`(batch, length - 1)`: where a discrete token is predicted from a real position."""
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    return mask[:, 1:] & mask[:, :-1] & (ids[:, 1:] != model.latent_tags.latent_token_id)


@functools.cache
def measure(family: str) -> dict[str, Any]:
    """What a family does against the naive loop: figures of the table, and what tests look at."""
    model, tokenizer = make(family)
    prompts, pad = prompts_of(tokenizer), tokenizer.pad_token_id
    expected = [naive.greedy(model, tokenizer, p, NEW) for p in prompts]
    rows = [p + e for p, e in zip(prompts, expected, strict=True)]
    # transformers' own eager attention gives NaN for padding in float64: there, a row at a time
    alone = model.config._attn_implementation == "eager"
    together = [[k] for k in range(len(rows))] if alone else [list(range(len(rows)))]
    greedy, off, gradients = True, 0.0, 0.0
    for chosen in together:
        batch = padded([prompts[k] for k in chosen], pad, "left")
        width = batch["input_ids"].shape[1]
        output = model.generate(**batch, max_new_tokens=NEW, do_sample=False)
        for k, row in zip(chosen, output, strict=True):
            greedy &= row[width : width + len(expected[k])].tolist() == expected[k]
        part = [rows[k] for k in chosen]
        off = worst(off, log_probs_off(model, part, pad))
        gradients = worst(gradients, gradients_off(model, part, pad))
    return {
        "greedy": greedy,
        "latent_steps": sum(e.count(model.latent_tags.latent_token_id) for e in expected),
        "log_probs": off,
        "gradients": gradients,
        "projector": "built from the config"
        if any(isinstance(m, SwiGLU) for m in model.latent_projector.modules())
        else "copied from the last block",
    }


def worst(one: float, other: float) -> float:
    """The larger difference; what is no number is infinitely far off."""
    return math.inf if math.isnan(one) or math.isnan(other) else max(one, other)


def log_probs_off(model: Any, rows: list[list[int]], pad: int) -> float:
    """Largest difference of any log-probability from the naive loop's, however it is computed."""
    latent = model.latent_tags.latent_token_id
    with torch.no_grad():
        wanted = [naive.log_probs_of(model, row) for row in rows]
    reference = torch.cat(
        [w[torch.tensor(r[1:]) != latent] for w, r in zip(wanted, rows, strict=True)]
    )
    off = 0.0
    for side in ("left", "right"):
        batch = padded(rows, pad, side)
        keep = discrete(model, batch)
        with torch.no_grad():
            found = [log_probs(model, batch, use_cache=False)]
            if side == "left":
                found.append(log_probs(model, batch, use_cache=True))
        with constant_latents(model):
            found.append(log_probs(model, batch).detach())
        for one in found:
            off = worst(off, float((one[keep] - reference).abs().max()))
    return off


def gradients_off(model: Any, rows: list[list[int]], pad: int) -> float:
    """Largest difference of any gradient from the naive loop's, relative to the parameter's."""
    batch = padded(rows, pad, "right")
    log_probs(model, batch, use_cache=False)[discrete(model, batch)].sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row in rows:
        keep = torch.tensor(row[1:]) != model.latent_tags.latent_token_id
        naive.log_probs_of(model, row)[keep].sum().backward()
    largest = max(
        float(p.grad.abs().max()) for _, p in model.named_parameters() if p.grad is not None
    )
    off = 0.0
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        difference = (found[name] - parameter.grad).abs().max()
        scale = max(float(parameter.grad.abs().max()), 1e-6 * largest)
        off = worst(off, float(difference) / scale)
    model.zero_grad()
    return off
