"""Plain sentences on what held and what did not, computed from the run's figures.

Every number in a sentence comes from the run. No statistics are computed here.
"""

import dataclasses
from collections.abc import Sequence

from litereason.compare.pairs import RIVALS, WORDS
from litereason.report import numbers
from litereason.report.claims import (
    FAILED,
    HELD,
    MARKS,
    NOT_SHOWN,
    NOTE,
    PARTLY,
    UNTESTED,
    Finding,
    ahead,
    compare,
    score,
    superiority,
    together,
)
from litereason.report.latents import (
    blunt_ablations,
    controls_of,
    gone,
    lacking,
    latents_matter,
    still_thinking,
)
from litereason.report.run import Arm, Record, Run, parsed

# The gain over the base model that shows that RL taught the task (points of accuracy / 100).
RL_GAIN = 0.20
# A loss of accuracy against RL that is called small: the whole interval must lie above minus this.
MARGIN = 0.05
# The paper's claim at its best: so much of RL's gain, with so many fewer tokens than RL.
GAIN_KEPT, TOKENS_SAVED = 0.90, 0.70
# What is asked of each of our arms, in a word or two.
FEWER = "fewer tokens than RL"
GOAL = f"{numbers.percent(GAIN_KEPT, 0)} of RL's gain with {numbers.percent(TOKENS_SAVED, 0)} fewer tokens"
# A larger share of samples cut at the token limit is worth a warning.
TRUNCATED = 0.05


def findings(run: Run) -> list[Finding]:
    """All findings that the run's arms allow, then one line for what could not be tested."""
    found = [
        *_told(run),
        *_rl_learns(run),
        *(one for arm in run.ours() for one in _of_ours(run, arm)),
        *_reasoning_needed(run),
        *still_thinking(run),
        *(one for arm in run.ours() for one in blunt_ablations(run, arm)),
        *_warnings(run),
    ]
    return found + _untested(run)


def _of_ours(run: Run, ours: Arm) -> list[Finding]:
    """What is asked of each of our arms."""
    found = [
        *_accuracy_kept(run, ours),
        *_fewer_tokens(run, ours),
        *_goal(run, ours),
        *_rivals(run, ours),
        *latents_matter(run, ours),
    ]
    return [dataclasses.replace(one, arm=ours.name) for one in found]


def _rl_learns(run: Run) -> list[Finding]:
    rl, base = run.arm("rl"), run.arm("base")
    if not (rl and base):
        return []
    paired, text = compare(run, rl, base)
    if run.metric != "accuracy":
        return [Finding(superiority(paired), "RL without latent steps beats the base model", text)]
    goal = f"{numbers.number(100 * RL_GAIN, 0)} points"
    claim = f"RL without latent steps beats the base model by at least {goal}"
    if paired is None or not paired.shown:
        return [Finding(superiority(paired), claim, text)]
    if paired.low >= RL_GAIN:
        return [Finding(HELD, claim, text)]
    if paired.difference >= RL_GAIN:
        return [Finding(PARTLY, claim, f"{text} The interval reaches below {goal}.")]
    if paired.high < RL_GAIN:
        return [Finding(FAILED, claim, f"{text} The whole interval is below {goal}.")]
    return [Finding(NOT_SHOWN, claim, f"{text} {goal} are inside the interval but not reached.")]


def _accuracy_kept(run: Run, ours: Arm) -> list[Finding]:
    rl, base = run.arm("rl"), run.arm("base")
    if not rl:
        return []
    paired, text = compare(run, ours, rl)
    if base and ours.recovered:
        share = numbers.share(ours.recovered)
        text += f" {ours.title} recovers {share} of the gain of {rl.title} over {base.title}."
    margin = margin_of(run)
    claim = (
        f"{ours.title} stays within {numbers.number(100 * margin, 0)} points of RL without latent "
        "steps"
        if margin
        else f"{ours.title} has no lower reward than RL without latent steps"
    )
    if paired is None:
        return [Finding(UNTESTED, claim, text, short=kept(run))]
    if paired.low >= -margin:
        return [Finding(HELD, claim, text, short=kept(run))]
    if paired.high < -margin:
        return [Finding(FAILED, claim, text, short=kept(run))]
    loss = numbers.number(-100 * paired.low) + " points" if margin else f"{-paired.low:.3f}"
    text += f" The interval leaves room for a loss of {loss}."
    return [Finding(NOT_SHOWN, claim, text, short=kept(run))]


