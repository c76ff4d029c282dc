"""Images of which a model sees some channels: the others at the mean of its normalisation, or black."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustvit.errors import BadParameter, HostRefused, ModelError
from robustvit.primitives.batch import Data, traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.lesions.seeded_choices import listed_subsets

_FEW = 8  # channels up to so many have all their subsets listed, as in the evaluation of ChannelViT


def with_channels(images: Tensor, keep: Tensor, mean: Tensor, *, rescale: bool) -> Tensor:
    """Images (N, C, H, W) of which the other channels are at the mean of the normalisation, (1, C, 1, 1); not clipped to [0, 1].

    keep: (N, C) bool, at least one of each row. rescale: deviations from the mean times C over the number of channels kept.
    """
    share = keep.float().mean(dim=1, keepdim=True) if rescale else torch.ones_like(keep[:, :1], dtype=torch.float32)
    factor = (keep / share).to(images)[:, :, None, None]
    return torch.where(factor == 1, images, mean + factor * (images - mean))


def without_channels(images: Tensor, dropped: Sequence[int]) -> Tensor:
    """Images (N, C, H, W) of which some channels are black: 0."""
    flags = torch.zeros(images.shape[1], dtype=torch.bool, device=images.device)
    flags[list(dropped)] = True
    return images.masked_fill(flags[:, None, None], 0.0)


def listed_channels(channels: int, subsets: int, seed: int) -> list[tuple[int, ...]]:
    """Subsets of so many channels, by size: of up to 8 channels all but the empty one, of more at most `subsets` of each size."""
    most = 2**_FEW if channels <= _FEW else subsets
    return [one for size in range(1, channels + 1) for one in listed_subsets(channels, size, most, seed)]


def check_channels(plugin: str, named: Sequence[int], channels: int) -> None:
    """Raises BadParameter, naming the plug-in, for a channel that is not there or is named twice."""
    for place, channel in enumerate(named):
        if not 0 <= channel < channels:
            raise BadParameter(f"{plugin}: there is no channel {channel}; images have {channels}, 0 to {channels - 1}.")
        if channel in named[:place]:
            raise BadParameter(f"{plugin}: channel {channel} is named twice.")


def require_own_size(plugin: str, model: Classifier) -> None:
    """Raises HostRefused where a model resizes its images, which clips what lies outside [0, 1] after channels are scaled."""
    if model.view.shown is not None:
        raise HostRefused(
            f"'{plugin}' changes normalised images, and '{model.card.label}' resizes them before: give it images of its size."
        )


def require_channels(model: Classifier, data: Data) -> None:
    """Raises ModelError unless a model takes images of as many channels as a data set has, which is three for most."""
    channels = traits(data).channels
    if channels == 3:
        model.require_rgb(data.name)
    elif model.channels != channels:
        raise ModelError(
            f"model '{model.card.label}' takes images of {model.channels} channels, and data '{data.name}' has images of {channels}: build "
            f"it for them (timm: ?kwargs=in_chans={channels}; arch/channel_vit: ?channels={channels}), with a mean and std for each."
        )
