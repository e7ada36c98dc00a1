"""What an arm of a comparison is."""

import abc
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from litereason.arms.bench import Bench


class Arm(abc.ABC):
    """One method, from the base model to its evaluated records, on the stages of a `Bench`.

    A new arm is one class and one line in `ARMS`.

    Attributes:
        name: its directory, its key everywhere.
        title: what the report calls it.
        trains: what it trains, as half a sentence.
        goes_latent: how it decides to take a latent step.
        costs: what it costs at evaluation, beside the answer.
        needs: arms whose models or traces it uses; `collect` stands for the traces alone.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    trains: ClassVar[str] = "nothing"
    goes_latent: ClassVar[str] = "never"
    costs: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def run(self, bench: "Bench") -> None:
        """Run its stages, the evaluation last."""