def _is_fewer(run: Run, a: Arm, b: Arm, metric: str) -> tuple[str, str]:
    """The verdict on "a's mean is below b's", and what shows it."""
    if paired := run.difference(a.name, b.name, metric):
        return superiority(paired.flipped()), f"paired difference {numbers.difference(paired)}"
    ours, other = getattr(a, metric), getattr(b, metric)
    verdict = HELD if ours.high < other.low else FAILED if ours.low > other.high else NOT_SHOWN
    return verdict, f"the intervals {'overlap' if verdict == NOT_SHOWN else 'do not overlap'}"


def _fewer_tokens(run: Run, ours: Arm) -> list[Finding]:
    rl, base = run.arm("rl"), run.arm("base")
    if not rl:
        return []
    discrete, how_discrete = _is_fewer(run, ours, rl, "discrete_tokens")
    total, how_total = _is_fewer(run, ours, rl, "total_tokens")
    text = (
        f"{ours.title} wrote {numbers.tokens(ours.discrete_tokens)} discrete tokens a sample, "
        f"{rl.title} {numbers.tokens(rl.discrete_tokens)}: "
        f"{_less(ours, rl, 'discrete')} than {rl.title} "
        f"({how_discrete}). With every latent step counted as a token: "
        f"{numbers.tokens(ours.total_tokens)} against {numbers.tokens(rl.total_tokens)}, "
        f"{_less(ours, rl, 'total')} than {rl.title} ({how_total}); {numbers.judged(ours, rl)}."
    )
    if base:
        text += (
            f" Against {base.title}'s {numbers.tokens(base.discrete_tokens)} discrete tokens it is "
            f"{_less(ours, base, 'discrete')}."
        )
    verdict = discrete if discrete == total else PARTLY if HELD in (discrete, total) else total
    if total == FAILED:
        text += " Latent steps counted, it is longer."
    claim = f"{ours.title} needs fewer tokens than RL without latent steps"
    return [Finding(verdict, claim, text, short=FEWER)]


def _less(ours: Arm, other: Arm, kind: str) -> str:
    """How many tokens fewer, with the interval where it is known; `kind`: discrete or total."""
    if saved := ours.saved.get(other.name):
        return numbers.fewer(getattr(saved, kind))
    means = [getattr(arm, f"{kind}_tokens").mean for arm in (ours, other)]
    return numbers.fewer_means(*means)


def _goal(run: Run, ours: Arm) -> list[Finding]:
    rl, saved = run.arm("rl"), ours.saved.get("rl")
    if not (rl and ours.recovered and saved):
        return []
    claim = (
        f"{ours.title} keeps at least {numbers.percent(GAIN_KEPT, 0)} of RL's gain with at least "
        f"{numbers.percent(TOKENS_SAVED, 0)} fewer tokens"
    )
    goals = ((ours.recovered, GAIN_KEPT), (saved.total, TOKENS_SAVED))
    text = (
        f"It recovers {numbers.share(ours.recovered)} of the gain and needs "
        f"{numbers.fewer(saved.total)} tokens than {rl.title}, latent steps counted "
        f"({numbers.judged(ours, rl)}); {numbers.fewer(saved.discrete)} that are written."
    )
    verdict, more = NOT_SHOWN, " The goals are not reached, but inside the intervals."
    if all(share.low >= goal for share, goal in goals):
        verdict, more = HELD, ""
    elif all(share.mean >= goal for share, goal in goals):
        verdict, more = PARTLY, " An interval reaches below its goal."
    elif any(share.high < goal for share, goal in goals):
        verdict, more = FAILED, ""
    written = ours.recovered.low >= GAIN_KEPT and saved.discrete.low >= TOKENS_SAVED
    if written and verdict in (FAILED, NOT_SHOWN):
        more += " Of what is written alone it holds."
    return [Finding(verdict, claim, text + more, short=GOAL)]


