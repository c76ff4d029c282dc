"""Images of random fractals, each category an iterated function system: to pretrain on, and to mix into other images."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from robustvit.data.formats.arrays import ArrayDataset
from robustvit.data.formats.image_dataset import image_dataset, numbered_classes
from robustvit.data.fractals.iterated_functions import IteratedFunctions, Orbit, orbit, random_system
from robustvit.primitives.batch import Traits
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Whole
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

FILL = 0.2  # least share of pixels that the attractor of a category covers
_RASTER, _POINTS = 64, 1 << 13  # pixels of a side, and points, by which that share is measured
_PER_PIXEL = 5  # points of an orbit for each pixel of an image
_MARGIN = 1 / 16  # of a side, which stays free
_FACTORS = (0.2, 0.6, 1.4, 1.8)  # of one entry of the maps, by which instances differ
_FLIPS, _CHANGES, _PATCHES = 4, 1 + 6 * len(_FACTORS), 10
_MEMORY = 1 << 28  # bytes of images that are kept


@dataset(
    source="Kataoka et al. 2020, Pre-training without Natural Images (FractalDB); one instance a category: Nakamura et al. 2023 (OFDB)",
    url="https://hirokatsukataoka16.github.io/Pretraining-without-Natural-Images/",
    licence="computed here: no terms",
    rules="Computed from the seed: nothing to download. Differs from FractalDB: all maps contract, every instance has random numbers of "
    "its own, and by default points have the colours of the maps that made them, on a ground, where the authors' are grey on black "
    "(`ink=grey`). One instance is the system itself, unchanged, as the OFDB paper has it.",
    citation="""@inproceedings{kataoka2020pretraining,
  title={Pre-training without Natural Images},
  author={Kataoka, Hirokatsu and Okayasu, Kazushige and Matsumoto, Asato and Yamagata, Eisuke and Yamada, Ryosuke and Inoue, Nakamasa and
    Nakamura, Akio and Satoh, Yutaka},
  booktitle={Asian Conference on Computer Vision},
  year={2020}
}""",
)
def fractals(
    root: Path | None, *, categories: Annotated[int, Ge(2), Le(100_000)] = 64, instances: Annotated[int, Ge(1), Le(1000)] = 1,
    side: Annotated[int, Ge(8), Le(4096)] = 32, ink: Literal["coloured", "grey"] = "coloured", seed: Whole = 0,
) -> ArrayDataset:  # fmt: skip
    """Images of the attractors of random iterated function systems, as many systems as categories, which are the classes.

    A system has 2 to 7 affine maps with entries uniform in [−1, 1) that cover a fifth of the image or more. Instances of a category: its
    mirror images (4), with one entry of the maps times 0.2, 0.6, 1.4 or 1.8 (25 with none), drawn with points or one of nine random strokes
    of 3×3 pixels (10); the first is none of these. side: of the images, in pixels. seed: of the systems. root is not used.
    """
    ids = [f"fractals/{seed}/{category:05d}/{instance:03d}" for category in range(categories) for instance in range(instances)]
    marks = [f"{one} {side} {ink}" for one in ids]

    @functools.lru_cache(maxsize=max(1, _MEMORY // (3 * side**2)))
    def read(index: int) -> NDArray[np.uint8]:
        category, instance = divmod(index, instances)
        made = drawn(category_system(seed, category), Draws(seed, "fractals", ids[index : index + 1]), instance, side, ink)
        made.flags.writeable = False
        return made

    return image_dataset(
        "fractals", read, ids=ids, labels=np.repeat(np.arange(categories), instances), classes=numbered_classes(categories, "fractals"),
        readings=(Reading("all", categories),), marks=marks, source="generated", traits=Traits(cut=side, fleeting=True),
    )  # fmt: skip


@functools.lru_cache(maxsize=100_000)
def category_system(seed: int, category: int) -> IteratedFunctions:
    """The system of a category: of random ones the first that covers a fifth of the image."""
    attempt = 0
    while True:
        draws = Draws(seed, "fractals/system", (f"{category}/{attempt}",))
        system = random_system(draws)
        if (_hits(orbit(system, draws, _POINTS).points, _RASTER) > 0).mean() >= FILL:
            return system
        attempt += 1


def drawn(system: IteratedFunctions, draws: Draws, instance: int, side: int, ink: str) -> NDArray[np.uint8]:
    """The image of one instance of a system, (side, side, 3). draws: of one sample."""
    flip, change, patch = instance % _FLIPS, instance // _FLIPS % _CHANGES, instance // (_FLIPS * _CHANGES) % _PATCHES
    if change:
        entry, factor = divmod(change - 1, len(_FACTORS))
        system = system.scaled(entry, _FACTORS[factor])
    found = orbit(system, draws, _PER_PIXEL * side**2)
    stroke = int(draws.at("stroke").integers(low=1, high=512)) if patch else 1 << 4
    image = _grey(found, side, stroke) if ink == "grey" else _coloured(found, side, stroke, draws)
    return np.ascontiguousarray(image[:: -1 if flip // 2 else 1, :: -1 if flip % 2 else 1])


def _grey(found: Orbit, side: int, stroke: int) -> NDArray[np.uint8]:
    return np.repeat((127 * (_spread(_hits(found.points, side), stroke) > 0)).astype(np.uint8)[..., None], 3, axis=2)


def _coloured(found: Orbit, side: int, stroke: int, draws: Draws) -> NDArray[np.uint8]:
    """The mean colour of the points in each pixel, the more of it the more there are, over a ground of one colour."""
    count = _spread(_hits(found.points, side), stroke)
    total = np.stack([_spread(_hits(found.points, side, one), stroke) for one in found.colours.T], axis=-1)
    share = np.log1p(count) / np.log1p(count.max())
    ground = draws.at("ground").uniform(3)[0].double().numpy()
    mean = total / count.clip(min=1)[..., None]
    return np.asarray(np.rint(255 * (ground + share[..., None] ** 0.5 * (mean - ground))).astype(np.uint8))


def _hits(points: NDArray[np.float64], side: int, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """How many points, or the sum of their weights, are in each pixel of a square with a margin that both axes are scaled to."""
    low, high = points.min(axis=0), points.max(axis=0)
    free = round(side * _MARGIN)
    places = ((points - low) / np.maximum(high - low, 1e-12) * (side - 2 * free - 1) + free + 0.5).astype(np.int64)
    found = np.bincount(places[:, 1] * side + places[:, 0], weights, minlength=side**2)
    return np.asarray(found.reshape(side, side).astype(np.float64))


def _spread(hits: NDArray[np.float64], stroke: int) -> NDArray[np.float64]:
    """The hits drawn with a stroke of 3×3 pixels, whose nine bits say which are drawn; 16 is the point itself."""
    if stroke == 1 << 4:
        return hits
    padded, side = np.pad(hits, 1), len(hits)
    parts = [padded[bit // 3 : bit // 3 + side, bit % 3 : bit % 3 + side] for bit in range(9) if stroke >> bit & 1]
    return np.asarray(np.sum(parts, axis=0))
