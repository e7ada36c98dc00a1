"""Does a plan help its own chapter more than a plan made for another book does?

    python examples/plan_check.py runs/smollm2_next_chapter/eval/base

Reads an evaluation of the task `next_chapter` over two books or more, scores the true chapter of every
item after another book's plan, and writes `plan_check.json` beside the records. A killed call goes on.
"""

import sys
from pathlib import Path

import yaml

from litereason import files
from litereason.tasks.next_chapter import NextChapterTask, compare_plans


def main(directory: Path) -> None:
    settings = yaml.safe_load((directory / "config.yaml").read_text())["settings"]
    task = NextChapterTask(**settings["task_options"])
    examples = task.examples(settings["split"], settings["limit"])
    found = compare_plans(task, examples, files.read_jsonl(directory / "records.jsonl"))
    print(files.write_json(directory / "plan_check.json", found).read_text(), end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
