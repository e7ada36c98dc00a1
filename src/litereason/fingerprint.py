"""Which base a projector was trained on: a fingerprint that small checkpoints carry.

Two parts. The digest covers values of every parameter, bit by bit, and tells a base that was trained on
from the one it came from; it holds for one number format only. The sketch, some embedding values, is
compared across formats, up to the rounding of bfloat16.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SAMPLE = 4096  # values of every parameter that the digest covers
SKETCH = 256  # embedding values that are kept
TOLERANCE = 2**-7  # relative: a bfloat16 has 8 bits
PARTS, PART = 256, 2**16  # so many parts of a file, of so many bytes
# What is not the base: the projector, and what PEFT puts beside or in place of the base's own weights.
ADDED = ("latent_projector", "lora_", ".modules_to_save.")


@torch.no_grad()
def fingerprint(model: Any) -> dict[str, str]:
    """`{"dtype", "digest", "sketch"}` of the base's weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in model.named_parameters():
        if not any(part in name for part in ADDED):
            values = _sample(parameter, SAMPLE).cpu().contiguous()
            digest.update(values.view(torch.uint8).numpy().data)
    embeddings = model.get_input_embeddings().weight
    sketch = _sample(embeddings, SKETCH).float().cpu().numpy().astype("<f4")
    return {
        "dtype": str(embeddings.dtype).removeprefix("torch."),
        "digest": digest.hexdigest(),
        "sketch": base64.b64encode(sketch.tobytes()).decode(),
    }


def same_base(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether two fingerprints are of the same base, bit by bit where the format is the same."""
    if one["dtype"] == other["dtype"]:
        return one["digest"] == other["digest"]
    a, b = (np.frombuffer(base64.b64decode(f["sketch"]), "<f4") for f in (one, other))
    if a.shape != b.shape:
        return False
    scale = float(np.sqrt((a**2).mean()))
    return bool(np.allclose(a, b, rtol=TOLERANCE, atol=scale * TOLERANCE**2))


def _sample(values: Tensor, count: int) -> Tensor:
    """At most about `count` evenly spaced values."""
    flat = values.detach().flatten()
    return flat[:: max(1, len(flat) // count)][: count + 1]


def of_files(place: str | Path) -> str:
    """Digest of a file or a model's directory: names, sizes and parts of what is in it; no cards.

    For a hub id, whose files are cached under their own digests, the id itself.
    """
    if not Path(place).exists():
        return str(place)
    digest = hashlib.blake2b(digest_size=16)
    inside = Path(place).iterdir() if Path(place).is_dir() else [Path(place)]
    kept = [path for path in inside if path.is_file() and path.name[0] != "."]
    for path in sorted(path for path in kept if path.suffix != ".md"):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for start in range(0, size, max(PART, size // PARTS)):
                file.seek(start)
                digest.update(file.read(PART))
    return digest.hexdigest()
