"""Join Flawed Fictions stories and reasoning traces into a file that `litereason sft` takes.

    python examples/flawed_fictions_traces.py stories.jsonl traces.jsonl out.jsonl [--limit N]

Stories have `id` and `story`, traces have `story_id`, `steps` (a list of sentences) and `answer`. A trace
whose story is missing gets a prompt that says so; how many is printed.
"""

import argparse
import json
from pathlib import Path

from litereason.files import write_jsonl
from litereason.tasks.base import Example
from litereason.tasks.flawed_fictions import FlawedFictionsTask, clean

MISSING = "(The story is not available.)"


def readable(path: Path) -> list[dict]:
    """The lines that are JSON objects; a damaged file gives what is left of it."""
    rows = []
    for line in path.read_bytes().replace(b"\0", b"").decode("utf-8", "replace").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("stories", type=Path)
    parser.add_argument("traces", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=None)
    options = parser.parse_args()
    stories = {row["id"]: row["story"] for row in readable(options.stories)}
    traces = readable(options.traces)[: options.limit]
    task = FlawedFictionsTask()
    rows = []
    for trace in traces:
        text = clean(stories[trace["story_id"]]) if trace["story_id"] in stories else MISSING
        example = Example(trace["story_id"], text, "")
        completion = " ".join([*trace["steps"], trace["answer"]])
        rows.append(
            {
                "item": example.id,
                "prompt": task.prompt(example, "latent"),
                "completion": completion,
            }
        )
    write_jsonl(options.out, rows)
    with_story = sum(trace["story_id"] in stories for trace in traces)
    print(f"{len(rows)} traces, {with_story} with their story, written to {options.out}")


if __name__ == "__main__":
    main()
