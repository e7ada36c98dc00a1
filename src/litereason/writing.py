"""`litereason write`: a frozen model writes book chapters from plans, and their figures.

A chapter is written in rounds. It is done when it has its end mark and half as many words as the true
chapter, or more than one and a half times as many, or when its rounds are used up; what is not done is
written on from where it stands. How good it is, judges say (`preference.py`).
"""

import collections
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import StopStringCriteria

from litereason import checkpoints, files
from litereason.console import say, spread
from litereason.errors import ConfigError, DataError, ModelError
from litereason.fingerprint import fingerprint
from litereason.generation import Completion
from litereason.options import command, option
from litereason.records import task_metric
from litereason.run_dir import held_stage, of_texts, same_inputs
from litereason.sampling import SamplingConfig, check_lengths, encode, prefix_ids, sample, tags_of
from litereason.tasks import get_task
from litereason.tasks.next_chapter import NextChapterTask, plan_of
from litereason.text_metrics import text_metrics, words

END_MARK = "<END_OF_CHAPTER>"
SHORTEST, LONGEST = 0.5, 1.5  # of the true chapter's words (arXiv 2512.02240)


@dataclasses.dataclass(kw_only=True)
class WriteConfig(SamplingConfig):
    """Write chapters from plans; compare their wording with the true chapters'."""

    model: str = dataclasses.field(metadata={"help": "the writer: a path, a hub id, or a name"})
    task_options: dict[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={"help": "of next_chapter, as for the evaluation; needs data"},
    )
    plans: str | None = option(
        None,
        "JSONL of evaluated samples, or of `id` and `plan`; default: RUN_DIR/eval/NAME/records.jsonl",
    )
    run_dir: str = option("runs/default", "outputs go to RUN_DIR/chapters/NAME")
    name: str = option("litereason", "the arm that made the plans")
    samples: int = option(1, "chapters an item, one from each of its first plans")
    words: int | None = option(None, "ask for at least so many words; default: the true chapter's")
    rounds: int = option(
        3, "of max_new_tokens each; chapters too short or without end mark are written on"
    )
    max_thoughts: int | None = option(0, "later tags are plain text; 0: the writer writes only")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("words", "rounds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name} is {value}; expected at least 1")


@dataclasses.dataclass
class Draft:
    """A chapter as far as it is written.

    Attributes:
        item, sample, plan: what it is written from.
        pair: the story's information and the true chapter.
        text: up to the end mark, which is part of it.
        rounds: how often it was written on.
    """

    item: str
    sample: int
    plan: str
    pair: dict[str, Any]
    text: str = ""
    rounds: int = 0

    @property
    def body(self) -> str:
        """The chapter without its end mark."""
        return self.text.partition(END_MARK)[0].strip()

    @property
    def ended(self) -> bool:
        """It has its end mark."""
        return END_MARK in self.text

    @property
    def length(self) -> float:
        """Its words as a multiple of the true chapter's."""
        return len(words(self.body)) / len(words(self.pair["next_chapter"]))

    @property
    def done(self) -> bool:
        """It is long enough and ended, or too long already."""
        return self.length > LONGEST or (self.ended and self.length >= SHORTEST)

    def write_on(self, text: str, cut: bool) -> None:
        """Add what a round wrote; `cut`: it stopped for length, maybe within a sentence."""
        self.text = self.start() + text
        if not cut and END_MARK not in text:
            self.text = self.text.rstrip() + "\n\n"
        self.rounds += 1

    def start(self) -> str:
        """What the next round goes on from: an end mark that came too early is taken away."""
        return self.body + "\n\n" if self.ended else self.text


def write(config: WriteConfig) -> Path:
    """Write `chapters.jsonl` and `summary.json`; returns the latter."""
    task = get_task("next_chapter", config.task_options)
    assert isinstance(task, NextChapterTask)
    path = Path(config.plans or Path(config.run_dir) / "eval" / config.name / "records.jsonl")
    pairs, plans = read_pairs(task), read_plans(path, task.unmarked)
    plans = {key: plan for key, plan in plans.items() if key[1] < config.samples}
    if unknown := sorted({item for item, _ in plans} - {*pairs}):
        raise DataError(
            f"{path}: {len(unknown)} items are not in {task.data}, e.g. {unknown[0]!r}; give the pairs "
            "that the plans were made for"
        )
    drafts = [Draft(*key, plan, pairs[key[0]]) for key, plan in plans.items() if plan]
    if not drafts:
        raise DataError(f'{path}: none of {len(plans)} samples holds a plan ("In summary: ...")')
    with held_stage(Path(config.run_dir) / "chapters" / config.name, config) as directory:
        return chapters_of(config, directory, task, path, drafts, len(plans) - len(drafts))


