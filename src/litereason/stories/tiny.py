"""The embedded default's tokenizer and model: small enough to learn from nothing in minutes.

The tokenizer reads the same English as any other, a phrase a token (`" traded their things."`), line
breaks and spaces kept inside the tokens, so that text and ids map one to one. The model is an ordinary
`LlamaForCausalLM` with random weights.
"""

import re

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from litereason.reserved_token import LATENT_TOKEN
from litereason.stories import reasoning, world

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", LATENT_TOKEN]
MAX_LINES = 24
PROMPTED_STEPS = range(1, 6)
MORE_STEPS = range(6, 33)  # thoughts that nobody prompts for: COCONUT's


def phrases(instructions: list[str]) -> list[str]:
    """Everything that is one token, `instructions` included."""
    tokens = [f"\n{i}." for i in range(1, MAX_LINES + 1)]
    words = [*world.NAMES, *world.OBJECTS, *(f"{place}." for place in world.PLACES)]
    words += [*world.GO, *world.USE, *world.TRADE, *world.BURY]
    words += ["owned the", "at first.", "and", "died.", "in tears.", "again."]
    words += ["reads:", "dead", "wrong", "ok", "so", "skip"]
    tokens += [f" {word}" for word in words]
    lines = [*reasoning.HEDGES, reasoning.DOUBT, *reasoning.GUESS.values()]
    lines += [r"\boxed{Yes}", r"\boxed{No}"]
    lines += [f"<implicit_thought>{n}</implicit_thought>" for n in PROMPTED_STEPS]
    lines += instructions
    lines += [f"<implicit_thought>{n}</implicit_thought>" for n in MORE_STEPS]
    tokens += [f"\n{line}" for line in lines]
    return tokens + [f"<think {n}>" for n in PROMPTED_STEPS] + ["</think>"]  # CoLaR's


def tiny_tokenizer(instructions: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token a phrase; unknown text becomes `<unk>`."""
    words = phrases(instructions)
    vocabulary = {token: i for i, token in enumerate(SPECIAL + words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    longest_first = sorted(words, key=len, reverse=True)
    pattern = Regex("|".join(re.escape(word) for word in longest_first))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens=[LATENT_TOKEN],
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    return fast


def tiny_model(
    tokenizer: PreTrainedTokenizerFast, seed: int = 0, layers: int = 4
) -> LlamaForCausalLM:
    """A Llama with random weights, with 4 layers about 0.46 M parameters, float32.

    Embeddings start at unit scale and the head small: with the usual 0.02 the model needs
    many times the steps to learn to look things up.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        rms_norm_eps=1e-5,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=SPECIAL.index("<bos>"),
        eos_token_id=SPECIAL.index("<eos>"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        scale = config.hidden_size**-0.5
        residual = 0.3 * (2 * config.num_hidden_layers) ** -0.5
        for name, weight in model.named_parameters():
            if weight.dim() != 2:
                continue
            std = scale
            if "embed_tokens" in name:
                std = 1.0
            elif "lm_head" in name:
                std = 0.02
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                std = scale * residual
            torch.nn.init.normal_(weight, std=std)
    return model
