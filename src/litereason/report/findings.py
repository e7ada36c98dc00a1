"""Plain sentences on what held and what did not, computed from the run's figures.

Every number in a sentence comes from the run. Whether arms differ is read off the paired interval
alone: when it holds 0 the sentence says that no difference was shown, which is not the same as
that there is none. No statistics are computed here.
"""

import dataclasses

from litereason.report import numbers
from litereason.report.run import Arm, Comparison, Run

HELD, PARTLY, NOT_SHOWN, FAILED = "Held", "Partly", "Not shown", "Did not hold"
UNTESTED, NOTE = "Not tested", "Note"

# The gain over the base model that shows that RL taught the task (points of accuracy / 100).
RL_GAIN = 0.20
# A loss of accuracy against RL that is called small: the whole interval must lie above minus this.
MARGIN = 0.05
# Below this share of samples with a thought the policy has in effect stopped thinking latently.
GONE = 0.05
# A larger share of samples cut at the token limit is worth a warning.
TRUNCATED = 0.05


@dataclasses.dataclass(frozen=True)
class Finding:
    """One claim, the verdict on it, and the sentences that give the figures."""

    verdict: str
    claim: str
    text: str


def findings(run: Run) -> list[Finding]:
    """All findings that the run's arms allow, then one line for what could not be tested."""
    found = [
        *_quick(run),
        *_rl_learns(run),
        *_accuracy_kept(run),
        *_fewer_tokens(run),
        *_latents_matter(run),
        *_reasoning_needed(run),
        *_still_thinking(run),
        *_blunt_ablations(run),
        *_warnings(run),
    ]
    return found + _untested(run)


def summary(run: Run) -> str:
    """The page's first sentence."""
    first = run.arms[0]
    lead = f"On the {first.split} split of {first.task}"
    main, rival = run.arm("litereason"), run.arm("rl")
    if main and rival:
        return f"{lead}, {_performance(run, main)}; {_performance(run, rival)}."
    if main:
        return f"{lead}, {_performance(run, main)}."
    best = max(run.arms, key=lambda arm: run.score(arm).mean)
    count = "one arm was" if len(run.arms) == 1 else f"{len(run.arms)} arms were"
    return f"{lead}, {count} evaluated; the best by mean: {_performance(run, best)}."


def _performance(run: Run, arm: Arm) -> str:
    verb = "reached" if run.metric == "accuracy" else "reached a reward of"
    return (
        f"{arm.title} {verb} {_score(run, arm)} with {numbers.tokens(arm.discrete_tokens)} "
        f"discrete tokens a sample ({numbers.count(arm.items)})"
    )


def _score(run: Run, arm: Arm) -> str:
    return numbers.score(run.score(arm), run.metric)


def _compare(run: Run, a: Arm, b: Arm) -> tuple[Comparison | None, str]:
    """The paired comparison of the score and the sentence that tells it."""
    scores = f"{a.title} reached {_score(run, a)} and {b.title} {_score(run, b)}"
    paired = run.difference(a.name, b.name, run.metric)
    if paired is None:
        return None, (
            f"{scores} ({numbers.count(a.items, b.items)}). The run holds no paired comparison of "
            "the two, so nothing is claimed."
        )
    if paired.holds_zero:
        told = numbers.difference(paired)
        return paired, f"No difference was shown. {scores}; {a.title} minus {b.title}: {told}."
    word, size = ("higher", paired) if paired.difference > 0 else ("lower", paired.flipped())
    return paired, f"{scores}: {a.title} is {word} by {numbers.difference(size, signed=False)}."


def _rl_learns(run: Run) -> list[Finding]:
    rl, base = run.arm("rl"), run.arm("base")
    if not (rl and base):
        return []
    paired, text = _compare(run, rl, base)
    if run.metric != "accuracy":
        return [Finding(_superiority(paired), "RL without latent steps beats the base model", text)]
    goal = f"{numbers.number(100 * RL_GAIN, 0)} points"
    claim = f"RL without latent steps beats the base model by at least {goal}"
    if paired is None:
        return [Finding(UNTESTED, claim, text)]
    if paired.low >= RL_GAIN:
        return [Finding(HELD, claim, text)]
    if paired.difference >= RL_GAIN:
        return [Finding(PARTLY, claim, f"{text} The interval reaches below {goal}.")]
    if paired.high < RL_GAIN:
        return [Finding(FAILED, claim, f"{text} The whole interval is below {goal}.")]
    return [Finding(NOT_SHOWN, claim, f"{text} {goal} are inside the interval but not reached.")]


