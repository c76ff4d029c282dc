"""The factor by which the loss is multiplied in float16, so that small gradients do not become zero."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from robustvit.errors import ModelError

_FIRST, _LEAST = 2.0**16, 2.0**-14
_STEADY = 2000  # gradients without an overflow after which the factor is doubled, as torch's GradScaler does


@dataclass
class LossScale:
    """The factor of the loss, doubled while gradients stay finite and halved where they overflow.

    Gradients that overflow are computed again at once, so that no step is left out. active: whether there is any scaling. steady:
    gradients since the factor last changed.
    """

    active: bool = False
    factor: float = 1.0
    steady: int = 0

    @classmethod
    def of(cls, precision: str) -> LossScale:
        """The first factor of a precision: 65536 in float16, 1 in others."""
        return cls(True, _FIRST) if precision == "float16" else cls()

    def undone(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Divides gradients by the factor; False where some overflowed, which must then be computed again, with half of it.

        Raises ModelError where they overflow whatever the factor is.
        """
        if not self.active:
            return True
        found = [one.grad for one in parameters if one.grad is not None]
        if bool(torch.stack([one.isfinite().all() for one in found]).all()):
            for one in found:
                one.div_(self.factor)
            self.steady = (self.steady + 1) % _STEADY
            self.factor *= 1.0 if self.steady else 2.0
            return True
        self.factor, self.steady = self.factor / 2, 0
        if self.factor < _LEAST:
            raise ModelError("gradients overflow in float16, whatever the loss is multiplied by: train in bfloat16 or float32.")
        return False
