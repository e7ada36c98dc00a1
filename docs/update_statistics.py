"""Simulate what `litereason.stats` covers and rejects, and write the table of statistics.md.

    python docs/update_statistics.py

True nulls: items vary by .3, single answers by .4, seeds by a multiple of what is left of the answers'
noise in a seed's mean. About two minutes on one core.
"""

import re
from pathlib import Path

import numpy as np
from rich.progress import track

from litereason import stats
from litereason.files import write_text

PAGE = Path(__file__).parent / "statistics.md"
ITEMS, COLUMNS = 200, 2000
SEEDS, OF_SEEDS = (2, 3, 5, 10), (0.0, 1.0, 3.0, 10.0)


def nulls(seeds: int, spread: float) -> np.ndarray:
    """Paired differences without a true one, `(COLUMNS, seeds, ITEMS)`."""
    rng = np.random.default_rng(11)
    noise = 0.4 * rng.normal(size=(COLUMNS, seeds, ITEMS))
    items = 0.3 * rng.normal(size=(COLUMNS, 1, ITEMS))
    return spread * 0.4 / ITEMS**0.5 * rng.normal(size=(COLUMNS, seeds, 1)) + items + noise


def resampled(columns: np.ndarray) -> np.ndarray:
    """Whether an interval from resampling seeds like items leaves out 0: what is not done here."""
    rng = np.random.default_rng(5)
    seeds = rng.integers(0, columns.shape[1], (1000, columns.shape[1]))
    items = rng.integers(0, ITEMS, (1000, ITEMS))
    counts = np.array([np.bincount(row, minlength=ITEMS) for row in items]) / ITEMS
    chosen = np.array([np.bincount(row, minlength=columns.shape[1]) for row in seeds])
    weighted = np.einsum("dk,cki->cdi", chosen / columns.shape[1], columns)
    means = np.einsum("cdi,di->cd", weighted, counts)
    low, high = np.percentile(means, [2.5, 97.5], axis=1)
    return (low > 0) | (high < 0)


def row(seeds: int, spread: float) -> str:
    columns = nulls(seeds, spread)
    low, high = np.percentile(stats.draws(columns)[1:], [2.5, 97.5], axis=0)
    of_items = (stats.sign_flips(columns.mean(1, keepdims=True)) <= 0.05).mean()
    of_resampled = resampled(columns[:400]).mean()
    shares = [
        (stats.sign_flips(columns) <= 0.05).mean(),
        ((low <= 0) & (high >= 0)).mean(),
        of_items,
        of_resampled,
    ]
    return f"| {seeds} | {spread:g} | " + " | ".join(f"{100 * s:.1f}" for s in shares) + " |"


def main() -> None:
    header = ("seeds", "they vary by", "rejected, %", "covered, %")
    header += ("items alone reject, %", "seeds resampled reject, %")
    lines = [f"| {' | '.join(header)} |", "| --- " * len(header) + "|"]
    cells = [(seeds, spread) for seeds in SEEDS for spread in OF_SEEDS]
    lines += [row(*cell) for cell in track(cells, "simulating")]
    text = PAGE.read_text(encoding="utf-8")
    block = "<!-- begin simulation -->\n\n" + "\n".join(lines) + "\n\n<!-- end simulation -->"
    pattern = r"<!-- begin simulation -->.*?<!-- end simulation -->"
    write_text(PAGE, re.sub(pattern, lambda _: block, text, flags=re.S))


if __name__ == "__main__":
    main()
