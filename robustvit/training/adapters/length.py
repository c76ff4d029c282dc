"""How long training in another's loop is, and where in it a step is."""

from __future__ import annotations

from dataclasses import dataclass

from robustvit.errors import BadParameter
from robustvit.primitives.batch import TrainingStep


@dataclass(frozen=True, slots=True)
class Length:
    """How long training is. steps: of the optimizer, in all; epochs: passes over the data in all."""

    steps: int
    epochs: int

    def at(self, step: int) -> TrainingStep:
        """The place of a step, counted from 0."""
        return TrainingStep(min(step, self.steps), self.steps, self.epochs)

    def ended(self, step: int) -> int | None:
        """The epoch, counted from 1, that has ended before this step and not before the one before; None where none has."""
        before, now = ((step - back) * self.epochs // self.steps for back in (1, 0))
        return now if now > before else None


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
