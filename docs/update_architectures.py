"""Write the table in docs/architectures.md from what the tests' own code measures.

.venv/bin/python docs/update_architectures.py
"""

import re
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
PAGE = HERE / "architectures.md"


def main() -> None:
    """Measure every family and replace the table."""
    from architectures import FAMILIES, make, measure

    warnings.simplefilter("ignore")
    lines = [
        "| family | class | greedy tokens | log-probabilities | gradients | projector | special |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for family, (_, _, special) in FAMILIES.items():
        found = measure(family)
        same = "the same" if found["greedy"] else "DIFFER"
        lines.append(
            f"| {family} | `{type(make(family)[0]).__name__}` | {same} | "
            f"{found['log_probs']:.0e} | {found['gradients']:.0e} | {found['projector']} | {special} |"
        )
    table = "\n".join(["<!-- begin table -->", *lines, "<!-- end -->"])
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(r"<!-- begin table -->.*?<!-- end -->", lambda _: table, text, flags=re.DOTALL),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