def _accuracy_kept(run: Run) -> list[Finding]:
    ours, rl, base = run.arm("litereason"), run.arm("rl"), run.arm("base")
    if not (ours and rl):
        return []
    paired, text = _compare(run, ours, rl)
    gain = run.score(rl).mean - run.score(base).mean if base else 0
    if base and gain > 0:
        kept = (run.score(ours).mean - run.score(base).mean) / gain
        text += (
            f" In means, {ours.title} has {numbers.percent(kept, 0)} of {rl.title}'s gain over "
            f"{base.title}."
        )
    margin = MARGIN if run.metric == "accuracy" else 0.0
    claim = (
        f"{ours.title} stays within {numbers.number(100 * margin, 0)} points of RL without latent "
        "steps"
        if margin
        else f"{ours.title} has no lower reward than RL without latent steps"
    )
    if paired is None:
        return [Finding(UNTESTED, claim, text)]
    if paired.low >= -margin:
        return [Finding(HELD, claim, text)]
    if paired.high < -margin:
        return [Finding(FAILED, claim, text)]
    loss = numbers.number(-100 * paired.low) + " points" if margin else f"{-paired.low:.3f}"
    return [Finding(NOT_SHOWN, claim, f"{text} The interval leaves room for a loss of {loss}.")]


def _is_fewer(run: Run, a: Arm, b: Arm, metric: str) -> tuple[bool, str]:
    """Whether a's mean is shown to be below b's, and what shows it."""
    paired = run.difference(a.name, b.name, metric)
    if paired:
        return paired.high < 0, f"paired difference {numbers.difference(paired)}"
    separate = getattr(a, metric).high < getattr(b, metric).low
    return separate, f"the intervals {'do not overlap' if separate else 'overlap or are reversed'}"


def _fewer_tokens(run: Run) -> list[Finding]:
    ours, rl, base = run.arm("litereason"), run.arm("rl"), run.arm("base")
    if not (ours and rl):
        return []
    discrete, how_discrete = _is_fewer(run, ours, rl, "discrete_tokens")
    total, how_total = _is_fewer(run, ours, rl, "total_tokens")
    text = (
        f"{ours.title} wrote {numbers.tokens(ours.discrete_tokens)} discrete tokens a sample, "
        f"{rl.title} {numbers.tokens(rl.discrete_tokens)}: "
        f"{numbers.fewer(ours.discrete_tokens.mean, rl.discrete_tokens.mean)} than {rl.title} "
        f"({how_discrete}). With every latent step counted as a token: "
        f"{numbers.tokens(ours.total_tokens)} against {numbers.tokens(rl.total_tokens)}, "
        f"{numbers.fewer(ours.total_tokens.mean, rl.total_tokens.mean)} than {rl.title} "
        f"({how_total}); {numbers.count(ours.items, rl.items)}."
    )
    if base:
        text += (
            f" Against {base.title}'s {numbers.tokens(base.discrete_tokens)} discrete tokens it is "
            f"{numbers.fewer(ours.discrete_tokens.mean, base.discrete_tokens.mean)}."
        )
    verdict = HELD if discrete and total else PARTLY if discrete or total else NOT_SHOWN
    return [Finding(verdict, f"{ours.title} needs fewer tokens than RL without latent steps", text)]


def _superiority(paired: Comparison | None) -> str:
    """The verdict on "a is better than b"."""
    if paired is None:
        return UNTESTED
    if paired.holds_zero:
        return NOT_SHOWN
    return HELD if paired.difference > 0 else FAILED


def _other_row(run: Run) -> Arm | None:
    return next((arm for arm in run.arms if arm.ablation == "other_row"), None)


def _latents_matter(run: Run) -> list[Finding]:
    ours, found = run.arm("litereason"), []
    if not ours:
        return []
    controls = (
        (run.arm("pause"), "The latent steps do more than a trained pause"),
        (_other_row(run), "The latent steps carry what belongs to their own story"),
    )
    gone = ours.trigger_rate.mean < GONE
    for control, claim in controls:
        if control:
            paired, text = _compare(run, ours, control)
            # where hardly a thought is left, a difference is one of training, not of latent steps
            found.append(
                Finding(NOT_SHOWN if gone and paired else _superiority(paired), claim, text)
            )
    if found and gone:
        found.append(
            Finding(
                NOTE,
                "There was little to replace",
                f"Only {numbers.rate(ours.trigger_rate)} of {ours.title}'s samples hold a thought "
                f"({numbers.count(ours.items)}), so that the controls above say nothing of latent steps: "
                "where they differ, it is because the arms were trained apart.",
            )
        )
    return found


