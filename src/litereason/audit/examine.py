"""The whole audit of a data set as plain data: leaks, near-duplicates, balance, empty and long items.

The figures are found in `chance.py`, `probes.py` and `duplicates.py`; here is what is made of them.
"""

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from litereason.audit.chance import ALPHA, PERMUTATIONS, accuracies, p_values, permuted
from litereason.audit.duplicates import SIMILAR, families_of
from litereason.audit.items import Item
from litereason.audit.probes import probe
from litereason.audit.rules import Rules, count, find_rules
from litereason.audit.words import characters_of, words_of

LEAST = 20  # groups; from fewer nothing can be concluded
LABELS = 20  # more of them are no classes
SHOWN = 10  # leaks, families, items
ALIKE = 0.95  # share of items on which two rules agree that are shown as one
ALIKE_ITEMS = (
    "near-duplicates are one group here. If items that look alike are independent (questions from a "
    "template), audit again with --group FIELD, a field that tells them apart (of a task also id)"
)
STEPS = ("words", "near-duplicates", "rules", "shuffled labels", "probes")


def examine(
    items: Sequence[Item],
    max_words: int | None = None,
    step: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Audit items.

    Args:
        items: at least one.
        max_words: longer items are listed as too long.
        step: told the name of each of `STEPS` as it begins.

    Returns:
        Plain data: `leak` (False where none was found or looked for), `verdict` in a sentence, `items`,
        `splits`, `labels`, `majority`, `grouped_by`, `groups`, `search` (None if there was none),
        `duplicates`, `lengths`.
    """
    step("words")
    texts = [item.text for item in items]
    words = words_of(texts)
    step("near-duplicates")
    families = families_of(words)
    given = items[0].group is not None
    groups = _numbers([item.group for item in items]) if given else np.array(families)
    labels = Counter(item.label for item in items)
    result: dict[str, Any] = {
        "items": len(items),
        "splits": dict(Counter(item.split for item in items)),
        "labels": dict(labels.most_common(LABELS)),
        "different_labels": len(labels),
        "majority": labels.most_common(1)[0][1] / len(items),
        "grouped_by": "the field given" if given else "near-duplicate families",
        "groups": int(groups.max() + 1),
        "duplicates": duplicates(items, families),
        "lengths": lengths(items, np.array([len(row) for row in words.rows]), max_words),
    }
    reason = unsearchable(len(items), result["groups"], len(labels))
    if reason and not given and unsearchable(len(items), len(items), len(labels)) is None:
        reason += f"; {ALIKE_ITEMS}"
    search = None
    if not reason:
        step("rules")
        characters = characters_of(texts)
        counts = count(texts, words, characters)
        rules = find_rules(texts, words, characters, counts)
        names = sorted(labels)
        numbers = np.array([names.index(item.label) for item in items])
        step("shuffled labels")
        search = _rules(rules, numbers, groups, names)
        step("probes")
        found = probe(rules, counts, numbers, groups)
        search["probes"] = [dataclasses.asdict(one) for one in found]
    leak, verdict = conclude(search, result["majority"], reason)
    return {"leak": leak, "verdict": verdict, **result, "search": search}


def _numbers(names: Sequence[Any]) -> np.ndarray:
    return np.unique(np.array([str(name) for name in names]), return_inverse=True)[1]


def unsearchable(items: int, groups: int, labels: int) -> str | None:
    """Why no leak can be looked for, if so."""
    if labels == 1:
        return "one label only: there is nothing to tell apart"
    if groups < LEAST:
        of = f"group{'s' * (groups > 1)} of the {items} items" if groups < items else "items"
        return f"{groups} independent {of}: nothing can be concluded from fewer than {LEAST}"
    if labels > (most := min(LABELS, groups // 4)):
        return f"{labels} different labels: leaks are looked for with {most} at most here"
    return None


def _rules(
    rules: Rules, labels: np.ndarray, groups: np.ndarray, names: list[str]
) -> dict[str, Any]:
    """The rules that beat chance, those alike as one, and the best rule of each family."""
    true, best = accuracies(rules, permuted(labels, groups, PERMUTATIONS))
    p = p_values(true, best)
    support = np.bitwise_count(rules.bits).sum(1)
    # of rules that are as good, the one that picks fewer items says more
    order = np.lexsort((support, -true.round(6)))

    def told(one: int, alike: int) -> dict[str, Any]:
        holds = rules.holds(np.array([one]))[0] > 0
        sides = [np.bincount(labels[side], minlength=len(names)) for side in (holds, ~holds)]
        return {
            **dataclasses.asdict(rules.rules[one]),
            "accuracy": float(true[one]),
            "p": float(p[one]),
            "holds": int(support[one]),
            "label_if": names[sides[0].argmax()],
            "right_if": int(sides[0].max()),
            "label_else": names[sides[1].argmax()],
            "alike": alike,
        }

    leaks, left = [], order[p[order] <= ALPHA]
    found = len(left)
    while len(left) and len(leaks) < SHOWN:
        apart = np.bitwise_count(rules.bits[left] ^ rules.bits[left[0]]).sum(1) / rules.items
        same = (apart <= 1 - ALIKE) | (apart >= ALIKE)
        leaks.append(told(left[0], int(same.sum()) - 1))
        left = left[~same]
    first: dict[str, int] = {}
    for one in order:
        first.setdefault(rules.rules[one].family, one)
    return {
        "rules": len(rules.rules),
        "permutations": PERMUTATIONS,
        "alpha": ALPHA,
        "by_chance": float(np.quantile(best, 1 - ALPHA)),
        "leaking": found,
        "leaks": leaks,
        "best": [told(one, 0) for one in first.values()],
    }


def conclude(
    search: dict[str, Any] | None, majority: float, reason: str | None
) -> tuple[bool, str]:
    """Whether there is a leak, and the verdict in a sentence."""
    if search is None:
        return False, f"no leaks looked for: {reason}"
    against = f"the commonest label has {majority:.1%}"
    if search["leaks"]:
        one = search["leaks"][0]
        return True, (
            f"a text that {one['text']} is {one['label_if']!r}, else {one['label_else']!r}: this rule "
            f"alone is right for {one['accuracy']:.1%} of items ({against}; p = {one['p']:.3f} after "
            f"correction for {search['rules']} rules)"
        )
    told = [one for one in search["probes"] if one["kind"] == "format"]
    for one in sorted(told, key=lambda one: -one["accuracy"]):
        if one["p"] <= ALPHA and one["accuracy"] > one["majority"]:
            return True, (
                f"a classifier tells {one['accuracy']:.1%} of labels by {one['name']} alone (majority "
                f"{one['majority']:.1%}; p = {one['p']:.3f}), though no single rule does"
            )
    if not search["best"]:
        return False, f"no leak found: no rule divides the items ({against})"
    best = search["best"][0]
    return False, (
        f"no leak found: the best of {search['rules']} rules is right for {best['accuracy']:.1%} of items, "
        f"which chance reaches with p = {best['p']:.3f} ({against})"
    )


def duplicates(items: Sequence[Item], families: Sequence[int]) -> dict[str, Any]:
    """Near-duplicate families: how many, how large, across splits, with different labels."""
    members: dict[int, list[Item]] = defaultdict(list)
    for item, family in zip(items, families, strict=True):
        members[family].append(item)
    several = [found for found in members.values() if len(found) > 1]
    pairs, across = [], 0
    for found in several:
        splits: dict[str, list[Item]] = defaultdict(list)
        for item in found:
            splits[item.split].append(item)
        for a, b in itertools.combinations(splits.values(), 2):
            across += len(a) * len(b)
            pairs.append([a[0].id, b[0].id])
    several.sort(key=lambda found: (-len({item.split for item in found}), -len(found)))
    return {
        "similarity": SIMILAR,
        "families": len(several),
        "items": sum(map(len, several)),
        "identical": len(items) - len({item.text for item in items}),
        "with_different_labels": sum(len({item.label for item in one}) > 1 for one in several),
        "across_splits": across,
        "pairs_across_splits": pairs[:SHOWN],
        "largest": [
            {
                "size": len(found),
                "splits": dict(Counter(item.split for item in found)),
                "labels": dict(Counter(item.label for item in found)),
                "items": [item.id for item in found[:SHOWN]],
                "begins": found[0].text[:80].encode("utf-8", "replace").decode(),
            }
            for found in several[:SHOWN]
        ],
    }


def lengths(items: Sequence[Item], words: np.ndarray, max_words: int | None) -> dict[str, Any]:
    """Empty items and those far longer than the rest (Tukey 1977: three quartile distances out)."""
    low, median, high = np.percentile(words, [25, 50, 75])
    bound = float(high + 3 * (high - low))

    def listed(which: np.ndarray) -> dict[str, Any]:
        found = np.flatnonzero(which)
        shown = [f"{items[i].id} ({words[i]} words)" for i in found[:SHOWN]]
        return {"count": len(found), "items": shown}

    return {
        "median_words": float(median),
        "longest_words": int(words.max()),
        "empty": listed(np.array([not item.text.strip() for item in items])),
        "far_longer": listed(words > bound) | {"bound": bound},
        "over_max_words": None if max_words is None else listed(words > max_words),
    }
