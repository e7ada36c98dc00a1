"""Ways to train on traces (`litereason sft --method NAME`): LiteReason's, and the baselines'.

Opening the stage, loading and saving are the stage's own (`stages.sft`).
"""

from litereason.baselines.coconut import Coconut
from litereason.baselines.colar_sft import ColarSFT
from litereason.distil import Distil
from litereason.sft import SFTMethod
from litereason.thoughts import Thoughts

METHODS: dict[str, type[SFTMethod]] = {
    "thoughts": Thoughts,
    "distil": Distil,
    "coconut": Coconut,
    "colar": ColarSFT,
}
