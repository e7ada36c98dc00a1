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
        needs: arms whose models or traces it uses; `collect` stands for the base's traces alone,
            `collect-own` for those of RL's policy.
        variant_of: of an arm under other settings, the arm that it is compared with.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    trains: ClassVar[str] = "nothing"
    goes_latent: ClassVar[str] = "never"
    costs: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    variant_of: ClassVar[str | None] = None

    @abc.abstractmethod
    def run(self, bench: "Bench") -> None:
        """Run its stages, the evaluation last."""


def variant(name: str, of: Arm, title: str | None = None, against: str | None = None) -> Arm:
    """`of` as an arm of its own, for other settings.

    Args:
        against: the arm that it is compared with, which it comes after; by default `of`.
    """
    kind = type(of)
    against = against or of.name
    told = {"name": name, "title": title or f"{of.title}: {name}", "variant_of": against}
    return type(kind.__name__, (kind,), told | {"needs": (*of.needs, against)})()
