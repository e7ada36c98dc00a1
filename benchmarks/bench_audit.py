"""The audit of 10,000 stories of 700 words against its limits: 2 minutes and 2 GB.

Stories of words drawn by Zipf's law from 30,000, with punctuation, markup and paragraphs; a tenth are
variants of others, and most of one label end in seven dashes, which must be found. The whole command
runs as a process of its own: reading, all searches, JSON. Seconds are CPU seconds of all its threads;
memory is its peak. What is left out: texts without spaces, and more than two labels, which cost a
product of matrices each.
"""

import json
import os
import resource
import string
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from harness import report
from litereason.files import write_jsonl

STORIES, WORDS = 10_000, 700


def stories() -> list[dict[str, str]]:
    """Stories with a label that their ending gives away."""
    chance = np.random.default_rng(0)
    letters = np.array(list(string.ascii_lowercase))
    vocabulary = np.array(
        ["".join(chance.choice(letters, size)) for size in chance.integers(2, 10, 30_000)]
    )
    weights = 1 / np.arange(1, len(vocabulary) + 1)
    weights /= weights.sum()
    ends = np.array(["", ",", ".", "!</p><p>"])
    rows: list[list[str]] = []
    for i in range(STORIES):
        if i % 10 == 9:  # a variant: a twentieth of the words of an earlier story are others
            row = list(rows[chance.integers(len(rows))])
            for place in chance.integers(0, WORDS, WORDS // 20):
                row[place] = str(chance.choice(vocabulary))
        else:
            words = vocabulary[chance.choice(len(vocabulary), WORDS, p=weights)]
            marks = ends[chance.choice(4, WORDS, p=[0.85, 0.08, 0.06, 0.01])]
            row = np.char.add(words, marks).tolist()
        rows.append(row)
    made = []
    for i, row in enumerate(rows):
        dashes = " -------" if i % 2 and chance.random() < 0.8 else ""
        made.append({"story": f"<p>{' '.join(row)}{dashes}</p>", "label": ("No", "Yes")[i % 2]})
    return made


def main() -> None:
    """Run the command and report both ratios."""
    with tempfile.TemporaryDirectory() as directory:
        path = write_jsonl(Path(directory) / "train.jsonl", stories())
        words = [sys.executable, "-m", "litereason", "audit", str(path)]
        words += ["--text", "story", "--label", "label", "--json"]
        done = subprocess.run(words, stdout=subprocess.PIPE, env=os.environ | {"LC_ALL": "C.UTF-8"})
    result = json.loads(done.stdout)
    first = result["search"]["leaks"][0]["text"]
    if done.returncode != 1 or "'-------'" not in first:
        raise AssertionError(f"expected the seven dashes, got {result['verdict']}")
    if not result["duplicates"]["items"] > STORIES // 10:
        raise AssertionError(f"expected the variants, got {result['duplicates']['items']} items")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    report("audit, 10,000 stories, time", seconds, ("limit", 120), "<= 1", "CPU s", n=1)
    peak = used.ru_maxrss / 1e6
    report("audit, 10,000 stories, memory", peak, ("limit", 2.0), "<= 1", "GB", n=1)


if __name__ == "__main__":
    main()