def chapters_of(
    config: WriteConfig,
    directory: Path,
    task: NextChapterTask,
    path: Path,
    drafts: list[Draft],
    no_plan: int,
) -> Path:
    """The same in the stage's directory, from plans of the file `path`, which lacked `no_plan` of them."""
    out = directory / "summary.json"
    if out.exists():
        asked = [prompt(task, draft, config.words) for draft in drafts]
        same_inputs(directory, of_texts(asked))
        say(f"write: already complete, {out}")
        return out
    start = time.perf_counter()
    write_chapters(drafts, task, config, directory)
    rows = [chapter_record(task, draft) for draft in drafts]
    files.write_jsonl(directory / "chapters.jsonl", rows)
    about = {
        "arm": config.name,
        "model": config.model,
        "plans": str(path),
        "no_plan": no_plan,
        "seed": config.seed,
        "seconds": round(time.perf_counter() - start, 2),
        "command": command("write", config),
    }
    figures = summarise(rows)
    files.write_json(out, about | figures)
    for partial in directory.glob("*.partial.jsonl"):
        partial.unlink()
    show(figures, Console(highlight=False))
    say(f"write {config.name}: {len(rows)} chapters, {no_plan} samples without a plan, {out}")
    return out


def write_chapters(
    drafts: Sequence[Draft], task: NextChapterTask, config: WriteConfig, directory: Path
) -> None:
    """Write all drafts, round by round; a killed run goes on from the rounds in `directory`.

    Raises:
        DataError: a prompt that leaves no room for all rounds in the model's context.
        ConfigError: `directory` was begun with another model or other prompts.
        ModelError: the tokenizer cannot say where a chapter ends.
    """
    model, tokenizer = checkpoints.load(config.model)
    check_stop(config.model, tokenizer)
    if torch.cuda.is_available():
        model = model.to("cuda")
    asked = [prompt(task, draft, config.words) for draft in drafts]
    heads = [encode(tokenizer, text, tags_of(model)) for text in asked]
    names = [draft.item for draft in drafts]
    start = prefix_ids(model, tokenizer, config.prefix)
    check_lengths(model, names, heads, len(start) + config.rounds * config.max_new_tokens)
    same_inputs(directory, {"model": fingerprint(model)["digest"], **of_texts(asked)})

    def record(_: list[int], completions: list[Completion]) -> list[dict[str, Any]]:
        return [{"text": done.text, "truncated": done.truncated} for done in completions]

    for number in range(config.rounds):
        going = [i for i, draft in enumerate(drafts) if not draft.done]
        if not going:
            return
        prompts = [
            heads[i] + tokenizer(drafts[i].start(), add_special_tokens=False)["input_ids"]
            if drafts[i].text
            else heads[i]
            for i in going
        ]
        how = dataclasses.replace(config, samples=1, seed=config.seed + 1000 * number)
        how.prefix = config.prefix if number == 0 else ""  # of a chapter, not of its later rounds
        partial = directory / f"round-{number + 1}.partial.jsonl"
        title = f"write {config.name}, round {number + 1} of {config.rounds}"
        rows = sample(model, tokenizer, prompts, how, record, partial, title, END_MARK)
        for i, row in zip(going, rows, strict=True):
            drafts[i].write_on(row["text"], row["truncated"])


def check_stop(name: str, tokenizer: Any) -> None:
    """Check that generation can stop at the end mark.

    Raises:
        ModelError: transformers cannot look for text in this tokenizer's tokens.
    """
    try:
        StopStringCriteria(tokenizer, END_MARK)
    except Exception as error:
        raise ModelError(
            f"{name!r} cannot be made to stop at {END_MARK}: transformers' stop strings do not work with "
            f"its tokenizer ({type(error).__name__}: {error}). Take another model as the writer"
        ) from error


