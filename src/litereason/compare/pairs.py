"""Which arms are compared with which, and which comparisons are corrected together.

A family is one question about one metric; Holm's correction is over a family's pairs. The questions:

- *premise*: did RL teach anything? RL against base, alone, however many other arms there are.
- *ours*: does LiteReason (the paper's, distilled, distilled before RL, brief) keep what RL has, in fewer
  tokens? The four against rl: the main question, so no control crowds it.
- *rl*: what do the others cost against ordinary RL? Every other arm against rl.
- *base*: does an arm change anything? Every other arm against base.
- *latents*: do the latents do anything? The four against their ablations and their own trained pauses;
  distilled ones also against a pause that was told the same.
- *rivals*: is it ahead of the other latent methods? The four against each of them.
- *words*: is it ahead of other reasoning in words? All of ours against RL with a length penalty; the four
  against the base decoded greedily; the distilled and the brief one also against that penalty after RL, as
  much plain RL, and their own traces learned in words.
- *reasoning*: does the task need any? RL and the four against direct RL.
- *variants*: does a setting matter? An arm under other settings against the arm.

Ablated arms answer that of the latents only, so they do not crowd the others.
"""

from collections.abc import Iterator, Mapping, Sequence

METRICS = ("accuracy", "total_tokens", "discrete_tokens")
# Our arms, and the trained pause that each is held against.
PAUSE = {
    "litereason": "pause",
    "distil": "distil-pause",
    "distil-rl": "distil-rl-pause",
    "brief": "brief-pause",
}
# The pause that was told what the latents were told (docs/research.md).
TOLD = {"distil": "distil-pause-told", "brief": "brief-pause-told"}
MAIN = tuple(PAUSE)
OURS = (*MAIN, "litereason-lp", "distil-lp")
# Reasoning in words beside plain RL, and which of ours are held against it.
WORDS = {
    "rl-lp": OURS,
    "soft-thinking-one": MAIN,  # greedy decoding
    "rl-longer": ("distil", "brief"),
    "brief-rl": ("distil", "brief"),
    "distil-words": ("distil",),
    "brief-words": ("brief",),
}
# Without `soft-thinking-cold`: where no marker ends thinking, it reasons in words after some soft steps.
RIVALS = ("coconut", "colar", "colar-2", "colar-rl", "mixture-of-inputs", "soft-thinking")


def pairs(
    ablations: Mapping[str, str | None], variants: Mapping[str, str] | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """(question, arm, other arm, metric) of every comparison that the arms allow.

    Args:
        ablations: what each arm's latents are replaced by, by the arm's name; None for a real arm.
        variants: the arm of each variant, by the variant's name.
    """
    variants = variants or {}
    whole = [a for a, ablation in ablations.items() if ablation is None and a not in variants]
    wanted: list[tuple[str, str, str, Sequence[str]]]
    wanted = [("premise", "rl", "base", METRICS)]
    others = [arm for arm in whole if arm not in ("base", "rl")]
    wanted += [("base", arm, "base", METRICS) for arm in others]
    wanted += [("ours" if arm in MAIN else "rl", arm, "rl", METRICS) for arm in others]
    for arm in OURS:
        for pause in (PAUSE.get(arm), TOLD.get(arm)):
            if pause:
                wanted.append(("latents", arm, pause, ("accuracy", "discrete_tokens")))
        wanted += [("latents", arm, one, METRICS[:1]) for one in ablations_of(arm, ablations)]
    wanted += [("rivals", arm, rival, METRICS) for arm in MAIN for rival in RIVALS]
    wanted += [("words", arm, one, METRICS) for one, ours in WORDS.items() for arm in ours]
    wanted += [("reasoning", arm, "direct-rl", METRICS[:1]) for arm in ("rl", *MAIN)]
    wanted += [("variants", one, arm, METRICS) for one, arm in variants.items()]
    for question, a, b, metrics in wanted:
        if a in ablations and b in ablations:
            for metric in metrics:
                yield question, a, b, metric


def ablations_of(arm: str, ablations: Mapping[str, str | None]) -> list[str]:
    """The ablated arms of `arm`, which are named after it (`litereason-noise`)."""

    def parent(name: str) -> str:
        return max((one for one in OURS if name.startswith(f"{one}-")), key=len, default="")

    return [name for name, ablation in ablations.items() if ablation and parent(name) == arm]
