"""The hyperparameters of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robustvit.errors import BadParameter


@dataclass(frozen=True, slots=True)
class Recipe:
    """Epochs, learning rate, weight decay and augmentation.

    lr: the highest rate; it rises linearly over the share `warmup` of the steps, then falls to zero along a cosine. weight_decay: of
    weight matrices alone. rotation (degrees), scale, shift (shares of the side): the most that an image is rotated, resized and shifted;
    three zeros turn augmentation off.
    """

    epochs: int = 200
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    rotation: float = 12.0
    scale: float = 0.15
    shift: float = 0.1

    def __post_init__(self) -> None:
        _within("epochs", self.epochs, 1 <= self.epochs <= _MOST, f"a whole number from 1 to {_MOST:,}")
        _within("batch_size", self.batch_size, 1 <= self.batch_size <= _MOST, f"a whole number from 1 to {_MOST:,}")
        _within("lr", self.lr, 0 < self.lr < math.inf, "a finite number above 0")
        _within("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "a finite number from 0")
        _within("warmup", self.warmup, 0 <= self.warmup < 1, "a share in [0, 1)")
        _within("rotation", self.rotation, 0 <= self.rotation <= 180, "degrees in [0, 180]")
        _within("scale", self.scale, 0 <= self.scale < 1, "a share in [0, 1)")
        _within("shift", self.shift, 0 <= self.shift < 1, "a share in [0, 1)")


_MOST = 1_000_000  # epochs, and samples of a step


def _within(name: str, value: float, good: bool, allowed: str) -> None:
    if not good:
        raise BadParameter(f"training's {name} is {value:g}; it takes {allowed}.")


RECIPE = Recipe()