def prompt(task: NextChapterTask, draft: Draft, least: int | None) -> str:
    """The story's information as the policy had it, then the plan, then what is asked."""
    known = task.information(draft.pair)
    least = least or len(words(draft.pair["next_chapter"]))
    return (
        "Here is what is known of a novel, and a plan of the chapter that comes next. Write that chapter."
        f"\n\n{known}## Header of the next chapter\n\n{draft.pair['header']}\n\n"
        f"## Detailed plan of the next chapter\n\n{draft.plan}\n\n"
        f"Write the whole chapter, at least {least} words, in the novel's own voice, and nothing else. "
        f"Write {END_MARK} where it ends."
    )


def read_pairs(task: NextChapterTask) -> dict[str, dict[str, Any]]:
    """The task's pairs of all splits, by id.

    Raises:
        DataError: a line that is no pair, an id that stands twice, or a true chapter without words.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in task.pairs():
        if row["id"] in found:
            raise DataError(
                f"{task.data}: the id {row['id']!r} stands twice; give each pair its own"
            )
        if not words(row["next_chapter"]):
            raise DataError(f"{task.data}: the next chapter of {row['id']!r} has no words")
        found[row["id"]] = row
    return found


def read_plans(path: Path, unmarked: bool = False) -> dict[tuple[str, int], str | None]:
    """Plans by item and sample; None where a sample holds none.

    A line is a record of an evaluation (`item`, `sample`, `spans`), or has `id` and `plan`. `unmarked` as
    for the task.

    Raises:
        DataError: a line that is neither, or an item's sample that stands twice.
    """
    found: dict[tuple[str, int], str | None] = {}
    lines: dict[str, int] = collections.Counter()
    for number, row in enumerate(files.read_jsonl(path), 1):
        item, sample, text = row.get("item"), row.get("sample", 0), _written(row.get("spans"))
        if isinstance(row.get("id"), str) and isinstance(row.get("plan"), str):
            key, plan = (row["id"], lines[row["id"]]), row["plan"].strip() or None
            lines[row["id"]] += 1
        elif isinstance(item, str) and type(sample) is int and text is not None:
            key, plan = (item, sample), plan_of(text, unmarked)
        else:
            raise DataError(
                f"{path}, line {number}: expected a record of `litereason eval` (item, sample, spans), or "
                f"text in 'id' and 'plan'; got {row!s:.80}"
            )
        if key in found:
            raise DataError(f"{path}, line {number}: a second sample {key[1]} of item {key[0]!r}")
        found[key] = plan
    return found


def _written(spans: Any) -> str | None:
    """The text of a record's spans; None if they are none."""
    try:
        return "".join(text for kind, text in spans if kind != "latent")
    except (TypeError, ValueError):
        return None


def chapter_record(task: NextChapterTask, draft: Draft) -> dict[str, Any]:
    """What is kept of a chapter; `gold` has the true chapter's figures beside the same parts."""
    parts = {**task.sections(draft.pair), "plan": draft.plan}
    return {
        "item": draft.item,
        "sample": draft.sample,
        "text": draft.body,
        "ended": draft.ended,
        "length_ok": SHORTEST <= draft.length <= LONGEST,
        "rounds": draft.rounds,
        "metrics": text_metrics(draft.body, parts, draft.pair["next_chapter"]),
        "gold": text_metrics(draft.pair["next_chapter"], parts),
        "plan": draft.plan,
    }


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of chapters over items, with 95 % intervals, and those of the true chapters."""
    rules = [
        {
            "item": row["item"],
            "metrics": {name: float(row[name]) for name in ("ended", "length_ok")},
        }
        for row in rows
    ]
    true = [{"item": row["item"], "metrics": row["gold"]} for row in rows]
    figures: dict[str, Any] = {"items": len({row["item"] for row in rows}), "chapters": len(rows)}
    figures |= {name: task_metric(rules, name) for name in rules[0]["metrics"]}
    return figures | {
        "metrics": {name: task_metric(rows, name) for name in rows[0]["metrics"]},
        "gold": {name: task_metric(true, name) for name in true[0]["metrics"]},
    }


def show(figures: Mapping[str, Any], out: Console) -> None:
    """Figures of the chapters beside those of the true ones, as a table."""
    table = Table("", "chapters", "true chapters", box=None)
    for name in ("ended", "length_ok"):
        table.add_row(name, spread(figures[name]), "")
    for name, found in figures["metrics"].items():
        digits = 0 if name == "words" else 3
        true = figures["gold"].get(name)
        table.add_row(name, *(spread(one, digits) if one else "" for one in (found, true)))
    out.print(table)
