"""Channels of the image made black."""

from __future__ import annotations

from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.shown_channels import check_channels, without_channels
from robustvit.spec.registry import corruption


@corruption(
    family="channels", any_channels=True, source="definition; cf. Bao et al. 2024 (ChannelViT), whose masks come after the normalisation",
    url="https://arxiv.org/abs/2309.16108", licence="a published idea; no code is used",
    rules="Black before the normalisation is far from the mean after it: results differ from those of the transform keep_channels, whose "
    "channels are zero after the normalisation.",
)  # fmt: skip
def drop_channels(images: Tensor, draws: Draws, *, channels: tuple[int, ...] = (0,)) -> Tensor:
    """Makes channels of the image black, before the normalisation; the others keep their bits.

    channels: those that go, counted from 0; at least one stays. Raises BadParameter for a channel that is not there, or one that is named
    twice.
    """
    check_channels("drop_channels", channels, images.shape[1])
    if len(channels) == images.shape[1]:
        raise BadParameter(f"drop_channels: all {images.shape[1]} channels would be black; leave one.")
    return without_channels(images, channels)
