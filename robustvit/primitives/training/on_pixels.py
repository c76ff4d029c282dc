"""A module to be trained, as defenses are given it: from pixels to logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter, with_article
from robustvit.primitives.reading import Reading


class OnPixels(nn.Module):
    """A module that takes pixels in [0, 1], (N, 3, H, W), made of one that takes normalised ones.

    mean, std: of the normalisation, one number for each channel. reading: how its outputs become logits of the data's classes, None where
    they are. Its parameters are those of `model`, and are trained through it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], reading: Reading | None = None) -> None:
        super().__init__()
        self.model, self.reading = model, reading
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) logits."""
        logits: Tensor = self.model((images - self.mean) / self.std)
        return logits if self.reading is None else self.reading.read(logits)


def normalised(model: nn.Module, images: Tensor) -> Tensor:
    """What a model's own module is given of images (N, C, H, W) in [0, 1]. Raises BadParameter for a model without a normalisation."""
    mean, std = (_of_normalisation(model, name) for name in ("mean", "std"))
    return (images - mean) / std


def normalisation_mean(model: nn.Module) -> Tensor:
    """The mean of a model's normalisation, (1, C, 1, 1). Raises BadParameter for a model without one."""
    return _of_normalisation(model, "mean")


def _of_normalisation(model: nn.Module, name: str) -> Tensor:
    found = getattr(model, name, None)
    if not isinstance(found, Tensor):
        raise BadParameter(
            f"{with_article(type(model).__name__)} has no normalisation of its own, which the defense needs: give "
            "rv.OnPixels(module, mean, std)."
        )
    return found
