"""Text and dots as they come."""

import io

import torch

from litereason.streaming import DOT, LatentStreamer


def test_every_latent_step_is_a_dot(latent_llama, words):
    tag = words.convert_tokens_to_ids("<implicit_thought>3</implicit_thought>")
    ids = torch.tensor([[1, 8, 9, tag]])
    out = io.StringIO()
    streamer = LatentStreamer(words, latent_llama.latent_tags, out)
    new = latent_llama.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False,
        streamer=streamer,
    )[0, 4:].tolist()  # fmt: skip
    latent = latent_llama.latent_tags.latent_token_id
    assert out.getvalue().startswith(DOT * 3)
    assert out.getvalue().count(DOT) == new.count(latent)
    text = words.decode(new, skip_special_tokens=True)
    assert out.getvalue().replace(DOT, "").strip() == text.strip()
