"""Which colour and marker an arm has, everywhere on the page.

Drawing is left to `figures.py`; this is the palette and the rule that hands it out.
"""

import dataclasses

from litereason.report.run import ARM_ORDER, Run, arm_rank

# (light, dark), in the order of ARM_ORDER, then for other arms: Okabe and Ito's hues, shifted to
# a contrast of at least 4.5 : 1 with the page, since labels have them too. Markers and labels tell
# arms apart without colour.
COLOURS = (
    ("#6b7280", "#a3abb8"),
    ("#9a6500", "#f0b429"),
    ("#c2410c", "#ff8f5c"),
    ("#0067b0", "#6cb6ff"),
    ("#00805e", "#3ad6a6"),
    ("#b0408a", "#f09ad0"),
    ("#6d4fc4", "#b9a5ff"),
    ("#7d5f33", "#d1b37a"),
    ("#2b7a8c", "#7fd6ea"),
    ("#9b2c3f", "#ff9aa8"),
    ("#4d7c0f", "#b4dc5a"),
    ("#334155", "#dbe3ee"),
    ("#86198f", "#e98bf5"),
    ("#5c6300", "#cdd65a"),
    ("#8c3b1b", "#f2a584"),
    ("#3730a3", "#a9b6ff"),
    ("#075985", "#8ad8fc"),
    ("#166534", "#8ff0b4"),
)
MARKERS = ("s", "v", "^", "D", "o", "P", "X", "p", "h", "<", ">")


@dataclasses.dataclass(frozen=True)
class Style:
    """How one arm is drawn everywhere: colour, marker, hollow when it is an ablation."""

    index: int
    marker: str
    hollow: bool

    @property
    def colour(self) -> str:
        return COLOURS[self.index][0]


def styles(run: Run) -> dict[str, Style]:
    """The style of every arm that was evaluated, trained or failed; fixed for the known names."""
    trained = {name for curves in run.curves.values() for name in curves}
    named = {arm.name for arm in (*run.arms, *run.failed)}
    found: dict[str, Style] = {}
    unknown = 0
    for name in sorted(named | trained, key=arm_rank):
        place = ARM_ORDER.index(name) if name in ARM_ORDER else len(ARM_ORDER) + unknown
        unknown += name not in ARM_ORDER
        # grey is the base's alone
        hue = 1 + (place - 1) % (len(COLOURS) - 1) if place else 0
        arm = run.arm(name)
        found[name] = Style(hue, MARKERS[place % len(MARKERS)], bool(arm and arm.ablation))
    return found
