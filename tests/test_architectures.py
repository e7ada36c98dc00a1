"""Latent steps in every family against the naive loop; the table in the docs is what was measured."""

import re
from pathlib import Path

import pytest

from architectures import FAMILIES, measure

TABLE = Path(__file__).parents[1] / "docs" / "architectures.md"


@pytest.mark.parametrize("family", FAMILIES)
def test_family_equals_the_naive_loop(family):
    found = measure(family)
    assert found["greedy"]
    assert found["latent_steps"] >= 5
    # Norms and softmax compute in float32 whatever the model's type: that is the resolution.
    assert found["log_probs"] < 5e-6
    assert found["gradients"] < 1e-4


def test_the_table_names_every_family():
    rows = re.findall(r"^\| ([^|]+?) \| `", TABLE.read_text(), re.MULTILINE)
    assert rows == list(FAMILIES)