def kept(run: Run) -> str:
    """What `_accuracy_kept` asks, in a few words."""
    margin = margin_of(run)
    return (
        f"within {numbers.number(100 * margin, 0)} points of RL" if margin else "no worse than RL"
    )


def margin_of(run: Run) -> float:
    """A difference of the score that is called small."""
    return MARGIN if run.metric == "accuracy" else 0.0


def _rivals(run: Run, ours: Arm) -> list[Finding]:
    """One of ours beside other latent methods, and beside other reasoning in words."""
    return [
        *_ahead_of(run, ours, RIVALS, "the other latent methods", latent=True),
        *_ahead_of(run, ours, [*WORDS], "other reasoning in words"),
    ]


def _ahead_of(
    run: Run, ours: Arm, rivals: Sequence[str], called: str, latent: bool = False
) -> list[Finding]:
    """One of ours beside those of `rivals` that it is compared with; those that failed are named.

    Args:
        latent: as a latent method: an arm without latent steps is none.
    """
    there = [arm for arm in run.arms if arm.name in rivals]
    pairs = [(arm, run.difference(ours.name, arm.name, run.metric)) for arm in there]
    known = [(arm, one) for arm, one in pairs if one]
    if not known:
        return []
    verdicts, told = [], []
    for arm, one in known:
        longer = run.difference(ours.name, arm.name, "total_tokens")
        verdicts.append(ahead(one, longer, margin_of(run)))
        more = f", with {numbers.size(longer)} tokens" if longer else ""
        more += _at_chance(run, arm)
        mark = MARKS[verdicts[-1]]
        told.append(f"{mark}{ours.title} minus {arm.title}: {numbers.difference(one)}{more}.")
    for arm in run.failed:
        if arm.name in rivals and arm not in there:
            verdicts.append(NOT_SHOWN)
            told.append(f"{MARKS[NOT_SHOWN]}{arm.title} failed, and is not compared.")
    much = f" by more than {numbers.number(100 * MARGIN, 0)} points" if margin_of(run) else ""
    text = f"Ahead is an arm that scores higher{much}, or no lower{much} with fewer tokens"
    claim = f"{ours.title} is ahead of {called}"
    text += ", latent steps counted."
    if margin_of(run):
        text += " The whole interval decides, uncorrected; p is of any difference at all."
    verdict = together(verdicts)
    if latent and verdict != FAILED and gone(ours):
        verdict = NOT_SHOWN
        text += (
            f" {ours.title} takes no latent steps any more: what is ahead is reasoning in words."
        )
    return [Finding(verdict, claim, text, tuple(told), short=f"ahead of {called}")]


def _at_chance(run: Run, arm: Arm) -> str:
    """Says so where an arm is not shown to score more than the commonest answer, always given, would."""
    majority = run.majority
    if majority is None or run.score(arm).low > majority[1]:
        return ""
    return (
        f" ({arm.title} is not shown to beat always giving the commonest answer: {score(run, arm)})"
    )


def _reasoning_needed(run: Run) -> list[Finding]:
    ours = next(iter(run.ours()), None) or run.arm("rl")
    control = run.arm("direct-rl") or run.arm("direct")
    if not (ours and control):
        return []
    paired, text = compare(run, ours, control)
    verdict = superiority(paired)
    if verdict == NOT_SHOWN:
        text += " That this task needs reasoning is not shown."
    elif verdict == FAILED:
        text += " Answering at once did better."
    return [Finding(verdict, f"Answering at once ({control.title}) does not do as well", text)]


def _told(run: Run) -> list[Finding]:
    """What whoever made the run wants a reader to know first."""
    note = (parsed(run.config or "").get("settings") or {}).get("note")
    return [Finding(NOTE, "About this run", note)] if note else []


