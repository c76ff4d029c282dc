"""Linear probing: the head alone is trained."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.defense import Defense
from robustvit.primitives.training.freezing import train_only, trained_heads
from robustvit.spec.registry import defense


@defense(
    family="tuning", source="linear probing, as in Alain and Bengio 2016", url="https://arxiv.org/abs/1610.01644",
    rules="Given as `--tuning linear`. By gradient descent, with the augmentation of training; the transform `linear` is a closed form "
    "without it. Dropout and drop path of the model stay on while its head is trained.",
)  # fmt: skip
def linear() -> Defense:
    """Trains the linear head alone (linear probing): every other weight of the model stays to the bit, as do running statistics."""

    def prepare(model: nn.Module) -> nn.Module:
        return train_only(model, trained_heads(model, "linear"))

    return Defense("linear", prepare=prepare)
