"""JPEG compression and decompression without a file: the integer arithmetic of libjpeg-turbo's encoder and decoder.

Entropy coding is lossless, so it is left out. The rest follows libjpeg: 4:2:0 chroma subsampling, 16-bit colour conversion, the 13-bit
DCT of Loeffler, Ligtenberg and Moschytz 1989, and smooth ("fancy") upsampling. Pillow with libjpeg-turbo gives the same bits for images
wider than `NARROW`.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from robustvit.primitives.pixels import of_levels

NARROW = 4  # pixels: up to this width libjpeg upsamples by repetition instead
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
def quantization_tables(quality: int) -> NDArray[np.int32]:
    """Quantization tables (2, 8, 8) of luma and chroma at a quality of 1 … 100: ITU-T T.81, annex K, scaled as in libjpeg."""
    full = np.full((2, 8, 8), 99)
    full[0], full[1, :4, :4] = _LUMA, _CHROMA
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.asarray(np.clip((full * percent + 50) // 100, 1, 255).astype(np.int32))


def jpeg_round_trip(images: Tensor, quality: int) -> Tensor:
    """Compresses images (N, 3, H, W), wider than `NARROW`, as JPEG of that quality and decompresses them.

    All values are whole numbers below 2**53 in float64: the order of summation changes no bit, and every device gives the same result.
    """
    steps = torch.as_tensor(quantization_tables(quality), dtype=torch.float64, device=images.device)
    luma, chroma = _rgb_to_ycc((images.detach() * 255.0).round_().clamp_(0, 255).double())
    luma, chroma = _quantize_blocks(luma, steps[0]), _quantize_blocks(chroma, steps[1])
    return of_levels(_ycc_to_rgb(luma, _upsample(chroma, *images.shape[-2:])))


def _rgb_to_ycc(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Luma (N, 1, H, W) and the two chroma planes, subsampled to half the size."""
    weights, addends = (torch.tensor(given, dtype=torch.float64, device=levels.device) for given in (_YCC, _YCC_ADDENDS))
    full = torch.einsum("kc,nchw->nkhw", weights, levels).add_(addends[:, None, None]).mul_(2.0**-16).floor_()
    return full[:, :1], _subsample(full[:, 1:])


def _subsample(planes: Tensor) -> Tensor:
    """Averages 2×2 pixels, rounding up and down alternately along a row. Sides of odd length are padded with their last pixel.

    The width becomes a multiple of whole blocks, because the encoder repeats the last column before subsampling and the last row after it.
    """
    height, width = planes.shape[-2:]
    even = pad(planes, (0, -width % 16, 0, height % 2), mode="replicate")
    total = even[..., ::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, ::2] + even[..., 1::2, 1::2]
    bias = 1 + torch.arange(total.shape[-1], device=planes.device) % 2
    return total.add_(bias).mul_(0.25).floor_()


def _quantize_blocks(planes: Tensor, steps: Tensor) -> Tensor:
    """Quantizes the DCT coefficients of each 8×8 block to multiples of `steps` (8, 8) and transforms back. Returns levels."""
    height, width = planes.shape[-2:]
    whole = pad(planes - 128.0, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = whole.view(*whole.shape[:2], -1, 8, whole.shape[-1] // 8, 8)
    cosines = _dct_matrix(planes.device)
    rows = _rounded_shift(torch.einsum("kx,...rbx->...rbk", cosines, blocks), 11)
    coefficients = _rounded_shift(torch.einsum("kr,...rbx->...kbx", cosines, rows), 15)
    counts = coefficients.abs().add_(4.0 * steps[:, None]).div_(8.0 * steps[:, None]).floor_()
    kept = counts.mul_(steps[:, None]).copysign_(coefficients)
    columns = _rounded_shift(torch.einsum("kr,...kbx->...rbx", cosines, kept), 11)
    levels = _rounded_shift(torch.einsum("kx,...rbk->...rbx", cosines, columns), 18)
    return levels.add_(128.0).clamp_(0.0, 255.0).flatten(-2).flatten(-3, -2)[..., :height, :width]


def _dct_matrix(device: torch.device) -> Tensor:
    """The DCT matrix (8, 8), frequency by pixel, times 2**13 · √8, from libjpeg's 13-bit constants."""
    even, odd = (torch.tensor(half, dtype=torch.float64, device=device) for half in (_EVEN, _ODD))
    return torch.stack((torch.cat((even, even.flip(1)), 1), torch.cat((odd, -odd.flip(1)), 1)), dim=1).flatten(0, 1)


def _rounded_shift(values: Tensor, bits: int) -> Tensor:
    """Divides by 2**bits and rounds to whole numbers, halves up."""
    return values.add_(2.0 ** (bits - 1)).mul_(2.0**-bits).floor_()


def _upsample(planes: Tensor, height: int, width: int) -> Tensor:
    """Upsamples chroma planes by two: weights 9/16 for the nearest pixel, 3/16 for its two direct neighbours, 1/16 for the diagonal one."""
    near = pad(planes[..., : (width + 1) // 2], (1, 1, 1, 1), mode="replicate")
    this = 3.0 * near[..., 1:-1, :]
    tall = torch.stack((this + near[..., :-2, :], this + near[..., 2:, :]), dim=-2).flatten(-3, -2)
    this = 3.0 * tall[..., 1:-1]
    wide = torch.stack((this + tall[..., :-2] + 8.0, this + tall[..., 2:] + 7.0), dim=-1).flatten(-2)
    return wide.mul_(1 / 16).floor_()[..., :height, :width]


def _ycc_to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """RGB levels (N, 3, H, W) from luma (N, 1, H, W) and chroma (N, 2, H, W)."""
    blue, red = (chroma[:, at : at + 1] - 128.0 for at in (0, 1))
    moves = (_rounded_shift(91881.0 * red, 16), _rounded_shift(-22554.0 * blue - 46802.0 * red, 16), _rounded_shift(116130.0 * blue, 16))
    return torch.cat([luma + move for move in moves], dim=1).clamp_(0.0, 255.0)
