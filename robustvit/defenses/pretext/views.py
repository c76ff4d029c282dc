"""Random views of images, as contrastive learning takes them: crops, mirror images, other colours, grey, and blur."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.draws import Draws

_CROPS = 10  # boxes drawn for an image until one fits
_ASPECT = 4 / 3
_JITTERED, _GREYED = 0.8, 0.2  # probabilities, as the authors have them
_STRENGTHS = (0.8, 0.8, 0.8, 0.2)  # of brightness, contrast, saturation and hue at jitter 1
_SIGMAS = (0.1, 2.0)
_LUMA = (0.299, 0.587, 0.114)


class ViewChoice(NamedTuple):
    """What is drawn. scale: the smallest share of the area; flip, blur: probabilities; jitter: strength of colour changes, 0 is none."""

    scale: float
    flip: float
    jitter: float
    blur: float


def random_views(images: Tensor, draws: Draws, choice: ViewChoice) -> Tensor:
    """A random view of each image, (N, 3, H, W) in [0, 1]; an image's own does not depend on its company."""
    boxes = boxes_of(draws.at("crop"), images.shape[2:], choice.scale)
    made = torch.stack([_resized(image, box) for image, box in zip(images, boxes.tolist(), strict=True)])
    made = _where(draws.at("flip"), choice.flip, made.flip(3), made)
    if choice.jitter:
        made = _where(draws.at("jittered"), _JITTERED, jittered(made, draws.at("jitter"), choice.jitter), made)
        made = _where(draws.at("grey"), _GREYED, _grey(made).expand_as(made), made)
    sigmas = draws.at("sigma").uniform(low=_SIGMAS[0], high=_SIGMAS[1])
    return _where(draws.at("blur"), choice.blur, blurred(made, sigmas, images.shape[2] // 10), made) if choice.blur else made


def boxes_of(draws: Draws, size: torch.Size, scale: float) -> Tensor:
    """(N, 4) int64: top, left, height and width of the first box of `scale` to 1 of the area that fits, or of the whole image."""
    high, wide = size
    units = draws.uniform(_CROPS, 4).double()
    area = high * wide * (scale + (1 - scale) * units[..., 0])
    aspect = (math.log(_ASPECT) * (2 * units[..., 1] - 1)).exp()
    heights, widths = (area / aspect).sqrt().round().clamp(min=1), (area * aspect).sqrt().round().clamp(min=1)
    fits = (heights <= high) & (widths <= wide)
    first = fits.long().argmax(dim=1, keepdim=True)
    boxes = torch.stack(
        (((high - heights + 1) * units[..., 2]).floor(), ((wide - widths + 1) * units[..., 3]).floor(), heights, widths), dim=2
    )
    chosen = boxes.gather(1, first[:, :, None].expand(-1, -1, 4))[:, 0].long()
    return torch.where(fits.any(dim=1)[:, None], chosen, chosen.new_tensor((0, 0, high, wide)))


def jittered(images: Tensor, draws: Draws, strength: float) -> Tensor:
    """Images after changes of brightness, contrast, saturation and hue, in an order drawn for each, clipped after every one.

    Factors are uniform between 1 ∓ 0.8·strength (and at least 0); hues turn by up to 0.2·strength (at most half) of the circle.
    """
    spread = images.new_tensor(_STRENGTHS) * strength
    low, high = (1 - spread).clamp(min=0), 1 + spread
    low[3], high[3] = -spread[3].clamp(max=0.5), spread[3].clamp(max=0.5)
    amounts = low + (high - low) * draws.at("amount").uniform(4)
    order = draws.at("order").permutation(4)
    for turn in range(4):
        amount = amounts.gather(1, order[:, turn, None])[:, 0]
        changes = torch.stack([change(images, amount) for change in (_brightness, _contrast, _saturation, turned)])
        images = changes[order[:, turn], torch.arange(len(images), device=images.device)].clamp(0, 1)
    return images


def turned(images: Tensor, amounts: Tensor) -> Tensor:
    """Images whose hues are turned by shares (N,) of the circle; saturation and value of HSV stay."""
    value, least = images.amax(dim=1), images.amin(dim=1)
    chroma = value - least
    red, green, blue = images.unbind(dim=1)
    safe = torch.where(chroma > 0, chroma, 1)
    sextant = torch.where(
        value == red, (green - blue) / safe, torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    sextant = sextant + 6 * amounts[:, None, None]
    offsets = ((sextant[:, None] + sextant.new_tensor((5.0, 3.0, 1.0))[:, None, None]) % 6).clone()
    return value[:, None] - chroma[:, None] * torch.minimum(offsets, 4 - offsets).clamp(0, 1)


def blurred(images: Tensor, sigmas: Tensor, size: int) -> Tensor:
    """Images after a Gaussian of each one's own sigma, in pixels, over 2·(size // 2) + 1 of them, with zeros around."""
    radius = size // 2
    places = torch.arange(-radius, radius + 1, device=images.device)
    kernels = (-(places**2) / (2 * sigmas[:, None] ** 2)).exp()
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(images.shape[1], dim=0)
    rows = images.flatten(0, 1)[None]
    rows = functional.conv2d(rows, kernels[:, None, None, :], padding=(0, radius), groups=len(kernels))
    rows = functional.conv2d(rows, kernels[:, None, :, None], padding=(radius, 0), groups=len(kernels))
    return rows[0].view_as(images).clamp(0, 1)


def _resized(image: Tensor, box: list[int]) -> Tensor:
    top, left, high, wide = box
    part = image[None, :, top : top + high, left : left + wide]
    return functional.interpolate(part, image.shape[1:], mode="bicubic", antialias=True)[0].clamp(0, 1)


def _where(draws: Draws, share: float, changed: Tensor, others: Tensor) -> Tensor:
    """The changed images with probability `share`, drawn for each, and the others."""
    return torch.where((draws.uniform() < share)[:, None, None, None], changed, others)


def _brightness(images: Tensor, factors: Tensor) -> Tensor:
    return images * factors[:, None, None, None]


def _contrast(images: Tensor, factors: Tensor) -> Tensor:
    mean = images.mean(dim=(2, 3), keepdim=True)  # of each channel, as TensorFlow has it
    return mean + (images - mean) * factors[:, None, None, None]


def _saturation(images: Tensor, factors: Tensor) -> Tensor:
    grey = _grey(images)
    return grey + (images - grey) * factors[:, None, None, None]


def _grey(images: Tensor) -> Tensor:
    """The luma of ITU-R 601-2, (N, 1, H, W)."""
    return (images * images.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
