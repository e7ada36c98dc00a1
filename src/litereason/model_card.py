"""The README.md that goes with a checkpoint: what it is, and the few lines that run it."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

TEXT = """---
{metadata}
---

# {title}

{kind} of a causal language model with **latent steps**, made with LiteReason (arXiv 2512.02240). The model
writes `<{tag}>N</{tag}>` where it would rather think than write; the next N positions are then latent:
their inputs come from a Reasoning Projector, and nothing is sampled.

| | |
| --- | --- |
| base | {base} |
| projector | `{projector}`, {parameters:,} parameters |
| latent slots hold | `{token}` (id {token_id}) |
| steps a thought | at most {steps} |

```python
import litereason

model, tokenizer = litereason.load("{path}")
inputs = tokenizer("...", return_tensors="pt")
ids = model.generate(**inputs, max_new_tokens=200)[0, inputs["input_ids"].shape[1] :]
print(litereason.read_completion(ids.tolist(), tokenizer, model.latent_tags).text)
```
{plain}"""

PLAIN = """
Plain `transformers` opens it too, as the model without latent steps: it warns that it does not know the
projector's weights, and tags are then plain text.
"""


def text(model: Any, path: str = "path/or/hub-id") -> str:
    """The card of a model with latent steps (PEFT's wrapper allowed)."""
    from litereason.model import causal_lm, projector_of

    inner = causal_lm(model)
    config = inner.latent_config
    base = (config.base or {}).get("name")
    published = base if base and base.count("/") == 1 and not Path(base).exists() else None
    data = ModelCardData(
        library_name="litereason",
        base_model=published,
        pipeline_tag="text-generation",
        tags=["latent-reasoning"],
    )
    adapter = inner is not model
    return TEXT.format(
        metadata=data.to_yaml(),
        title=f"{Path(base).name} with latent steps" if base else "A model with latent steps",
        kind="An adapter" if adapter else "A checkpoint",
        base=f"`{published or (Path(base).name if base else 'not recorded')}`",
        tag=config.tag,
        projector=config.projector,
        parameters=projector_of(model).parameter_count(),
        token=config.latent_token,
        token_id=config.latent_token_id,
        steps=config.max_latent_steps,
        path=path,
        plain="" if adapter else PLAIN,
    )
