"""The hyperparameters of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from robustvit.errors import BadParameter

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
Optimizer: TypeAlias = Literal["adamw", "sgd"]
Schedule: TypeAlias = Literal["cosine", "steps"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Epochs, learning rate, weight decay, augmentation, and how a step is computed.

    lr: the highest rate; it rises linearly over the share `warmup` of the steps, then falls. schedule: along a cosine to the share `final`
    of it; or in `steps`, to a tenth after 7/8 of training and to a hundredth after 19/20. optimizer: AdamW with betas 0.9 and 0.95, or SGD
    with momentum 0.9. weight_decay: of weight matrices alone. layer_decay: the rate of a layer is that of the next one times this, so that
    early layers of a pretrained model move less; 1 for equal rates. clip: the largest l2 norm of the gradient, to which a larger one is
    scaled down. accumulate: a step's batch is computed in so many parts one after another, in that share of the memory. precision: bfloat16
    and float16 compute the model under autocast, with weights in float32; in float16 the loss is scaled so that small gradients are not
    lost. ema: what is kept is a running mean of the weights, w ← ema · w + (1 − ema) · new; 0 for none.
    rotation (degrees), scale, shift (shares of the side): the most that an image is rotated, resized and shifted; three zeros turn
    augmentation off.
    """

    epochs: int = 200
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    rotation: float = 12.0
    scale: float = 0.15
    shift: float = 0.1
    layer_decay: float = 1.0
    clip: float = 1.0
    accumulate: int = 1
    precision: Precision = "float32"
    ema: float = 0.0
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "cosine"
    final: float = 0.0

    def __post_init__(self) -> None:
        _within("epochs", self.epochs, 1 <= self.epochs <= _MOST, f"a whole number from 1 to {_MOST:,}")
        _within("batch_size", self.batch_size, 1 <= self.batch_size <= _MOST, f"a whole number from 1 to {_MOST:,}")
        _within("lr", self.lr, 0 < self.lr < math.inf, "a finite number above 0")
        _within("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "a finite number from 0")
        _within("warmup", self.warmup, 0 <= self.warmup < 1, "a share in [0, 1)")
        _within("rotation", self.rotation, 0 <= self.rotation <= 180, "degrees in [0, 180]")
        _within("scale", self.scale, 0 <= self.scale < 1, "a share in [0, 1)")
        _within("shift", self.shift, 0 <= self.shift < 1, "a share in [0, 1)")
        _within("layer_decay", self.layer_decay, 1e-3 <= self.layer_decay <= 1, "a factor from 0.001 to 1")
        _within("clip", self.clip, 0 < self.clip < math.inf, "a finite number above 0")
        _within("accumulate", self.accumulate, 1 <= self.accumulate <= self.batch_size, "a whole number from 1 to the batch size")
        _within("ema", self.ema, 0 <= self.ema < 1, "a share in [0, 1)")
        _within("final", self.final, 0 <= self.final <= 1, "a share in [0, 1]")
        for name, known in (("optimizer", Optimizer), ("schedule", Schedule)):
            if getattr(self, name) not in get_args(known):
                raise BadParameter(f"training's {name} is '{getattr(self, name)}'; it takes {' or '.join(get_args(known))}.")
        if self.precision not in get_args(Precision):
            raise BadParameter(f"training's precision is '{self.precision}'; it takes float32, bfloat16 or float16.")


_MOST = 1_000_000  # epochs, and samples of a step


def _within(name: str, value: float, good: bool, allowed: str) -> None:
    if not good:
        raise BadParameter(f"training's {name} is {value:g}; it takes {allowed}.")


RECIPE = Recipe()
