"""Next-chapter prediction: plan the next chapter of a novel; a plan is worth what it tells a frozen model.

The reference model reads the story's information, then the plan, then the true next chapter; what counts is
how much likelier the plan makes the chapter: VR-CLI (arXiv 2503.22828), or LiteReason's contrastive
improvement (arXiv 2512.02240). What is left out: making the pairs (`litereason books`), and how likelihoods
are computed (`likelihood.py`).
"""

import functools
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from litereason import files, stats
from litereason.console import progress
from litereason.errors import ConfigError, DataError
from litereason.tasks.base import Example, Task, check_mode
from litereason.tasks.plot_holes import SILENT

if TYPE_CHECKING:  # it imports torch
    from litereason.likelihood import Reference

SCORES = ("vr_cli", "contrastive")
STEPS = ((2.0, 1.0), (1.0, 0.9), (0.05, 0.5))  # improvement from which on VR-CLI pays so much
FIELDS: dict[str, type] = {
    **dict.fromkeys(("id", "book", "plot_summary", "summary_so_far", "previous_chapter"), str),
    **dict.fromkeys(("synopsis", "header", "next_chapter", "split"), str),
    **dict.fromkeys(("chapter", "words"), int),
    "characters": list,
}
SECTIONS = {  # in the prompt's order
    "plot_summary": "Plot of the whole story",
    "summary_so_far": "What has happened so far",
    "characters": "Characters",
    "previous_chapter": "Previous chapter",
    "synopsis": "Synopsis of the next chapter",
}
ASK = "Here is what is known of a novel, up to the end of a chapter. Plan the chapter that comes next."
THINK = (
    "First reason in pairs: <citation>source A says X</citation>, therefore <reasoning>Y</reasoning>, "
    "where a source is one of the headings below, X is what it says, and Y is what follows from it."
)
PLAN = 'one paragraph that begins with "In summary:" and tells, in detail, what the next chapter holds.'
INSTRUCTIONS = {
    "plain": f"{ASK} {THINK} End with {PLAN}",
    "latent": f"{ASK} {THINK} {SILENT} End with {PLAN}",
    "direct": f"{ASK} Answer at once, without any reasoning, with {PLAN}",
}
MARK = re.compile(
    r"(?im)(?<![^\W_])(?:in summary[*_]{0,3}[:,]|detailed plan[*_]{0,3}:)[*_]{0,3}"
    # as a heading, or in bold on a line of its own
    r"|^[\t ]*(?:#|\*\*|__)[#*_\t ]*(?:in summary|detailed plan)[#*_\t\r ]*$"
)
THOUGHT = re.compile(r"<(\w+)>\s*[0-9]+\s*</\1>")
TAG = re.compile(r"</?\w+>")


def plan_of(completion: str, unmarked: bool = False) -> str | None:
    """What follows the last "In summary:", "In summary," or "Detailed Plan:", without tags; or None.

    A mark may be bold, and a heading needs no colon. What holds no letter and no digit is no plan.

    Args:
        unmarked: a completion without any of them is a plan as a whole.
    """
    *_, last = [None, *MARK.finditer(completion)]
    if last is None and not unmarked:
        return None
    text = completion[last.end() :] if last else completion
    plan = TAG.sub("", THOUGHT.sub("", text)).strip()
    for bold in ("**", "__", "*", "_"):  # the whole paragraph, its mark included, may be bold
        if plan.count(bold) % 2:
            plan = plan.removesuffix(bold)
    return plan if re.search(r"[^\W_]", plan) else None


def improvement(baseline: float, loss: float) -> float:
    """By how many per cent a plan lowers the perplexity, from two mean losses in nats a token.

    100 (PPL(y|x) - PPL(y|x,a)) / PPL(y|x), with PPL = exp(loss) (arXiv 2503.22828).
    """
    return -100 * math.expm1(loss - baseline)


def vr_cli(found: float) -> float:
    """VR-CLI's reward of an improvement in per cent (arXiv 2503.22828)."""
    return next((reward for least, reward in STEPS if found >= least), 0.0)


def contrastive(true: float, other: float) -> float:
    """The improvement of the true chapter less half that of another story's (arXiv 2512.02240)."""
    return true - 0.5 * other


