"""JPEG and back without a file between: what libjpeg-turbo's encoder and decoder do to pixels, in the same whole numbers.

Coding coefficients as bits and reading them again cancel out, so nothing here does it. The rest is settled by libjpeg: 4:2:0 subsampling, its
16-bit colours, the 13-bit cosines of Loeffler, Ligtenberg and Moschytz 1989, and smooth upsampling. Pillow with libjpeg-turbo gives the same bits for
pictures wider than `NARROW`.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from robustvit.primitives.pixels import of_levels

NARROW = 4  # pixels: up to this width libjpeg upsamples otherwise, by repetition
_EVEN = ((8192, 8192, 8192, 8192), (10703, 4433, -4433, -10703), (8192, -8192, -8192, 8192), (4433, -10704, 10704, -4433))
_ODD = ((11363, 9633, 6437, 2260), (9633, -2259, -11362, -6436), (6437, -11362, 2261, 9633), (2260, -6436, 9633, -11363))
_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
_YCC_ADDENDS = (1 << 15, (128 << 16) + (1 << 15) - 1, (128 << 16) + (1 << 15) - 1)
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))  # 99 beyond


@functools.lru_cache(maxsize=128)
def quantisers(quality: int) -> NDArray[np.int32]:
    """(2, 8, 8): what luma and chroma coefficients become multiples of, at a quality of 1 … 100. T.81, annex K, scaled as libjpeg does."""
    full = np.full((2, 8, 8), 99)
    full[0], full[1, :4, :4] = _LUMA, _CHROMA
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps: NDArray[np.int32] = np.clip((full * percent + 50) // 100, 1, 255).astype(np.int32)
    return steps


def reopened(images: Tensor, quality: int) -> Tensor:
    """The pictures (N, 3, H, W), wider than `NARROW`, as a JPEG file of that quality gives them back.

    Float64 throughout, of whole numbers below 2**53: no order of summation shows, and every device gives the same bits.
    """
    steps = torch.as_tensor(quantisers(quality), dtype=torch.float64, device=images.device)
    luma, chroma = _to_ycc((images.detach() * 255.0).round_().clamp_(0, 255).double())
    luma, chroma = _requantised(luma, steps[0]), _requantised(chroma, steps[1])
    return of_levels(_to_rgb(luma, _smooth(chroma, *images.shape[-2:])))


def _to_ycc(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Luma (N, 1, H, W), and the two chroma planes at half the size."""
    weights, addends = (torch.tensor(given, dtype=torch.float64, device=levels.device) for given in (_YCC, _YCC_ADDENDS))
    full = torch.einsum("kc,nchw->nkhw", weights, levels).add_(addends[:, None, None]).mul_(2.0**-16).floor_()
    return full[:, :1], _halved(full[:, 1:])


def _halved(planes: Tensor) -> Tensor:
    """Means of squares of four, rounded up and down by turns along a row. Sides of odd length repeat their last pixel.

    The width comes out in whole blocks, because the encoder repeats the last column before it halves the width, and the last row afterwards.
    """
    height, width = planes.shape[-2:]
    even = pad(planes, (0, -width % 16, 0, height % 2), mode="replicate")
    total = even[..., ::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, ::2] + even[..., 1::2, 1::2]
    bias = 1 + torch.arange(total.shape[-1], device=planes.device) % 2
    return total.add_(bias).mul_(0.25).floor_()


def _requantised(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes of levels whose coefficients, block by block, became multiples of the steps (8, 8). The same size."""
    height, width = planes.shape[-2:]
    whole = pad(planes - 128.0, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = whole.view(*whole.shape[:2], -1, 8, whole.shape[-1] // 8, 8)
    cosines = _cosines(planes.device)
    rows = _shifted(torch.einsum("kx,...rbx->...rbk", cosines, blocks), 11)
    coefficients = _shifted(torch.einsum("kr,...rbx->...kbx", cosines, rows), 15)
    counts = coefficients.abs().add_(4.0 * steps[:, None]).div_(8.0 * steps[:, None]).floor_()
    kept = counts.mul_(steps[:, None]).copysign_(coefficients)
    columns = _shifted(torch.einsum("kr,...kbx->...rbx", cosines, kept), 11)
    levels = _shifted(torch.einsum("kx,...rbk->...rbx", cosines, columns), 18)
    return levels.add_(128.0).clamp_(0.0, 255.0).flatten(-2).flatten(-3, -2)[..., :height, :width]


def _cosines(device: torch.device) -> Tensor:
    """(8, 8): frequency by pixel, times 2**13 · √8, as libjpeg's products of 13-bit constants have them."""
    even, odd = (torch.tensor(half, dtype=torch.float64, device=device) for half in (_EVEN, _ODD))
    return torch.stack((torch.cat((even, even.flip(1)), 1), torch.cat((odd, -odd.flip(1)), 1)), dim=1).flatten(0, 1)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """The values over 2**bits, halves rounded up."""
    return values.add_(2.0 ** (bits - 1)).mul_(2.0**-bits).floor_()


def _smooth(planes: Tensor, height: int, width: int) -> Tensor:
    """Planes of half the size at full size: of 16 parts of a pixel 9 are the nearest one's, 3 that's beside it, 3 that's above or below, 1 the corner's."""
    near = pad(planes[..., : (width + 1) // 2], (1, 1, 1, 1), mode="replicate")
    this = 3.0 * near[..., 1:-1, :]
    tall = torch.stack((this + near[..., :-2, :], this + near[..., 2:, :]), dim=-2).flatten(-3, -2)
    this = 3.0 * tall[..., 1:-1]
    wide = torch.stack((this + tall[..., :-2] + 8.0, this + tall[..., 2:] + 7.0), dim=-1).flatten(-2)
    return wide.mul_(1 / 16).floor_()[..., :height, :width]


def _to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Levels (N, 3, H, W) of luma (N, 1, H, W) and chroma (N, 2, H, W)."""
    blue, red = (chroma[:, at : at + 1] - 128.0 for at in (0, 1))
    moves = (_shifted(91881.0 * red, 16), _shifted(-22554.0 * blue - 46802.0 * red, 16), _shifted(116130.0 * blue, 16))
    return torch.cat([luma + move for move in moves], dim=1).clamp_(0.0, 255.0)
