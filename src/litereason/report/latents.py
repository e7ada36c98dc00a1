"""Do the latent steps do anything? Each of our arms beside its controls.

Two controls can tell: an arm that was trained with a pause embedding in place of latents, and LiteReason
with the latents of another row. Where latents were told what to stand for, a third is a pause that was
told the same. Latents that are destroyed only show that a policy misses its format.
"""

from collections.abc import Iterable

from litereason.compare.pairs import OURS, PAUSE, TOLD
from litereason.report import numbers
from litereason.report.claims import (
    FAILED,
    HELD,
    NOT_SHOWN,
    NOTE,
    PARTLY,
    UNTESTED,
    Finding,
    compare,
    superiority,
    together,
)
from litereason.report.run import Arm, Comparison, Run

# Below this share of samples with a thought the policy has in effect stopped thinking latently.
GONE = 0.05
QUESTION = "Do the latent steps do anything?"


def gone(arm: Arm) -> bool:
    """Whether an arm takes hardly a latent step any more."""
    return arm.trigger_rate.mean < GONE


def controls_of(run: Run, ours: Arm) -> list[tuple[Arm, str]]:
    """The controls of an arm that have a result, each with what the latents would do more than it."""
    pairs = (
        (PAUSE[ours.name], "do more than a trained pause"),
        (TOLD.get(ours.name, ""), "do more than a pause that was told the same"),
        (f"{ours.name}-other-row", "carry what belongs to their own story"),
    )
    found = [(run.arm(name), more) for name, more in pairs]
    return [(arm, more) for arm, more in found if arm]


def lacking(ours: Arm, names: Iterable[str]) -> bool:
    """Whether one of the two controls that every arm has is not among `names`."""
    return not {PAUSE[ours.name], f"{ours.name}-other-row"} <= set(names)


def answers(run: Run) -> list[Finding]:
    """The question answered for each of our arms."""
    found = [_answer(run, arm) for arm in run.ours()]
    return found or [Finding(UNTESTED, QUESTION, "Not tested: the arm litereason has no result.")]


def _answer(run: Run, ours: Arm) -> Finding:
    """One sentence, with the paired differences to the controls."""
    controls = [arm for arm, _ in controls_of(run, ours)]
    paired = [(arm, run.difference(ours.name, arm.name, run.metric)) for arm in controls]
    known = [(arm, one) for arm, one in paired if one]
    if not known:
        return Finding(
            UNTESTED,
            QUESTION,
            f"Not tested: {ours.title} was compared neither with a trained pause nor with another row's "
            "latents.",
        )
    told = "; ".join(f"minus {arm.title}: {numbers.difference(one)}" for arm, one in known)
    if gone(ours):
        rate = numbers.rate(ours.trigger_rate)
        text = f"Nothing can be said of them: only {rate} of {ours.title}'s samples hold a thought"
        return Finding(NOT_SHOWN, QUESTION, f"{text} ({ours.title} {told}).")
    verdict = together([superiority(one) for _, one in known])
    half = lacking(ours, [arm.name for arm, _ in known])
    if verdict == HELD and half:
        verdict = PARTLY
    word = {HELD: "Yes", PARTLY: "In part", NOT_SHOWN: "It was not shown", FAILED: "No"}[verdict]
    more = "; the other control has no result" if half else ""
    return Finding(verdict, QUESTION, f"{word}: {ours.title} {told}{more}.")


def controls(run: Run) -> list[Comparison]:
    """Paired differences of an arm to what replaces its latents."""
    found = []
    for one in run.comparisons:
        b = run.arm(one.b)
        if b and one.metric == run.metric and one.a in OURS:
            pauses = (PAUSE.get(one.a), TOLD.get(one.a))
            found += [one] if b.ablation or b.name in pauses else []
    return found


def latents_matter(run: Run, ours: Arm) -> list[Finding]:
    """One finding for each control."""
    found = []
    kinds = {"distil": "distilled", "distil-rl": "distilled, then RL", "brief": "brief"}
    which = f" ({kinds[ours.name]})" if ours.name in kinds else ""
    for control, more in controls_of(run, ours):
        paired, text = compare(run, ours, control)
        # where hardly a thought is left, a difference is one of training, not of latent steps
        verdict = NOT_SHOWN if gone(ours) and paired else superiority(paired)
        claim = f"The latent steps{which} {more}"
        found.append(Finding(verdict, claim, text, short=f"latents {more}"))
    if found and gone(ours):
        text = (
            f"Only {numbers.rate(ours.trigger_rate)} of {ours.title}'s samples hold a thought "
            f"({numbers.judged(ours)}), so that the controls above say nothing of latent steps: where "
            "they differ, it is because the arms were trained apart."
        )
        found.append(Finding(NOTE, "There was little to replace", text))
    return found


def still_thinking(run: Run) -> list[Finding]:
    """Whether the policy went on thinking latently through RL, and at evaluation."""
    rows = run.mean_curve("rl", "litereason", "trigger_rate")
    ours = run.arm("litereason")
    if not rows:
        return []
    claim = f"{ours.title if ours else 'The policy'} still uses thoughts at the end of RL"
    width = max(1, len(rows) // 10)
    first, last = rows[:width], rows[-width:]
    start, end = (sum(rate for _, rate in part) / width for part in (first, last))
    steps = [f"step {first[0][0]:g}", f"step {last[-1][0]:g}"]
    if width > 1:
        steps = [f"mean of steps {part[0][0]:g} to {part[-1][0]:g}" for part in (first, last)]
    text = (
        f"The trigger rate (share of samples with a thought) went from {numbers.percent(start)} "
        f"({steps[0]}) to {numbers.percent(end)} ({steps[1]}) in training."
    )
    if ours:
        text += f" At evaluation: {numbers.rate(ours.trigger_rate)}, {numbers.judged(ours)}."
        end = min(end, ours.trigger_rate.mean)
    verdict = FAILED if end < GONE else PARTLY if end < start / 2 else HELD
    return [Finding(verdict, claim, text)]


def blunt_ablations(run: Run, ours: Arm) -> list[Finding]:
    """What happens when the latents are destroyed."""
    told = [
        compare(run, ours, arm)[1]
        for arm in run.arms
        if arm.ablation not in (None, "other_row")
        and run.difference(ours.name, arm.name, run.metric)
    ]
    if not told:
        return []
    claim = f"What happens when the latent steps of {ours.title} are destroyed"
    text = "A drop here is no evidence of content: the policy may only miss the format it was trained on."
    return [Finding(NOTE, claim, text, tuple(told))]