def _warnings(run: Run) -> list[Finding]:
    found = []
    if cut := [arm for arm in run.arms if arm.truncated > TRUNCATED]:
        shares = "; ".join(
            f"{arm.title}: {numbers.percent(arm.truncated)} ({numbers.judged(arm)})" for arm in cut
        )
        found.append(Finding(NOTE, "Many samples were cut at the token limit", f"{shares}."))
    if blind := [told for arm in run.arms if (told := _blind(arm))]:
        told = "; ".join(blind)
        text = f"{told}. What such arms keep or save is no reasoning."
        found.append(
            Finding(NOTE, "Some arms are right on one answer alone, whatever the item", text)
        )
    if fixed := [arm.title for arm in run.arms if _seeds_are_one(arm)]:
        text = f"{'; '.join(fixed)}. Their seeds say no more than one would."
        found.append(Finding(NOTE, "Some arms wrote the same under every seed", text))
    for one in [one for arm in run.arms for one in arm.evaluations]:
        held = len({record.item for record in one.records})
        if held != one.items:
            text = f"{one.title}: the summary counts {one.items} items, its records hold {held}."
            found.append(Finding(NOTE, "Summary and records disagree", text))
    first = [arm.evaluations[0] for arm in run.arms]
    if len({(one.task, one.split, one.items, one.samples) for one in first}) > 1:
        told = "; ".join(
            f"{one.title}: {one.task}, {one.split}, {one.items} items x {one.samples}"
            for one in first
        )
        found.append(Finding(NOTE, "The arms were not evaluated on the same samples", f"{told}."))
    if len(commits := run.commits()) > 1:
        told = "; ".join(f"{commit[:7]}: {count}" for commit, count in commits.most_common())
        text = f"Stages by commit: {told}. The settings of every stage, at the end, name its own."
        found.append(Finding(NOTE, "The stages were run by several commits of the code", text))
    return found


def _blind(arm: Arm) -> str:
    """The answer that an arm is right on alone, and under how many of its seeds; empty if none."""
    found = [only_answer(one.records) for one in arm.evaluations]
    answers = dict.fromkeys(answer for answer in found if answer is not None)
    if not answers:
        return ""
    said = ", ".join(f"“{answer}”" for answer in answers)
    count = sum(answer is not None for answer in found)
    seeds = f" (under {count} of {len(found)} seeds)" if len(found) > 1 else ""
    return f"{arm.title}: {said}{seeds}"


def _seeds_are_one(arm: Arm) -> bool:
    """Whether an arm of several seeds wrote the same under all of them."""
    wrote = [
        {(r.item, r.sample): [span[:2] for span in r.spans] for r in one.records}
        for one in arm.evaluations
    ]
    return len(wrote) > 1 and all(one == wrote[0] for one in wrote)


def only_answer(records: Sequence[Record]) -> str | None:
    """The answer that is right wherever it is asked for while no other ever is: it looks at no item."""
    right = {record.label for record in records if record.correct}
    wrong = {record.label for record in records if not record.correct}
    return right.pop() if len(right) == 1 and wrong and not right & wrong else None


def _untested(run: Run) -> list[Finding]:
    names = {arm.name for arm in run.arms}
    ours = run.ours()
    absent = {
        "whether RL taught the task (arms rl, base)": not {"rl", "base"} <= names,
        "what latent steps cost or save (arms litereason, rl)": not ours or "rl" not in names,
        "whether latent steps do anything (arms litereason, pause, litereason-other-row)": (
            all(lacking(arm, [one.name for one, _ in controls_of(run, arm)]) for arm in ours)
        ),
        "whether reasoning was needed (arm direct-rl)": not names & {"direct-rl", "direct"},
        "whether the policy kept its thoughts (rl/litereason/metrics.jsonl)": (
            not still_thinking(run)
        ),
    }
    missing = [question for question, is_absent in absent.items() if is_absent]
    if not missing:
        return []
    told = "; ".join(missing)
    return [Finding(UNTESTED, "Left open by this run", f"{told[0].upper()}{told[1:]}.")]
