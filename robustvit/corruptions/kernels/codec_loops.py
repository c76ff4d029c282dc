"""Compiled loops of the JPEG codec, equal to `codec` in torch; they work on tiles of four blocks, which fit into the first-level cache.

Numba widens sums of int32 to int64, so that only half as many fit a vector register: hence `np.int32(…)` around each before it is shifted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustvit.primitives.compiled import loop

Singles = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int32]
Octet = tuple[np.int32, np.int32, np.int32, np.int32, np.int32, np.int32, np.int32, np.int32]

_WHITE = np.float32(255.0)
_TILE = 32  # columns processed at once: four blocks
_VALUES = 8 * _TILE
_CENTRE = (128 << 16) + (1 << 15) - 1  # offset of chroma with its rounding term, which libjpeg makes one less than a half


@loop
def jpeg_round_trip(images: Singles, steps: Integers, out: Singles) -> None:
    """out: images (N, 3, H, W) after JPEG compression and decompression. steps: (2, 8, 8) quantization tables of luma and chroma."""
    height, width = images.shape[2], images.shape[3]
    rows, columns = (height + 1) // 2, (width + 1) // 2
    luma = np.empty((-(-height // 8) * 8, -(-width // _TILE) * _TILE), np.uint8)
    chroma = np.empty((2, -(-rows // 8) * 8, -(-columns // _TILE) * _TILE), np.uint8)
    for image in range(len(images)):
        _rgb_to_ycc(images[image], luma, chroma)
        _quantize_blocks(luma, steps[0])
        _quantize_blocks(chroma[0], steps[1])
        _quantize_blocks(chroma[1], steps[1])
        _ycc_to_rgb(luma, chroma, out[image])


@loop
def _rgb_to_ycc(image: Singles, luma: Bytes, chroma: Bytes) -> None:
    """Fills luma (H, W) and the subsampled chroma planes, padded to whole blocks, from an image (3, H, W)."""
    height, width = image.shape[1], image.shape[2]
    half = (height + 1) // 2
    blue, red = np.empty((2, -(-width // 16) * 16), np.int32), np.empty((2, -(-width // 16) * 16), np.int32)
    for row in range(half):
        for turn in range(2):
            at = min(2 * row + turn, height - 1)
            _row_rgb_to_ycc(image[0, at], image[1, at], image[2, at], luma[at], blue[turn], red[turn])
        _subsample(blue, chroma[0, row])
        _subsample(red, chroma[1, row])
    _repeat_last_rows(luma, height)
    _repeat_last_rows(chroma[0], half)
    _repeat_last_rows(chroma[1], half)


@loop
def _row_rgb_to_ycc(reds: Singles, greens: Singles, blues: Singles, luma: Bytes, blue: Integers, red: Integers) -> None:
    """Fills a row of luma and of both chroma channels at full size."""
    for at in range(reds.size):
        r, g, b = _level(reds[at]), _level(greens[at]), _level(blues[at])
        luma[at] = np.int32(19595 * r + 38470 * g + 7471 * b + 32768) >> 16
        blue[at] = np.int32(-11059 * r - 21709 * g + 32768 * b + _CENTRE) >> 16
        red[at] = np.int32(32768 * r - 27439 * g - 5329 * b + _CENTRE) >> 16
    last = reds.size - 1
    for at in range(reds.size, -(-reds.size // 8) * 8):
        luma[at] = luma[last]
    for at in range(reds.size, blue.size):
        blue[at], red[at] = blue[last], red[last]


@loop
def _level(pixel: float) -> np.int32:
    return _byte(np.int32(np.rint(pixel * _WHITE)))


@loop
def _byte(value: np.int32) -> np.int32:
    return np.int32(min(max(value, np.int32(0)), np.int32(255)))


@loop
def _subsample(pair: Integers, out: Bytes) -> None:
    """out: means of 2×2 pixels in a pair of rows, rounded up and down alternately."""
    above, below = pair[0], pair[1]
    for at in range(above.size // 2):
        out[at] = np.int32(above[2 * at] + above[2 * at + 1] + below[2 * at] + below[2 * at + 1] + 1 + (at & 1)) >> 2


@loop
def _repeat_last_rows(plane: Bytes, height: int) -> None:
    """Fills the rows from `height` on with row `height − 1`."""
    for row in range(height, plane.shape[0]):
        for at in range(plane.shape[1]):
            plane[row, at] = plane[height - 1, at]


@loop
def _quantize_blocks(plane: Bytes, steps: Integers) -> None:
    """Quantizes the DCT coefficients of a plane of whole blocks to multiples of the steps (8, 8), in place."""
    tile, whole, shares = np.empty(_VALUES, np.int32), np.empty(_VALUES, np.int32), np.empty(_VALUES, np.float32)
    for at in range(_VALUES):
        whole[at] = steps[at // _TILE, at % 8]
        shares[at] = np.float32(1.0) / np.float32(8 * whole[at])
    for top in range(0, plane.shape[0], 8):
        for left in range(0, plane.shape[1], _TILE):
            square = plane[top : top + 8, left : left + _TILE]
            _load(square, tile)
            _dct_rows(tile)
            _quantize_columns(tile, whole, shares)
            _inverse_dct_rows(tile)
            _store(tile, square)


@loop
def _load(levels: Bytes, tile: Integers) -> None:
    for row in range(8):
        given = levels[row]
        for at in range(_TILE):
            tile[row * _TILE + at] = np.int32(given[at]) - 128


@loop
def _store(tile: Integers, levels: Bytes) -> None:
    for row in range(8):
        for at in range(_TILE):
            levels[row, at] = _byte(np.int32(tile[row * _TILE + at] + 128))


@loop
def _dct_rows(tile: Integers) -> None:
    for at in range(_TILE):
        _write_eight(tile, 8 * at, 1, _dct(_read_eight(tile, 8 * at, 1), 11))


@loop
def _quantize_columns(tile: Integers, whole: Integers, shares: Singles) -> None:
    for at in range(_TILE):
        _write_eight(tile, at, _TILE, _dct(_read_eight(tile, at, _TILE), 15))
    for at in range(_VALUES):
        tile[at] = _quantize(tile[at], whole[at], shares[at])
    for at in range(_TILE):
        _write_eight(tile, at, _TILE, _inverse_dct(_read_eight(tile, at, _TILE), 11))


@loop
def _inverse_dct_rows(tile: Integers) -> None:
    for at in range(_TILE):
        _write_eight(tile, 8 * at, 1, _inverse_dct(_read_eight(tile, 8 * at, 1), 18))


@loop
def _read_eight(tile: Integers, at: int, step: int) -> Octet:
    end = at + 4 * step
    low = tile[at], tile[at + step], tile[at + 2 * step], tile[at + 3 * step]
    return *low, tile[end], tile[end + step], tile[end + 2 * step], tile[end + 3 * step]


@loop
def _write_eight(tile: Integers, at: int, step: int, values: Octet) -> None:
    for k in range(8):
        tile[at + k * step] = values[k]


@loop
def _dct(samples: Octet, bits: int) -> Octet:
    """The DCT of eight values, shifted right by `bits` and rounded."""
    x0, x1, x2, x3, x4, x5, x6, x7 = samples
    half = 1 << (bits - 1)
    s0, s1, s2, s3 = np.int32(x0 + x7), np.int32(x1 + x6), np.int32(x2 + x5), np.int32(x3 + x4)
    d0, d1, d2, d3 = np.int32(x0 - x7), np.int32(x1 - x6), np.int32(x2 - x5), np.int32(x3 - x4)
    return (
        np.int32(8192 * (s0 + s1 + s2 + s3) + half) >> bits,
        np.int32(11363 * d0 + 9633 * d1 + 6437 * d2 + 2260 * d3 + half) >> bits,
        np.int32(10703 * (s0 - s3) + 4433 * (s1 - s2) + half) >> bits,
        np.int32(9633 * d0 - 2259 * d1 - 11362 * d2 - 6436 * d3 + half) >> bits,
        np.int32(8192 * (s0 - s1 - s2 + s3) + half) >> bits,
        np.int32(6437 * d0 - 11362 * d1 + 2261 * d2 + 9633 * d3 + half) >> bits,
        np.int32(4433 * (s0 - s3) - 10704 * (s1 - s2) + half) >> bits,
        np.int32(2260 * d0 - 6436 * d1 + 9633 * d2 - 11363 * d3 + half) >> bits,
    )


@loop
def _inverse_dct(frequencies: Octet, bits: int) -> Octet:
    """The inverse DCT of eight coefficients, shifted right by `bits` and rounded."""
    y0, y1, y2, y3, y4, y5, y6, y7 = frequencies
    half = 1 << (bits - 1)
    a, b = np.int32(8192 * (y0 + y4) + half), np.int32(8192 * (y0 - y4) + half)
    c, d = np.int32(10703 * y2 + 4433 * y6), np.int32(4433 * y2 - 10704 * y6)
    e0, e1, e2, e3 = np.int32(a + c), np.int32(b + d), np.int32(b - d), np.int32(a - c)
    o0 = np.int32(11363 * y1 + 9633 * y3 + 6437 * y5 + 2260 * y7)
    o1 = np.int32(9633 * y1 - 2259 * y3 - 11362 * y5 - 6436 * y7)
    o2 = np.int32(6437 * y1 - 11362 * y3 + 2261 * y5 + 9633 * y7)
    o3 = np.int32(2260 * y1 - 6436 * y3 + 9633 * y5 - 11363 * y7)
    low = np.int32(e0 + o0) >> bits, np.int32(e1 + o1) >> bits, np.int32(e2 + o2) >> bits, np.int32(e3 + o3) >> bits
    return *low, np.int32(e3 - o3) >> bits, np.int32(e2 - o2) >> bits, np.int32(e1 - o1) >> bits, np.int32(e0 - o0) >> bits


@loop
def _quantize(value: np.int32, step: np.int32, share: np.float32) -> np.int32:
    """The multiple of `step` nearest to an eighth of the value, halves away from zero. share: 1 / (8 · step)."""
    size = np.int32(abs(value))
    count = np.int32((np.float32(size + 4 * step) + np.float32(0.5)) * share)
    return np.int32(-count * step if value < 0 else count * step)


@loop
def _ycc_to_rgb(luma: Bytes, chroma: Bytes, out: Singles) -> None:
    """out: RGB (3, H, W) from luma (H, W) and subsampled chroma planes."""
    height, width = out.shape[1], out.shape[2]
    last = (height + 1) // 2 - 1
    blue, red = np.empty(width + 1, np.int32), np.empty(width + 1, np.int32)
    sums = np.empty((width + 1) // 2 + 2, np.int32)
    for row in range(height):
        this = row // 2
        near = min(max(this + 2 * (row & 1) - 1, 0), last)
        _upsample(chroma[0, this], chroma[0, near], sums, blue)
        _upsample(chroma[1, this], chroma[1, near], sums, red)
        _row_ycc_to_rgb(luma[row], blue, red, out[0, row], out[1, row], out[2, row])


@loop
def _upsample(this: Bytes, near: Bytes, sums: Integers, out: Integers) -> None:
    """out: a chroma row of full width, centred at zero, from its nearest subsampled row and the next nearest one."""
    count = sums.size - 2
    for at in range(count):
        sums[at + 1] = 3 * np.int32(this[at]) + near[at]
    sums[0], sums[count + 1] = sums[1], sums[count]
    for at in range(count):
        own = np.int32(3 * sums[at + 1])
        out[2 * at] = (np.int32(own + sums[at] + 8) >> 4) - 128
        out[2 * at + 1] = (np.int32(own + sums[at + 2] + 7) >> 4) - 128


@loop
def _row_ycc_to_rgb(luma: Bytes, blue: Integers, red: Integers, reds: Singles, greens: Singles, blues: Singles) -> None:
    for at in range(reds.size):
        grey, b, r = np.int32(luma[at]), blue[at], red[at]
        reds[at] = _pixel(np.int32(grey + (np.int32(91881 * r + 32768) >> 16)))
        greens[at] = _pixel(np.int32(grey + (np.int32(-22554 * b - 46802 * r + 32768) >> 16)))
        blues[at] = _pixel(np.int32(grey + (np.int32(116130 * b + 32768) >> 16)))


@loop
def _pixel(level: np.int32) -> np.float32:
    return np.float32(_byte(level)) / _WHITE
