"""lm-evaluation-harness with latent steps: its own command line, and one model type more.

    python -m litereason.lm_eval --model litereason --model_args pretrained=PATH --tasks gsm8k

Every option of `lm_eval` works. This module only registers the model type (lm-eval's public
`register_model`) and leaves the rest to lm-eval.
"""

from typing import Any

import torch

from litereason.checkpoints import load
from litereason.errors import ConfigError
from litereason.extras import need

need("lm_eval", "lm_eval")

from lm_eval.api.registry import register_model  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

# HFLM's arguments that say how it loads a model, which it does not do here.
LOADING = (
    "tokenizer",
    "peft",
    "delta",
    "parallelize",
    "tp_plan",
    "gguf_file",
    "autogptq",
    "gptqmodel",
)


@register_model("litereason")
class LatentLM(HFLM):
    """lm-eval's Hugging Face model, loaded with its latent steps.

    Args:
        pretrained: what `litereason.load` takes: any checkpoint of ours, full, projector-only or with
            an adapter, or a plain model.
        base: where the base of a projector-only checkpoint is, if it has moved.
        device: where the model goes; default: a GPU if there is one.
        options: `dtype` and `revision` go to `litereason.load`, the rest to HFLM.
    """

    def __init__(
        self, pretrained: str, base: str | None = None, device: str | None = None, **options: Any
    ) -> None:
        if wrong := [name for name in LOADING if options.get(name)]:
            raise ConfigError(
                f"model_args {wrong} say how lm-eval loads a model; this one is loaded by "
                "litereason.load. Leave them out"
            )
        how = {name: options.pop(name) for name in ("dtype", "revision") if options.get(name)}
        model, tokenizer = load(pretrained, base=base, **how)
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        options |= {"pretrained": model, "tokenizer": tokenizer}
        super().__init__(**options)


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
