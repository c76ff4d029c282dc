"""The model of another's loop, which takes normalised images: logits from pixels, and pixels from normalised images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from robustvit.errors import BadParameter, ModelError, PixelRange, with_article
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.pixels import of_levels
from robustvit.primitives.training.on_pixels import OnPixels

_ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-5}  # how far beyond [0, 1] rounding may bring a pixel; more in half precision:
_HALF_ROUNDING = 4e-3
_LEVEL_ROUNDING = 1e-3  # of a level of 8 bits


class NormalisedModel(OnPixels):
    """OnPixels for the models of others: it takes logits out of what Hugging Face's models return, and computes in the dtype of the model.

    given_pixels: whether the loop's images are pixels already, as where it trains an OnPixels.
    """

    given_pixels: bool = False

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) logits, float32 or float64, of pixels. Raises ModelError where the model returns none."""
        logits = logits_of(self.model(((images - self.mean) / self.std).to(self.dtype)), self.model)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return logits if self.reading is None else self.reading.read(logits)

    @property
    def dtype(self) -> torch.dtype:
        """That of the model's parameters."""
        return next((one.dtype for one in self.model.parameters() if one.is_floating_point()), torch.float32)

    def pixels(self, images: Tensor) -> Tensor:
        """The pixels in [0, 1] of images (N, C, H, W) that are normalised for the model, float32 or float64.

        Those of an image of 8 bits come back exactly, and what rounding brought beyond the range is clipped. Raises PixelRange
        where more is beyond, BadParameter for what is no batch of images.
        """
        if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
            what = f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else f"{with_article(type(images).__name__)}"
            raise BadParameter(f"a defense takes the images that the model takes, (N, 3, H, W) of floats; it was given {what}.")
        self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)
        wide = images.detach() if images.dtype == torch.float64 else images.detach().float()
        pixels = wide.clone() if self.given_pixels else wide * self.std + self.mean
        low, high = (float(end) for end in torch.aminmax(pixels)) if pixels.numel() else (0.0, 1.0)
        most = _ROUNDING.get(images.dtype, _HALF_ROUNDING)
        if not (low >= -most and high <= 1 + most):
            raise PixelRange(self._beyond(low, high))
        pixels.clamp_(0.0, 1.0)
        return pixels if self.given_pixels else _exact(pixels)

    def _beyond(self, low: float, high: float) -> str:
        span = f"the images of a batch span [{low:.4g}, {high:.4g}] in pixels, which are in [0, 1]"
        if self.given_pixels:
            return f"{span}: they seem normalised. Give the mean and std with which they are."
        by = " and ".join(
            f"{name} {[round(float(one), 4) for one in of.flatten()]}" for name, of in (("mean", self.mean), ("std", self.std))
        )
        return f"{span}, by {by}. Give those of the loop's normalisation, and leave out what changes normalised images (erasing by noise)."


def normalised_model(model: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> NormalisedModel:
    """A model that takes images normalised by mean and std, or pixels in [0, 1] without them, as defenses are given it.

    model: a module, an OnPixels, or either in DistributedDataParallel, which is left out here. Raises BadParameter for a mean without a
    std, ModelError for a Classifier.
    """
    inner = without_wrapper(model)
    if std is not None and not all(value > 0 for value in std):
        raise BadParameter(f"std is {tuple(std)}; it takes a number above 0 for each channel.")
    if (mean is None) != (std is None):
        raise BadParameter(f"mean is {mean} and std is {std}; give both, or neither for a model that takes pixels in [0, 1].")
    if isinstance(inner, Classifier):
        raise ModelError(f"model '{inner.card.label}' is a Classifier, which is frozen; train its module, `.model.requires_grad_(True)`.")
    if isinstance(inner, OnPixels) and mean is None:
        made = NormalisedModel(inner.model, inner.mean.flatten().tolist(), inner.std.flatten().tolist(), inner.reading)
    else:
        made = NormalisedModel(inner, *((0.0,) * 3, (1.0,) * 3) if mean is None or std is None else (mean, std))
    made.given_pixels = mean is None
    first = next(inner.parameters(), None)
    return made if first is None else made.to(first.device)


def check_trainable(made: NormalisedModel) -> None:
    """Raises ModelError for a model that has nothing to train, or whose weights are of float16."""
    if not any(one.requires_grad for one in made.model.parameters()):
        raise ModelError(f"no parameter of the {type(made.model).__name__} requires a gradient: there is nothing to train.")
    if made.dtype == torch.float16:
        raise ModelError(
            "the weights of the model are float16, in which gradients of images vanish; keep them in float32 and train under autocast."
        )


def without_wrapper(model: nn.Module) -> nn.Module:
    """The module that DistributedDataParallel wraps, or the module itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def logits_of(output: Any, model: nn.Module) -> Tensor:
    """The logits in what a model returns: a tensor, or an object with `logits`. Raises ModelError for anything else."""
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        what = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else f"{with_article(type(output).__name__)}"
        raise ModelError(
            f"{with_article(type(model).__name__)} returned {what}; a defense needs (N, K) logits, as a tensor or in `.logits`."
        )
    return logits


def _exact(pixels: Tensor) -> Tensor:
    """Pixels, where those of an image are levels of 8 bits to rounding as exactly those."""
    levels = (pixels * 255).round_()
    near = (pixels * 255 - levels).abs_().flatten(1).amax(dim=1) <= _LEVEL_ROUNDING
    return torch.where(near[:, None, None, None], of_levels(levels).to(pixels.dtype), pixels)