def _reasoning_needed(run: Run) -> list[Finding]:
    ours = run.arm("litereason") or run.arm("rl")
    control = run.arm("direct-rl") or run.arm("direct")
    if not (ours and control):
        return []
    paired, text = _compare(run, ours, control)
    verdict = _superiority(paired)
    if verdict == NOT_SHOWN:
        text += " That this task needs reasoning is not shown."
    elif verdict == FAILED:
        text += " Answering at once did better."
    return [Finding(verdict, f"Answering at once ({control.title}) does not do as well", text)]


def _still_thinking(run: Run) -> list[Finding]:
    rows = [
        (row["step"], row["trigger_rate"])
        for row in run.curves.get("rl", {}).get("litereason", [])
        if "trigger_rate" in row
    ]
    ours, claim = run.arm("litereason"), "The policy still uses thoughts at the end of RL"
    if not rows:
        return []
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
        text += f" At evaluation: {numbers.rate(ours.trigger_rate)}, {numbers.count(ours.items)}."
    if ours:
        end = min(end, ours.trigger_rate.mean)
    verdict = FAILED if end < GONE else PARTLY if end < start / 2 else HELD
    return [Finding(verdict, claim, text)]


def _blunt_ablations(run: Run) -> list[Finding]:
    ours = run.arm("litereason")
    blunt = [arm for arm in run.arms if arm.ablation not in (None, "other_row")]
    if not (ours and blunt):
        return []
    told = " ".join(_compare(run, ours, arm)[1] for arm in blunt)
    return [
        Finding(
            NOTE,
            "What happens when the latent steps are destroyed",
            f"{told} A drop here is no evidence of content: the policy may only miss the format it "
            "was trained on.",
        )
    ]


def _quick(run: Run) -> list[Finding]:
    if "quick: true" not in (run.config or ""):
        return []
    text = "It shows that every stage works; its models are hardly trained. Read no result off it."
    return [Finding(NOTE, "This was a quick run", text)]


def _warnings(run: Run) -> list[Finding]:
    found = []
    if cut := [arm for arm in run.arms if arm.truncated > TRUNCATED]:
        shares = "; ".join(
            f"{arm.title}: {numbers.percent(arm.truncated)} ({numbers.count(arm.items)})"
            for arm in cut
        )
        found.append(Finding(NOTE, "Many samples were cut at the token limit", f"{shares}."))
    for arm in run.arms:
        held = len({record.item for record in arm.records})
        if held != arm.items:
            text = f"{arm.title}: the summary counts {arm.items} items, its records hold {held}."
            found.append(Finding(NOTE, "Summary and records disagree", text))
    settings = {(arm.task, arm.split, arm.items, arm.samples) for arm in run.arms}
    if len(settings) > 1:
        told = "; ".join(
            f"{arm.title}: {arm.task}, {arm.split}, {arm.items} items x {arm.samples}"
            for arm in run.arms
        )
        found.append(Finding(NOTE, "The arms were not evaluated on the same samples", f"{told}."))
    return found


def _untested(run: Run) -> list[Finding]:
    names = {arm.name for arm in run.arms}
    absent = {
        "whether RL taught the task (arms rl, base)": not {"rl", "base"} <= names,
        "what latent steps cost or save (arms litereason, rl)": not {"litereason", "rl"} <= names,
        "whether latent steps do anything (arms litereason, pause, litereason-other-row)": (
            not {"litereason", "pause"} <= names or _other_row(run) is None
        ),
        "whether reasoning was needed (arm direct-rl)": not names & {"direct-rl", "direct"},
        "whether the policy kept its thoughts (rl/litereason/metrics.jsonl)": (
            not _still_thinking(run)
        ),
    }
    missing = [question for question, is_absent in absent.items() if is_absent]
    if not missing:
        return []
    told = "; ".join(missing)
    return [Finding(UNTESTED, "Left open by this run", f"{told[0].upper()}{told[1:]}.")]
