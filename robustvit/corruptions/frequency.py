"""Frequency corruptions: low-pass, high-pass and DCT filters, and one added Fourier basis image. None is truncated to 8 bits."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from robustvit.corruptions.kernels.eight_bit import in_chunks
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_PASS = "Ghiasi et al. 2022, What do Vision Transformers Learn? A Visual Exploration (the question; the filter is robustvit's)"
_PASS_URL = "https://arxiv.org/abs/2212.06727"
_PASS_CITATION = """@article{ghiasi2022vision,
  title={What do Vision Transformers Learn? A Visual Exploration},
  author={Ghiasi, Amin and Kazemi, Hamid and Borgnia, Eitan and others},
  journal={arXiv preprint arXiv:2212.06727},
  year={2022}
}"""
_PASS_RULES = "A sharp circle, per channel on pixels in [0, 1]; clipped to [0, 1], not truncated to 8 bits."
_OURS = "a definition of robustvit's; no code is used"


@corruption(
    severity="radius", family="frequency", source=_PASS, url=_PASS_URL, licence=_OURS, citation=_PASS_CITATION, rules=_PASS_RULES
)  # fmt: skip
def low_pass(images: Tensor, draws: Draws, *, radius: Annotated[float, Ge(0)]) -> Tensor:
    """Low-pass filter: keeps frequencies of at most `radius` cycles per image; the larger the radius, the milder.

    Radius 0 keeps only each channel's mean; from √((H/2)² + (W/2)²) on, the image is unchanged.
    """
    return in_chunks(lambda part: _remove(part, _distance(part) > radius).clamp_(0.0, 1.0).float(), images, rows=1)


@corruption(
    severity="radius", family="frequency", source=_PASS, url=_PASS_URL, licence=_OURS, citation=_PASS_CITATION, rules=_PASS_RULES
)  # fmt: skip
def high_pass(images: Tensor, draws: Draws, *, radius: Annotated[float, Ge(0)]) -> Tensor:
    """High-pass filter: keeps frequencies above `radius` cycles per image and each channel's mean. Radius 0 is the identity."""
    return in_chunks(lambda part: _remove(part, _except_mean(_distance(part) <= radius)).clamp_(0.0, 1.0).float(), images, rows=1)


@corruption(
    severity="size",
    family="frequency",
    source="Sharma, Ding & Brubaker 2019, On the Effectiveness of Low Frequency Perturbations (IJCAI), which masks perturbations",
    licence=_OURS,
    citation="""@inproceedings{sharma2019effectiveness,
  title={On the Effectiveness of Low Frequency Perturbations},
  author={Sharma, Yash and Ding, Gavin Weiguang and Brubaker, Marcus A.},
  booktitle={International Joint Conference on Artificial Intelligence},
  year={2019}
}""",
    rules="The cosine transform (DCT-II) of the whole image, not of blocks; clipped to [0, 1], not truncated to 8 bits.",
)
def dct_mask(images: Tensor, draws: Draws, *, size: Annotated[int, Ge(1)], keep: Literal["low", "high"] = "low") -> Tensor:
    """Keeps some DCT coefficients: `low` those of index below `size` in both directions, `high` all others and the mean.

    With `low`, size 1 keeps only the mean, and a size of at least the longer side the whole image; with `high`, size 1 is the identity.
    """
    low = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
    low[:size, :size] = True
    stopped = ~low if keep == "low" else _except_mean(low)
    return in_chunks(lambda part: _remove_cosines(part, stopped).clamp_(0.0, 1.0).float(), images, rows=1)


@corruption(
    severity="eps",
    family="frequency",
    source="Yin et al. 2019, A Fourier Perspective on Model Robustness in Computer Vision (NeurIPS)",
    url="https://arxiv.org/abs/1906.08988",
    licence=_OURS,
    citation="""@inproceedings{yin2019fourier,
  title={A Fourier Perspective on Model Robustness in Computer Vision},
  author={Yin, Dong and Gontijo Lopes, Raphael and Shlens, Jonathon and Cubuk, Ekin D. and Gilmer, Justin},
  booktitle={Advances in Neural Information Processing Systems},
  year={2019}
}""",
    rules="One frequency at a time; a heat map takes all of them. Clipped to [0, 1], not truncated to 8 bits.",
)
def fourier_noise(images: Tensor, draws: Draws, *, row: int, column: int, eps: Annotated[float, Ge(0)]) -> Tensor:
    """Adds a Fourier basis image of one frequency, with a random sign per channel. eps 0 is the identity.

    row, column: cycles down and across the image; a negative one mirrors the wave, and (−row, −column) is the same wave.
    eps: the L2 norm of the wave in one channel, in pixel units; the paper's is 15.7 at 224 px.
    """
    wave = _wave(images, row, column) * eps
    signs = draws.at("signs").integers(3, low=0, high=2).mul_(2).sub_(1)
    return in_chunks(lambda part, given: (part + given[:, :, None, None] * wave).clamp_(0.0, 1.0).float(), images, signs)


def _distance(images: Tensor) -> Tensor:
    """(H, W // 2 + 1) float64: the frequency of each entry of the half spectrum, in cycles per image."""
    height, width = images.shape[-2:]
    down = torch.fft.fftfreq(height, 1.0 / height, dtype=torch.float64, device=images.device)
    across = torch.fft.rfftfreq(width, 1.0 / width, dtype=torch.float64, device=images.device)
    distance: Tensor = (down[:, None].square() + across[None, :].square()).sqrt_()
    return distance


def _except_mean(stopped: Tensor) -> Tensor:
    stopped = stopped.clone()
    stopped[0, 0] = False
    return stopped


def _remove(images: Tensor, stopped: Tensor) -> Tensor:
    """Subtracts the `stopped` entries of the spectra from the images, in float64; with none stopped the bits are unchanged."""
    start = images.double()
    taken: Tensor = torch.fft.irfft2(torch.fft.rfft2(start) * stopped, s=images.shape[-2:])
    return start - taken


def _remove_cosines(images: Tensor, stopped: Tensor) -> Tensor:
    start = images.double()
    down, across = (_dct_matrix(side, images.device) for side in images.shape[-2:])
    return start - down.T @ ((down @ start @ across.T) * stopped) @ across


def _dct_matrix(side: int, device: torch.device) -> Tensor:
    """The orthonormal DCT-II matrix (side, side), float64."""
    at = torch.arange(side, dtype=torch.float64, device=device)
    cosines = (at[:, None] * (at + 0.5) * (math.pi / side)).cos_()
    return cosines.div_(cosines.square().sum(dim=1, keepdim=True).sqrt_())


def _wave(images: Tensor, row: int, column: int) -> Tensor:
    """(H, W) float64 of L2 norm 1: a cosine with its maximum in the top left corner."""
    height, width = images.shape[-2:]
    down = (torch.arange(height, device=images.device) * row).remainder(height).double() / height
    across = (torch.arange(width, device=images.device) * column).remainder(width).double() / width
    wave = ((down[:, None] + across) * (2.0 * math.pi)).cos_()
    return wave.div_(wave.square().sum().sqrt_())
