"""The token that marks latent slots: one that nobody writes, in a vocabulary that fits the model."""

import re
from typing import Any

from litereason.config import LatentConfig
from litereason.errors import ModelError

LATENT_TOKEN = "<|latent|>"
# Tokens that published tokenizers reserve and nobody writes; the first that exists is used.
RESERVED = re.compile(r"<\|?(latent|reserved_special_token_\d+|unused_?\d+|empty_output)\|?>")


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
    if not tokenizer.added_tokens_decoder[token_id].special:  # decoding leaves special tokens out
        tokenizer.add_special_tokens(
            {"extra_special_tokens": [name]}, replace_extra_special_tokens=False
        )
    values = config.to_dict() | {"latent_token": name, "latent_token_id": token_id}
    return LatentConfig.from_dict(values)
