"""The stages as functions: collect, sft, rl, evaluate. Each reads what the one before wrote.

A stage has a directory under the run directory. It is skipped when complete, taken up again when not,
and refuses a directory begun with other settings. Everything that can be wrong with the input is checked
before a model is loaded.
"""

from litereason.stages.collecting import CollectConfig, collect
from litereason.stages.judging import EvalConfig, evaluate
from litereason.stages.policy import RLConfig, rl
from litereason.stages.projector import SFTConfig, sft
from litereason.stages.settings import ModelOnTask

__all__ = [
    "CollectConfig",
    "EvalConfig",
    "ModelOnTask",
    "RLConfig",
    "SFTConfig",
    "collect",
    "evaluate",
    "rl",
    "sft",
]
