"""The audit: what a data set gives away before anybody reasons, and which items are near-duplicates.

It needs numpy only. `families` gives the near-duplicate family of each text, to split by.

    items.py       JSON lines or a task -> texts with labels, checked
    words.py       texts as numbers, once for all
    duplicates.py  near-duplicate families
    rules.py       the simplest rules: endings, beginnings, lengths, marks, words, n-grams
    chance.py      their accuracy, and what the best of them reaches when labels are shuffled
    probes.py      cross-validated classifiers on the same features
    examine.py     all of it as plain data, with a verdict
    record.py      audit.json in a run directory; what eval and rl warn of
    command.py     litereason audit
"""

from litereason.audit.duplicates import families
from litereason.audit.examine import examine
from litereason.audit.items import Item

__all__ = ["Item", "examine", "families"]
