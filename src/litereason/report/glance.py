"""What came out, at a glance: the first sentences, and what is asked of each of our arms, as one table.

Nothing is judged here: verdicts are those of the findings.
"""

import dataclasses
from collections.abc import Sequence

from litereason.report import numbers
from litereason.report.claims import HELD, PARTLY, Finding, score
from litereason.report.findings import FEWER, GOAL, kept
from litereason.report.run import Arm, Run


@dataclasses.dataclass(frozen=True)
class Grid:
    """Our arms and what is asked of them.

    Attributes:
        claims: in a few words, in the order in which they are asked.
        arms: RL, which ours are held against, ours, and the base.
        verdicts: by arm and claim; what was not asked of an arm is not there.
    """

    claims: tuple[str, ...]
    arms: tuple[Arm, ...]
    verdicts: dict[str, dict[str, str]]


def grid(run: Run, found: Sequence[Finding]) -> Grid | None:
    """The verdicts on our arms; None where nothing was asked of any."""
    asked = [one for one in found if one.arm and one.short]
    if not asked:
        return None
    verdicts: dict[str, dict[str, str]] = {}
    for one in asked:
        verdicts.setdefault(one.arm, {})[one.short] = one.verdict
    rl, base = ([arm] if (arm := run.arm(name)) else [] for name in ("rl", "base"))
    ours = [arm for arm in run.ours() if arm.name in verdicts]
    return Grid(tuple(dict.fromkeys(one.short for one in asked)), (*rl, *ours, *base), verdicts)


def title(run: Run) -> str:
    """What the page is of: `Stories: 37 arms under 3 seeds`."""
    task = (run.task or "no task").replace("_", " ")
    count = len({arm.name for arm in (*run.arms, *run.failed)})
    under = f" under {len(run.seeds)} seeds" if len(run.seeds) > 1 else ""
    return f"{task[0].upper()}{task[1:]}: {count} arm{'' if count == 1 else 's'}{under}"


def summary(run: Run, found: Sequence[Finding]) -> str:
    """The page's first sentences."""
    if not run.arms:
        return "No arm has a result: all of them failed. The reasons are below."
    told = "; ".join(_failure(arm) for arm in run.failed)
    return f"{_result(run, found)} Failed: {told}." if told else _result(run, found)


def _failure(arm: Arm) -> str:
    some = f" (under some seeds; {len(arm.seeds)} have a result)" if arm.evaluations else ""
    return f"{arm.title}{some}"


def _result(run: Run, found: Sequence[Finding]) -> str:
    """What our arms reached beside RL, or the best arm."""
    over = f", over {len(run.seeds)} seeds" if len(run.seeds) > 1 else ""
    lead = f"On the {run.split} split of {run.task}{over}"
    ours, rl = run.ours(), run.arm("rl")
    if rl and len(ours) > 1:
        return f"{lead}, {_performance(run, rl)}. {_ours(run, rl, found)}"
    if rl and ours:
        told = f"{lead}, {_performance(run, ours[0])}; {_performance(run, rl)}."
        return f"{told} {_kept(run, ours[0], rl)}".strip()
    if ours:
        return f"{lead}, {_performance(run, ours[0])}."
    count = "one arm was" if len(run.arms) == 1 else f"{len(run.arms)} arms were"
    return f"{lead}, {count} evaluated; the best by mean: {_performance(run, _best(run))}."


def _best(run: Run) -> Arm:
    return max(run.arms, key=lambda arm: run.score(arm).mean)


def _ours(run: Run, rl: Arm, found: Sequence[Finding]) -> str:
    """Which of our arms did what they are for, and which arm is the best by its mean."""
    said = {(one.arm, one.short): one.verdict for one in found}

    def those(*shorts: str, verdict: str = HELD) -> list[Arm]:
        return [a for a in run.ours() if all(said.get((a.name, s)) == verdict for s in shorts)]

    def named(arms: Sequence[Arm]) -> str:
        return "; ".join(_briefly(run, arm, rl) for arm in arms)

    near = named(those(kept(run), FEWER)) or "not shown for any of ours"
    goal = named(those(GOAL)) or "none of ours"
    if partly := those(GOAL, verdict=PARTLY):
        goal += f" (in part: {'; '.join(arm.title for arm in partly)})"
    told = kept(run)
    return (
        f"{told[0].upper()}{told[1:]}, with fewer tokens, latent steps counted: {near}. {GOAL}: {goal}. "
        f"The best of all arms by its mean: {_briefly(run, _best(run), rl)}."
    )


def _briefly(run: Run, arm: Arm, rl: Arm) -> str:
    saved = arm.saved.get("rl")
    if saved and arm is not rl:
        return f"{arm.title}, {score(run, arm)} with {numbers.fewer(saved.total)} tokens"
    return f"{arm.title}, {score(run, arm)} with {numbers.tokens(arm.total_tokens)} tokens"


def _performance(run: Run, arm: Arm) -> str:
    verb = "reached" if run.metric == "accuracy" else "reached a reward of"
    return (
        f"{arm.title} {verb} {score(run, arm)} with {numbers.tokens(arm.discrete_tokens)} "
        f"discrete tokens a sample ({numbers.judged(arm)})"
    )


def _kept(run: Run, ours: Arm, rl: Arm) -> str:
    """What is left of RL's gain, and what is saved; nothing where no interval is known."""
    base, parts = run.arm("base"), []
    if base and ours.recovered:
        share = numbers.share(ours.recovered)
        parts.append(f"recovers {share} of the gain of {rl.title} over {base.title}")
    if saved := ours.saved.get("rl"):
        less = numbers.fewer(saved.total)
        parts.append(f"needs {less} tokens than {rl.title}, latent steps counted")
    return f"{ours.title} {' and '.join(parts)}." if parts else ""
