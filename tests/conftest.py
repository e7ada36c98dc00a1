"""What many tests share: a tiny random Llama whose sampled words are tags, and where real data is."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import litereason
from litereason.checkpoints import save
from litereason.reserved_token import LATENT_TOKEN

torch.set_num_threads(1)
settings.register_profile("no-deadline", deadline=None)  # machines are shared
settings.load_profile("no-deadline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

TAG_WORDS = [f"<implicit_thought>{n}</implicit_thought>" for n in range(5)]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the checkout, or a skip that says so."""
    path = Path(__file__).parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"the real data is not there: {path}")
    return path


def word_tokenizer(words: int = 30) -> PreTrainedTokenizerFast:
    """Words `w0`..., and every tag with N from 0 to 4 as one word: random models do write tags."""
    special = ["<pad>", "<bos>", "<eos>", "<unk>", LATENT_TOKEN]
    plain = [f" w{i}" for i in range(words)] + TAG_WORDS
    pieces = ["<implicit_thought>", "</implicit_thought>", *"0123456789", "\n"]
    names = special + plain + pieces
    tokenizer = Tokenizer(
        models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(" w[0-9]+|<implicit_thought>[0-4]</implicit_thought>|</?implicit_thought>|[0-9]|\n"),
        "isolated",
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens=[LATENT_TOKEN],
        padding_side="left",
    )


def random_llama(tokenizer: PreTrainedTokenizerFast, **changes: int) -> LlamaForCausalLM:
    """A float64 Llama with weights large enough that its greedy text varies."""
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.35,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    torch.manual_seed(3)
    return LlamaForCausalLM(LlamaConfig(**(settings | changes))).double().eval()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """The embedded default's model and tokenizer with random weights, as a checkpoint."""
    from litereason.stories.tiny import tiny_model, tiny_tokenizer
    from litereason.tasks.stories import StoriesTask

    tokenizer = tiny_tokenizer(list(StoriesTask.instructions.values()))
    return save(tiny_model(tokenizer), tmp_path_factory.mktemp("base") / "model", tokenizer)


@pytest.fixture
def words() -> PreTrainedTokenizerFast:
    return word_tokenizer()


@pytest.fixture
def latent_llama(words):
    """A random float64 model with latent steps attached."""
    return litereason.attach(random_llama(words), words)
