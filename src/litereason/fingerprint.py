"""Which base a projector was trained on: a fingerprint that small checkpoints carry.

Two parts. The digest covers every bit of the token embeddings and of the last block, and tells a base
that was trained on from the one it came from; it holds for one number format only. The sketch, some
embedding values, is compared across formats, up to the rounding of bfloat16.
"""

import base64
import hashlib
from typing import Any

import numpy as np
import torch

from litereason.projector import last_block

SKETCH = 256  # embedding values that are kept
TOLERANCE = 2**-7  # relative: a bfloat16 has 8 bits


@torch.no_grad()
def fingerprint(model: Any) -> dict[str, str]:
    """`{"dtype", "digest", "sketch"}` of a causal LM's weights, the projector left out."""
    embeddings = model.get_input_embeddings().weight
    digest = hashlib.blake2b(digest_size=16)
    block = last_block(model)
    for tensor in (embeddings, *(block.parameters() if block is not None else ())):
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    flat = embeddings.detach().flatten()
    values = flat[:: max(1, len(flat) // SKETCH)][:SKETCH].float().cpu().numpy()
    return {
        "dtype": str(embeddings.dtype).removeprefix("torch."),
        "digest": digest.hexdigest(),
        "sketch": base64.b64encode(values.astype("<f4").tobytes()).decode(),
    }


def same_base(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether two fingerprints are of the same base, bit by bit where the format is the same."""
    if one["dtype"] == other["dtype"]:
        return one["digest"] == other["digest"]
    a, b = (np.frombuffer(base64.b64decode(f["sketch"]), "<f4") for f in (one, other))
    if a.shape != b.shape:
        return False
    scale = float(np.sqrt((a**2).mean())) * TOLERANCE
    return bool(np.allclose(a, b, rtol=TOLERANCE, atol=scale * TOLERANCE))
