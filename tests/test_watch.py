"""Collapse is called out, once, and only when it lasts."""

import types

import pytest

from litereason.watch import HINTS, WINDOW, CollapseWatch, collapsed

FINE = {"trigger_rate": 0.5, "entropy": 0.3, "no_signal": 0.2}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"trigger_rate": 0.0}, "thoughts_gone"),
        ({"trigger_rate": 1.0}, "thoughts_everywhere"),
        ({"entropy": 0.001}, "entropy_gone"),
        ({"no_signal": 1.0}, "no_signal"),
    ],
)
def test_each_collapse_must_last(change, name):
    lasting = [FINE | change] * WINDOW
    assert collapsed(lasting, latent=True) == {name}
    assert collapsed(lasting[:-1], latent=True) == set()
    assert collapsed([*lasting[:-1], FINE], latent=True) == set()
    assert collapsed([FINE] * WINDOW, latent=True) == set()


def test_without_latents_nobody_misses_them():
    assert collapsed([FINE | {"trigger_rate": 0.0}] * WINDOW, latent=False) == set()


def test_a_hint_is_said_once(capsys):
    watch = CollapseWatch(latent=True)
    state = types.SimpleNamespace(global_step=7, is_world_process_zero=True)
    logs = {"reward": 1.0, "latent/trigger_rate": 0.01, "entropy": 0.4, "frac_reward_zero_std": 0.1}
    for _ in range(2 * WINDOW):
        watch.on_log(None, state, None, logs)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("trigger rate 1.0%") == 1 and "length_penalty=correct_only" in said
    assert set(HINTS) == {"thoughts_gone", "thoughts_everywhere", "entropy_gone", "no_signal"}
