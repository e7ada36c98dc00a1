"""Peak memory of a training step with thoughts: the chunked loss against one that makes all logits.

8 rows of 512 positions as in bench_fill.py, base frozen, forward and backward to the projector; the
loss covers all positions, as in stage 1's plain SFT. Both arms fill the slots in the same way; the peer
then computes logits `(batch, length, vocab)` and their cross-entropy, as the model's own forward with
`labels` does. Each arm is its own process; the figure is the peak of its resident memory over what it
held with the model loaded. What is left out: optimiser states, which both have.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from bench_fill import prepared
from harness import report

STATUS = Path("/proc/self/status")


def resident(field: str) -> float:
    """A memory field of this process in MB: VmRSS (now) or VmHWM (the peak)."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found, field
    return int(found[1]) / 1024


def arm(name: str) -> None:
    """Run one step, and print the peak over what the loaded model takes."""
    import torch

    from litereason.losses import next_token_loss

    _, model, _, ids, _ = prepared()
    mask = torch.ones_like(ids)
    labels = ids.masked_fill(ids == model.latent_config.latent_token_id, -100)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    if name == "chunked":
        loss = next_token_loss(model, ids, mask, labels) / int((labels[:, 1:] != -100).sum())
    else:
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
    loss.backward()
    norm = float(sum(p.grad.norm() ** 2 for p in model.latent_projector.parameters()) ** 0.5)
    print(json.dumps([resident("VmHWM") - before, float(loss), norm]))


def main() -> None:
    """Measure both, check that they computed the same, and report."""
    found = {}
    for name in ("chunked", "all logits"):
        command = [sys.executable, __file__, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    (ours, *same), (other, *wanted) = found["chunked"], found["all logits"]
    if any(abs(a - b) > 2e-2 * abs(b) for a, b in zip(same, wanted, strict=True)):
        raise AssertionError(f"loss and gradient differ: {same}, {wanted}")
    report("memory, training step", ours, ("all logits", other), "<= 0.5", "MB", n=1)


if __name__ == "__main__":
    arm(sys.argv[1]) if len(sys.argv) > 1 else main()
