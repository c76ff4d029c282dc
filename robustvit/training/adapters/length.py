"""How long training by the loop of another is, and where it is where that is not known."""

from __future__ import annotations

from dataclasses import dataclass

from robustvit.errors import BadParameter
from robustvit.primitives.batch import TrainingStep


@dataclass(frozen=True, slots=True)
class Length:
    """How long training is. steps: of the optimizer, in all; epochs: passes over the data in all."""

    steps: int
    epochs: int


@dataclass(frozen=True, slots=True)
class UnplacedStep(TrainingStep):
    """A step of training whose length is not known. Raises BadParameter for a defense that asks how much of it is done."""

    @property
    def done(self) -> float:
        """Not known."""
        raise BadParameter("this defense changes over training (as by warmup), and how long that is is not known; give steps and epochs.")

    @property
    def epoch(self) -> int:
        """Not known."""
        raise BadParameter("this defense changes from epoch to epoch, and how many there are is not known; give steps and epochs.")