class NextChapterTask(Task):
    """Plan the next chapter of a novel.

    Args:
        data: `pairs.jsonl` of `litereason books`, or the directory that holds it.
        reference: the frozen model that judges: a path, a hub id, or a name that `litereason get` knows.
        score: `vr_cli`, or `contrastive` with a chapter of another book, one an item.
        previous_words: how much of the previous chapter's end is shown, to policy and reference alike;
            default: all.
        score_tokens: score the first tokens of a chapter only; default: all.
        plan_tokens: the reference reads so much of a plan at most.
        unmarked: a completion without the mark of a plan is one as a whole: for models too small to write
            the mark, in the mode `direct`.
        seed: of the draw of other books' chapters and plans.
        cache: where likelihoods without a plan are kept; default: the user's cache directory.

    Raises:
        ConfigError: an option that cannot work.
    """

    name = "next_chapter"

    def __init__(
        self,
        data: str,
        reference: str = "smollm2-135m",
        score: str = "vr_cli",
        previous_words: int | None = None,
        score_tokens: int | None = None,
        plan_tokens: int = 512,
        unmarked: bool = False,
        seed: int = 0,
        cache: str | None = None,
    ) -> None:
        if score not in SCORES:
            raise ConfigError(f"score is {score!r}; expected one of {', '.join(SCORES)}")
        for name, bound in (
            ("previous_words", previous_words),
            ("score_tokens", score_tokens),
            ("plan_tokens", plan_tokens),
        ):
            if bound is not None and bound < 1:
                raise ConfigError(f"{name} is {bound}; expected at least 1")
        self.data, self.reference_name, self.score = data, reference, score
        self.previous_words, self.score_tokens = previous_words, score_tokens
        self.plan_tokens, self.unmarked, self.seed, self.cache = plan_tokens, unmarked, seed, cache
        self._last: dict[tuple[str, str], dict[str, float]] = {}  # of the last batch, for metrics

    @functools.cached_property
    def reference(self) -> "Reference":
        from litereason.likelihood import Reference

        return Reference(self.reference_name, self.cache)

    def pairs(self) -> list[dict[str, Any]]:
        """The pairs of all splits, checked."""
        path = Path(self.data).expanduser()
        path = path / "pairs.jsonl" if path.is_dir() else path
        rows = files.read_jsonl(path)
        for number, row in enumerate(rows, 1):
            check_pair(row, f"{path}, line {number}")
        return rows

    def examples(self, split: str, limit: int | None = None) -> list[Example]:
        rows = self.pairs()
        chosen = [row for row in rows if row["split"] == split][:limit]
        if not chosen:
            names = sorted({row["split"] for row in rows})
            raise DataError(f"{self.data} has no pairs of split {split!r}; its splits are {names}")
        if self.score == "contrastive":
            chosen = [row | {"other_chapter": self._other_chapter(row, rows)} for row in chosen]
        found = [Example(row["id"], row["previous_chapter"], "", row) for row in chosen]
        for example in found:
            self._check_length(example)
        return found

    def prompt(self, example: Example, mode: str = "plain") -> str:
        start = INSTRUCTIONS[check_mode(mode)]
        header = f"## Header of the next chapter\n\n{example.fields['header']}"
        return f"{start}\n\n{self.information(example.fields)}{header}"

    def sections(self, fields: dict[str, Any]) -> dict[str, str]:
        """What policy and reference both read of a pair, by field, in order."""
        told = fields | {"characters": "\n\n".join(fields["characters"])}
        if self.previous_words:
            words = re.findall(r"\S+\s*", told["previous_chapter"])
            told["previous_chapter"] = "".join(words[-self.previous_words :])
        return {name: told[name].strip() for name in SECTIONS}

    def information(self, fields: dict[str, Any]) -> str:
        """The same as text with headings."""
        told = self.sections(fields)
        return "".join(f"## {SECTIONS[name]}\n\n{text}\n\n" for name, text in told.items())

    def reward(self, example: Example, completion: str) -> float | None:
        return self.rewards([example], [completion])[0]

    def rewards(
        self, examples: Sequence[Example], completions: Sequence[str]
    ) -> list[float | None]:
        plans = [plan_of(completion, self.unmarked) for completion in completions]
        items = {example.id: example for example in examples}
        wanted: dict[str, dict[str, None]] = {name: {} for name in items}
        for example, plan in zip(examples, plans, strict=True):
            if plan is not None:
                wanted[example.id][plan] = None
        self._last = {
            (name, plan): figures
            for name, distinct in wanted.items()
            if distinct
            for plan, figures in self._figures(items[name], list(distinct)).items()
        }
        return [
            0.0 if plan is None else self._last[example.id, plan][self.score]
            for example, plan in zip(examples, plans, strict=True)
        ]

    def metrics(self, example: Example, completion: str) -> dict[str, float | None]:
        plan = plan_of(completion, self.unmarked)
        if plan is None:
            return {"has_plan": 0.0, "improvement": None, "vr_cli": 0.0, self.score: 0.0}
        if (example.id, plan) not in self._last:
            self.reward(example, completion)
        return {"has_plan": 1.0, **self._last[example.id, plan]}

    def improvements(
        self, example: Example, chapters: Sequence[str], plans: Sequence[str], keep: bool = False
    ) -> list[list[float]]:
        """By how many per cent each plan lowers each chapter's perplexity, `(chapters, plans)`.

        The story's information is computed once, chapters without a plan once and for all; `keep` the
        others on disk too.
        """
        from litereason.likelihood import Passage

        ids = self.reference.ids
        prompt = ids(self.information(example.fields), start=True)
        leads = [self._lead(example, plan) for plan in (None, *plans)]
        texts = [ids(chapter)[: self.score_tokens] for chapter in chapters]
        passages = [
            Passage(lead, text, keep or lead is leads[0]) for text in texts for lead in leads
        ]
        losses = iter(self.reference.losses(prompt, passages))
        found = []
        for _ in chapters:
            baseline, *with_plan = [next(losses) for _ in leads]
            found.append([improvement(baseline, loss) for loss in with_plan])
        return found

    def _figures(self, example: Example, plans: list[str]) -> dict[str, dict[str, float]]:
        chapters = [example.fields["next_chapter"]]
        if self.score == "contrastive":
            chapters.append(example.fields["other_chapter"])
        true, *other = self.improvements(example, chapters, plans)
        figures = {
            plan: {"improvement": i, "vr_cli": vr_cli(i)}
            for plan, i in zip(plans, true, strict=True)
        }
        for plan, i in zip(plans, other[0] if other else (), strict=bool(other)):
            mine = figures[plan]
            mine["other_chapter"] = i
            mine["contrastive"] = contrastive(mine["improvement"], i)
        return figures

    def _lead(self, example: Example, plan: str | None) -> list[int]:
        """Ids between the information and the chapter: the plan, if there is one, and the header."""
        ids = self.reference.ids
        told = []
        if plan is not None:
            told = ids("## Detailed plan of the next chapter\n\n") + ids(plan)[: self.plan_tokens]
            told += ids("\n\n")
        return told + ids(f"## {example.fields['header']}\n\n")

    def _check_length(self, example: Example) -> None:
        """Raise `DataError` if the reference could not hold the longest plan and chapter."""
        ids, fields = self.reference.ids, example.fields
        chapters = [fields[name] for name in ("next_chapter", "other_chapter") if name in fields]
        prompt = len(ids(self.information(example.fields), start=True))
        lead = len(self._lead(example, "")) + self.plan_tokens
        chapter = max(len(ids(text)[: self.score_tokens]) for text in chapters)
        if prompt + lead + chapter > self.reference.context:
            raise DataError(
                f"item {example.id!r}: {prompt} tokens of information, {lead} of plan and header and "
                f"{chapter} of the chapter exceed the {self.reference.context} that "
                f"{self.reference_name!r} can hold. Lower previous_words, score_tokens or plan_tokens, or "
                "take another reference"
            )

    def _other_chapter(self, row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
        """A chapter of another book, the same for all completions of an item."""
        others = [other["next_chapter"] for other in rows if other["book"] != row["book"]]
        if not others:
            raise DataError(
                f"{self.data} holds one book only, {row['book']!r}; the contrastive score needs "
                "chapters of another. Add a book, or take score vr_cli"
            )
        return random.Random(f"{self.seed} {row['id']}").choice(others)


def check_pair(row: dict[str, Any], where: str) -> None:
    """Check one pair of chapters as `litereason books` writes it.

    Raises:
        DataError: a field is missing, empty or of another type; names it.
    """
    for name, kind in FIELDS.items():
        value = row.get(name)
        blank = isinstance(value, str) and not value.strip()
        if type(value) is not kind or blank:  # True is no number here
            wanted = {str: "text", int: "a whole number", list: "a list of 3 texts"}[kind]
            got = "missing" if name not in row else f"{value!r:.60}"
            raise DataError(f"{where}: {name!r} is {got}; expected {wanted}")
    texts = row["characters"]
    if len(texts) != 3 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{where}: 'characters' is {texts!r:.60}; expected a list of 3 texts")


def compare_plans(
    task: NextChapterTask, examples: Sequence[Example], records: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Does an item's own plan help its true chapter more than a plan made for another book?

    Of every evaluated item the first record with a plan is taken. Likelihoods are kept, so a killed call
    goes on.

    Args:
        records: `records.jsonl` of an evaluation of `examples`.

    Returns:
        {"own", "other": mean improvements in per cent, "wins": share of items, "difference", "low", "high",
        "p", "items": own - other, paired by item}.

    Raises:
        DataError: fewer than two books have plans.
    """
    known = {example.id: example for example in examples}
    own: dict[str, float] = {}
    plans: dict[str, str] = {}
    for record in records:
        text = "".join(text for kind, text in record["spans"] if kind != "latent")
        plan = plan_of(text, task.unmarked)
        if plan is not None and record["item"] in known and record["item"] not in plans:
            plans[record["item"]] = plan
            own[record["item"]] = record["metrics"]["improvement"]
    books = {name: known[name].fields["book"] for name in plans}
    if len(set(books.values())) < 2:
        raise DataError(
            f"the records hold plans of {sorted(set(books.values()))} only; expected two books or more. "
            "Evaluate a split that has several, or more samples"
        )
    other: dict[str, float] = {}
    with progress() as bar:
        shown = bar.add_task("plans of other books", total=len(plans), note="")
        for name in plans:
            foreign = [plans[one] for one in plans if books[one] != books[name]]
            plan = random.Random(f"{task.seed} {name}").choice(foreign)
            chapter = known[name].fields["next_chapter"]
            ((other[name],),) = task.improvements(known[name], [chapter], [plan], keep=True)
            bar.advance(shown)
    mine, theirs = np.array(list(own.values())), np.array(list(other.values()))
    wins = float((mine > theirs).mean())
    means = {"own": float(mine.mean()), "other": float(theirs.mean()), "wins": wins}
    return means | stats.paired(mine, theirs)
