"""Stage 3: RL teaches the policy when to stop writing and think (arXiv 2512.02240).

TRL's GRPOTrainer with a few named hooks overridden; everything else is inherited. Only discrete tokens
are actions: latent slots are masked like tool output, the latent id is outside the softmax, and latents
are constants in the policy gradient: the ones that the rollout was made with. A prompt is computed once
for all its completions, in the rollout and in the policy pass. After each epoch the projector is
refreshed on the epoch's own rewarded trajectories. A model without latent steps trains here as well:
ordinary GRPO, with the same prompts, sampler and budgets.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from litereason.errors import ConfigError
from litereason.generation import read_completion
from litereason.losses import completion_log_probs
from litereason.model import backbone, causal_lm, enterable, has_latents, projector_of
from litereason.policy_pass import completion_states
from litereason.rewards import length_penalty, reward_functions
from litereason.rl_config import LatentGRPOConfig, fitting_prompts, prompt_limit
from litereason.rl_plan import check_enough, check_launch
from litereason.rollout import Rollout, counts, draws, roll_out, row_key
from litereason.sampling import conversation, encode
from litereason.sft import SkipNonFinite
from litereason.tasks.base import Example, Task
from litereason.watch import CollapseWatch, EpochSampler, ProjectorRefresh, RunState


class LatentGRPOTrainer(GRPOTrainer):
    """GRPO over a task, with latent steps where the model has them.

    Args:
        model: a causal LM, with or without latent steps, or a PEFT model of one.
        args: a `LatentGRPOConfig`.
        task: gives the reward.
        examples: what to train on.
        tokenizer: the model's.
        mode: prompt mode (`plain`, `latent`, `direct`).
        reward_funcs: more rewards, in TRL's signature with `examples` beside; `args.reward_weights` weighs
            the task's first, then these.
        kwargs: passed to `GRPOTrainer` (`peft_config`, `callbacks`...).
    """

    args: LatentGRPOConfig
    num_generations: int
    num_generations_eval: int
    max_completion_length: int

    def __init__(
        self,
        model: Any,
        args: LatentGRPOConfig,
        task: Task,
        examples: Sequence[Example],
        tokenizer: Any,
        mode: str,
        reward_funcs: Sequence[Callable[..., Any]] = (),
        **kwargs: Any,
    ) -> None:
        args = copy.copy(args)  # what is filled in below belongs to this trainer
        if kwargs.get("eval_dataset") is not None:
            raise ConfigError(
                "eval_dataset is not supported: rewards are looked up in the examples that train. Judge "
                "checkpoints with `litereason eval`"
            )
        self.latent = has_latents(model)
        self.latent_id = causal_lm(model).latent_tags.latent_token_id if self.latent else None
        self.generated_tokens = 0
        self.rewarded: list[tuple[int, str]] = []  # (example, text) since the last refresh
        self.refreshed = {"positions": 0, "slots": 0}  # by all refreshes of the projector
        self.skipped_steps = 0
        # Of the newest generation in training and in evaluation: ids of a row -> its latents.
        self._kept: dict[str, dict[bytes, torch.Tensor]] = {"train": {}, "eval": {}}
        self._draws: dict[str, tuple[int, int]] = {}
        prompts = [task.prompt(example, mode) for example in examples]
        fitting = self._fit(model, args, examples, prompts, tokenizer)
        examples = [examples[i] for i in fitting]
        data = [
            {"prompt": conversation(tokenizer, prompts[i]), "example_index": index}
            for index, i in enumerate(fitting)
        ]
        enterable(model)
        if causal_lm(model) is model and kwargs.get("peft_config") is None:
            model.requires_grad_(True)
        if self.latent:
            projector_of(model).requires_grad_(args.refresh == "joint")
        functions = reward_functions(task, examples, self._text_of, args, reward_funcs)
        reference, beta = self._reference(model, args, kwargs), args.beta
        if reference is not None:  # TRL would load the model again by its name
            args.beta = 0.0
        super().__init__(
            model=model,
            reward_funcs=functions,
            args=args,
            train_dataset=Dataset.from_list(data),
            processing_class=tokenizer,
            **kwargs,
        )
        self.sharded = self.is_fsdp_enabled or self._dist.is_zero3
        kind = (
            "FSDP" if self.is_fsdp_enabled else "DEEPSPEED" if self.is_deepspeed_enabled else "NO"
        )
        args.beta = self.beta = beta
        self.thinks = thinks = self.latent and args.max_thoughts != 0
        check_launch(args, kind, self.sharded, thinks, reference is None)
        if self.latent:  # TRL's PEFT wrapping may have chosen otherwise
            projector_of(self.model).requires_grad_(args.refresh == "joint")
        if reference is not None:
            self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)
        self.add_callback(SkipNonFinite(self))
        if thinks and args.refresh == "epoch":
            self.add_callback(ProjectorRefresh(self))
        self.add_callback(CollapseWatch(thinks))
        self.add_callback(RunState(self))

    def _fit(
        self,
        model: Any,
        args: LatentGRPOConfig,
        examples: Sequence[Example],
        prompts: Sequence[str],
        tokenizer: Any,
    ) -> list[int]:
        """Which examples train; keeps the ids of their prompts for the refresh."""
        tags = causal_lm(model).latent_tags if self.latent else None
        encoded = [encode(tokenizer, prompt, tags) for prompt in prompts]
        names = [example.id for example in examples]
        fitting = fitting_prompts(model, args, names, [len(ids) for ids in encoded])
        check_enough(args, args.world_size, len(fitting))
        limit = prompt_limit(model, args) or 0
        self.prompt_ids = [encoded[i][-limit:] for i in fitting]
        return fitting

    def _reference(self, model: Any, args: LatentGRPOConfig, kwargs: dict[str, Any]) -> Any:
        """A frozen copy of the policy as it starts, if a KL term needs one and no adapter gives it."""
        adapted = kwargs.get("peft_config") is not None or causal_lm(model) is not model
        if args.beta == 0 or adapted:
            return None
        return copy.deepcopy(model).requires_grad_(False).eval()

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"  # pyright: ignore[reportOptionalMemberAccess]

    def _text_of(self, ids: Sequence[int]) -> str:
        tags = causal_lm(self.model).latent_tags if self.latent else None
        return read_completion(ids, self.processing_class, tags, self.eos_token_ids).text

    def _send_telemetry(self) -> None:
        """Off: TRL would report the trainer's use."""

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        made: Any = super()._get_train_sampler(dataset)
        return EpochSampler(
            made.data_source,
            made.mini_repeat_count,
            made.batch_size,
            made.repeat_count,
            made.shuffle,
            made.seed,
        )

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        """As TRL's; thoughts in a prompt get their slots, long prompts are cut where that was asked for."""
        prompt_ids, *rest = super()._tokenize_prompts(prompts)
        tags = causal_lm(self.model).latent_tags if self.latent else None
        if tags is not None:
            prompt_ids = [tags.expand(ids) for ids in prompt_ids]
        limit = prompt_limit(self.model, self.args)
        if self.args.long_prompts == "truncate" and limit:
            prompt_ids = [ids[-limit:] for ids in prompt_ids]
        if tags is not None:
            for ids in prompt_ids:
                tags.check(ids, "a prompt")
        return prompt_ids, *rest

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Completions from `rollout.py`; the latents they were made with are kept."""
        mode, config = self._mode, self.generation_config
        step, count = self._draws.get(mode, (-1, 0))
        count = count + 1 if step == self.state.global_step else 0
        self._draws[mode] = (self.state.global_step, count)
        seed = (self.args.seed, int(mode == "eval"), self.state.global_step, count)
        first = self.accelerator.process_index * len(prompt_ids)
        rows = range(first, first + len(prompt_ids))
        switches = {}
        if self.latent:
            switches = {
                "max_thoughts": self.args.max_thoughts,
                "max_latent_steps": self.args.max_latent_steps,
            }
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
            ) as model,
            torch.no_grad(),
            self.accelerator.autocast(),
        ):
            uniform = draws(seed, rows, config.max_new_tokens)
            made = self._roll_out(model, prompt_ids, uniform, **switches)
        if self.latent:
            self._keep(mode, prompt_ids, made)
        return [rollout.ids for rollout in made], None

    def _roll_out(self, model: Any, prompts: Any, uniform: Any, **how: Any) -> list[Rollout]:
        return roll_out(
            model,
            prompts,
            self.generation_config,
            uniform,
            self.args.rollout_batch_size,
            self.sharded and self.accelerator.num_processes > 1,
            **how,
        )

    def _keep(self, mode: str, prompts: Any, made: Sequence[Rollout]) -> None:
        self._kept[mode] = {
            row_key([*prompt, *rollout.ids]): rollout.latents
            for prompt, rollout in zip(prompts, made, strict=True)
            if rollout.latents is not None
        }

    def _generate(self, prompts: list[Any]) -> Any:
        """As TRL's; latent slots are marked as no action, and thoughts are counted."""
        prompt_ids, completion_ids, mask, *rest = super()._generate(prompts)
        tokenizer: Any = self.processing_class
        ends = {*self.eos_token_ids, tokenizer.pad_token_id}
        found = [(*counts(ids, self.latent_id), ids[-1] in ends) for ids in completion_ids]
        sums = torch.tensor(found, dtype=torch.float, device=self.accelerator.device)
        total, latent, thoughts, ended = self.accelerator.gather(sums).unbind(1)  # pyright: ignore[reportAttributeAccessIssue]
        metrics = self._metrics[self._mode]
        if self._mode == "train":
            self.generated_tokens += int((total - latent).sum())
        self._count_discrete(metrics, total - latent, ended.bool())
        metrics["latent/steps"].append(latent.mean().item())
        metrics["latent/total_tokens"].append(total.mean().item())
        metrics["latent/trigger_rate"].append((latent > 0).float().mean().item())
        metrics["latent/thoughts"].append(thoughts.mean().item())
        if bool(thoughts.sum()):
            metrics["latent/steps_per_thought"].append((latent.sum() / thoughts.sum()).item())
        metrics["latent/generated_tokens"].append(float(self.generated_tokens))
        metrics["non_finite_steps"].append(float(self.skipped_steps))
        if self.latent:
            spine: Any = backbone(self.accelerator.unwrap_model(self.model))
            metrics["latent/out_of_range"].append(float(spine.latents_out_of_range))
            mask = [[int(token != self.latent_id) for token in ids] for ids in completion_ids]
        return prompt_ids, completion_ids, mask, *rest

    def _count_discrete(self, metrics: Any, lengths: torch.Tensor, ended: torch.Tensor) -> None:
        """TRL's length figures, of discrete tokens alone: all `lengths`, and of rows that `ended`."""
        whole = lengths[ended] if ended.any() else lengths.new_zeros(1)
        for name, found in (("", lengths), ("_terminated", whole)):
            for kind in ("mean", "min", "max"):
                value = getattr(found, kind)().item()
                metrics[f"completions/{kind}{name}_length"][-1] = value

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        """As TRL's; rows are numbered, so that groups can be put together again."""
        output = super()._generate_and_score_completions(inputs)
        output["row"] = torch.arange(len(output["prompt_ids"]), device=output["prompt_ids"].device)
        return output

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's; but a group's completions stay together, whose prompt is then computed once."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._mode == "eval" or self._buffered_inputs is before or not self._buffered_inputs:
            return inputs
        parts: Any = self._buffered_inputs
        order = torch.cat([part["row"] for part in parts]).argsort()
        sizes = [len(part["row"]) for part in parts]
        for key, value in parts[0].items():
            if isinstance(value, torch.Tensor) and value.dim():
                whole = torch.cat([part[key] for part in parts])[order]
                for part, piece in zip(parts, whole.split(sizes), strict=True):
                    part[key] = piece
        return parts[self._step % len(parts)]

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        """As TRL's, and the length penalty; rewarded trajectories are kept for the refresh."""
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.args.length_penalty != "none":
            lengths = torch.tensor([len(ids) for ids in completion_ids_list], device=rewards.device)
            rewards[:, -1] = length_penalty(
                self.args.length_penalty,
                self.accelerator.gather(lengths),  # pyright: ignore[reportArgumentType]
                rewards[:, 0],
                self.num_generations if self._mode == "train" else self.num_generations_eval,
                self.max_completion_length,
                self.args.length_penalty_span,
            )
        unscorable = rewards.isnan().all(1).float().mean().item()
        self._metrics[self._mode]["unscorable"].append(unscorable)
        if self.latent and self._mode == "train" and self.args.refresh == "epoch":
            texts = [self._text_of(ids) for ids in completion_ids_list]
            pairs = [(x["example_index"], t) for x, t in zip(inputs, texts, strict=True)]
            gathered = gather_object(pairs)
            self.rewarded += [
                pair for pair, r in zip(gathered, rewards[:, 0].tolist(), strict=True) if r > 0
            ]
        return rewards

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Log-probabilities and entropies of the completions only, `(batch, logits_to_keep)`.

        The latent id is outside the softmax, as in sampling. A prompt that several rows share is computed
        once. The policy's latents are constants, those of the rollout unless `refill_latents`; the
        reference model finds its own.
        """
        log_probs, entropies = [], []
        size = batch_size or len(input_ids)
        for rows in torch.arange(len(input_ids)).split(size):
            ids, mask = input_ids[rows], attention_mask[rows]
            kept = self._kept_latents(model, ids, mask, logits_to_keep, rows)

            def score(inner: Any, ids: Any = ids, mask: Any = mask, kept: Any = kept) -> Any:
                return self._score(inner, ids, mask, logits_to_keep, kept, compute_entropy)

            with self.accelerator.autocast():
                found, entropy = model(inside=score)
            log_probs.append(found)
            entropies.append(entropy)
        return (
            torch.cat(log_probs),
            torch.cat(entropies) if compute_entropy else None,
            None,
        )

    def _kept_latents(
        self, model: Any, ids: Any, mask: Any, keep: int, rows: torch.Tensor
    ) -> list[torch.Tensor | None] | None:
        """Latents to put back in `rows` of a batch; None: the model finds its own."""
        if not self.latent or self._is_reference(model):
            return None
        known = self._kept[self._mode]
        return [known.get(row_key(row[real.bool()])) for row, real in zip(ids, mask, strict=True)]

    def _score(
        self, inner: Any, ids: Any, mask: Any, keep: int, kept: Any, with_entropy: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        states = self._states(inner, ids, mask, keep, kept)
        return completion_log_probs(
            inner, states, ids[:, -keep:], self.temperature, self.latent_id, with_entropy
        )

    def _states(self, inner: Any, ids: Any, mask: Any, keep: int, kept: Any) -> torch.Tensor:
        """States that predict the last `keep` ids, with the latents that the settings ask for."""
        if self.latent and self.args.refresh == "joint" and torch.is_grad_enabled():
            output = backbone(inner)(input_ids=ids, attention_mask=mask, use_cache=False)
            return output.last_hidden_state[:, -keep - 1 : -1]
        # a row that is masked out has no latents
        none = torch.zeros(0, inner.config.get_text_config().hidden_size, device=ids.device)
        kept = None if kept is None else [none if row is None else row for row in kept]
        replayed = None if self.args.refill_latents else kept
        states = completion_states(inner, ids, mask, keep, replayed)
        if kept is not None:
            self._log_drift(inner, states.detach(), ids, mask, keep, kept)
        return states

    @torch.no_grad()
    def _log_drift(
        self, inner: Any, states: Any, ids: Any, mask: Any, keep: int, kept: Sequence[torch.Tensor]
    ) -> None:
        """How far the kept latents are from those of the policy as it is now, relative to their norm."""
        slots = (ids[:, -keep:] == self.latent_id) & (mask[:, -keep:] == 1)
        before = states[slots]
        projector = backbone(inner).latent_projector
        weight = next(projector.parameters(), before)
        now = projector(before.to(weight.dtype)).double()
        then = torch.cat(list(kept)).to(now)
        drift = (now - then).norm(dim=1) / then.norm(dim=1).clamp(min=1e-12)
        # Every process takes part, also one without a latent.
        sums: Any = self.accelerator.gather(
            torch.stack([drift.sum(), drift.new_tensor(len(drift))])
        )
        total, count = sums.view(-1, 2).sum(0).tolist()
        if count:
            self._metrics[self._mode]["latent/drift"].append(total / count)

    def _is_reference(self, model: Any) -> bool:
        """Whether a pass is the reference's: its own model, or the policy without its adapter."""
        if model is self.ref_model:
            return True
        inner = self.accelerator.unwrap_model(model)
        if not hasattr(inner, "get_model_status"):
            return False
        status = inner.get_model_status()
        return status.enabled is False or "ref" in status.active_adapters

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """As the Trainer's; beside an adapter, the projector that the refresh has changed."""
        super()._save(output_dir, state_dict)
        if self.latent and causal_lm(self.model) is not self.model:
            state = {k: v.cpu() for k, v in projector_of(self.model).state_dict().items()}
            torch.save(state, f"{output_dir or self.args.output_dir}/{PROJECTOR_FILE}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.latent and causal_lm(self.model) is not self.model:
            path = f"{resume_from_checkpoint}/{PROJECTOR_FILE}"
            state = torch.load(path, map_location="cpu", weights_only=True)
            projector_of(self.model).load_state_dict(state)


PROJECTOR_FILE = "latent_projector.pt"
