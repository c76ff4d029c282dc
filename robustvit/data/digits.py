"""Handwritten digits that ship with scikit-learn: real data without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import dataset
from robustvit.spec.sample_order import order

_TEST = 500
_SIDE = 32
_LEVELS = 16  # the digits' pixels count inked points of 4x4 blocks: 0 … 16
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # Rec. 601
_CONTRAST = 0.3  # least difference of luminance between a digit and its ground
_TRIES = 64  # pairs of colours drawn for each digit; three in ten have the contrast, so every digit gets one


@dataset(
    source="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, as scikit-learn ships it",
    url="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    licence="CC BY 4.0",
    rules="Ships with scikit-learn: nothing to download. The 500 test digits are held out: a model that is evaluated on them may have been "
    "trained on the other 1297 only.",
    citation="""@misc{alpaydin1998optical,
  title={Optical Recognition of Handwritten Digits},
  author={Alpaydin, E. and Kaynak, C.},
  year={1998},
  howpublished={UCI Machine Learning Repository},
  doi={10.24432/C50P49}
}""",
)
def digits(root: Path | None, *, split: Literal["test", "train"] = "test", ink: Literal["coloured", "grey"] = "coloured") -> ArrayDataset:
    """1797 handwritten digits, 8×8 grey, enlarged to 32×32 RGB by Pillow's bicubic filter and printed in colour.

    test holds 500 of them, train the other 1297. The hash of each digit's number in scikit-learn's file fixes which, so the classes are
    nearly balanced. ink: `coloured` gives each digit two colours, drawn once from its id, uniform in RGB, the digit lighter than its ground
    by at least 0.3 of luminance; `grey` leaves white on black, where corruptions of colour alone do nothing. root is not used.
    """
    found = enlarged_digits(split)
    images = coloured(found.shares, colours_of(found.ids)) if ink == "coloured" else np.repeat(found.shares[..., None], 3, axis=3)
    return array_dataset("digits", images, found.labels, ids=found.ids, classes=[str(digit) for digit in range(10)])


class Digits(NamedTuple):
    """shares: (N, 32, 32) uint8 amounts of ink; labels: (N,) the digits."""

    ids: list[str]
    shares: np.ndarray
    labels: np.ndarray


class Colours(NamedTuple):
    """The colour of each digit's ground and of its ink, (N, 3) in [0, 1]."""

    ground: np.ndarray
    ink: np.ndarray


def enlarged_digits(split: Literal["test", "train"]) -> Digits:
    """The digits of a split, without colour."""
    bunch = load_digits()
    ranked = order([f"digits/{i:04d}" for i in range(len(bunch.target))])
    chosen = np.sort(ranked[:_TEST] if split == "test" else ranked[_TEST:])
    shares = np.stack([_enlarged(bunch.images[i]) for i in chosen])
    return Digits([f"digits/{split}/{i:04d}" for i in chosen], shares, bunch.target[chosen])


def _enlarged(digit: np.ndarray) -> np.ndarray:
    """(8, 8) float in 0 … 16 → (32, 32) uint8."""
    grey = Image.fromarray(np.rint(digit * (255 / _LEVELS)).astype(np.uint8))
    return np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))


def colours_of(ids: list[str]) -> Colours:
    """The two colours of each sample, drawn from its id."""
    rows = np.arange(len(ids))
    pairs = Draws(0, "digits/colours", ids).uniform(_TRIES, 2, 3).double().numpy()
    light = (pairs * _LUMINANCE).sum(axis=3)
    first = (np.abs(light[..., 0] - light[..., 1]) >= _CONTRAST).argmax(axis=1)
    pair, darker = pairs[rows, first], light[rows, first].argmin(axis=1)
    return Colours(pair[rows, darker], pair[rows, 1 - darker])


def coloured(shares: np.ndarray, colours: Colours) -> np.ndarray:
    """(N, H, W) uint8 amounts of ink → (N, H, W, 3) uint8 between each sample's ground colour and its ink colour."""
    ground, ink = (one[:, None, None] for one in colours)
    return np.asarray(np.rint(255 * ground + shares[..., None] * (ink - ground)).astype(np.uint8))
