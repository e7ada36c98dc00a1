"""Run by torchrun in two processes (tests/test_distributed.py): FSDP2 over gloo, on CPU.

Each process has prompts of its own. The policy pass must give the gradients of one process, and rollouts
that end at different times must not wait for each other for ever. Prints a JSON list, an object a process.
"""

import json

from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import architectures
from litereason.losses import completion_log_probs
from litereason.model import backbone
from litereason.policy_pass import completion_states
from litereason.rollout import draws, roll_out
from test_rollout import NEW, settings

PROMPTS = (0, 3)  # one a process; neither holds a finished thought


def model_of_float32():
    model, tokenizer = architectures.make("Llama")
    model = model.float()
    model.latent_projector.requires_grad_(False)
    return model, tokenizer


def group_of(model, tokenizer, which):
    """(ids, mask, positions of completions, kept latents) of three completions of a prompt."""
    prompt = architectures.prompts_of(tokenizer)[which]
    made = roll_out(
        model, [prompt] * 3, settings(tokenizer, top_k=0), draws((which,), range(3), NEW)
    )
    width = max(len(rollout.ids) for rollout in made)
    rows = [prompt + rollout.ids for rollout in made]
    batch = architectures.padded(rows, tokenizer.pad_token_id, "right")
    return *batch.values(), width, [rollout.latents for rollout in made]


def loss_of(model, ids, mask, width, latents):
    """Summed log-probability of the completions, computed inside the model's forward."""

    def inside(inner):
        states = completion_states(inner, ids, mask, width, latents)
        banned = inner.latent_tags.latent_token_id
        return completion_log_probs(inner, states, ids[:, -width:], 1.0, banned)[0]

    return (model(inside=inside) * mask[:, -width:]).sum()


def main() -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    whole, tokenizer = model_of_float32()
    groups = [group_of(whole, tokenizer, which) for which in PROMPTS]
    for group in groups:
        (loss_of(whole, *group) / len(PROMPTS)).backward()
    wanted = {n: p.grad.clone() for n, p in whole.named_parameters() if p.grad is not None}
    model, _ = model_of_float32()
    mesh = init_device_mesh("cpu", (len(PROMPTS),))
    for layer in backbone(model).layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    loss_of(model, *groups[rank]).backward()
    off, compared = 0.0, 0
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found = parameter.grad.full_tensor()
            scale = wanted[name].abs().max().clamp(min=1e-6)
            off = max(off, float((found - wanted[name]).abs().max() / scale))
            compared += 1
    # end tokens that make one process finish long before the other
    prompts = [architectures.prompts_of(tokenizer)[PROMPTS[rank]]] * 3
    config = settings(tokenizer, top_k=0, eos_token_id=[2, *range(5, 12 + 20 * rank)])
    uniform = draws((9,), range(3), NEW)
    expected = [rollout.ids for rollout in roll_out(whole, prompts, config, uniform)]
    got = [rollout.ids for rollout in roll_out(model, prompts, config, uniform, in_step=True)]
    lengths = [len(ids) for ids in expected]
    mine = {"off": off, "compared": compared, "of": len(wanted), "same": got == expected}
    found = [None] * len(PROMPTS)
    distributed.all_gather_object(found, mine | {"lengths": lengths})
    if rank == 0:
        print(json.dumps(found), flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
