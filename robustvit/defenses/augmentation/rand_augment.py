"""RandAugment, timm's, with draws of its own for every image."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{cubuk2020randaugment,
  title={Randaugment: Practical automated data augmentation with a reduced search space},
  author={Cubuk, Ekin D. and Zoph, Barret and Shlens, Jonathon and Le, Quoc V.},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops},
  year={2020}
}"""
_CONFIG = r"rand(-(m|n|p|w|mstd|mmax|inc)\d+(\.\d+)?)*"
_SHIFT = 0.45  # of the side at most, as timm's recipes have it


@defense(
    family="augmentation", source="Cubuk et al. 2020, in timm", url="https://arxiv.org/abs/1909.13719", citation=_CITATION,
    rules="Some of its operations are corruptions of ImageNet-C, or near to them (brightness, contrast, posterize): say so beside mCE. The "
    "operations are timm's; the draws are keyed by sample, where timm draws from Python's global generators.",
)  # fmt: skip
def rand_augment(*, config: str = "rand-m9-mstd0.5-inc1") -> Defense:
    """RandAugment (Cubuk et al. 2020): random operations in a row, of random strength, as timm has them.

    config: in timm's words: `m9` the magnitude of 10, `mstd0.5` its deviation, `n2` how many operations, `inc1` operations that grow
    stronger with the magnitude alone. Images are those of 8 bits at the model's size. Raises BadParameter for what timm does not know.
    """
    _checked(config)

    def batch(given: Batch, draws: Draws) -> Batch:
        side = min(given.images.shape[2:])
        hints = {"translate_const": int(side * _SHIFT), "img_mean": (128, 128, 128)}
        seeds = draws.at("seed").integers(low=0, high=2**32).tolist()
        made = given.images.clone()
        for row, (levels, seed) in enumerate(zip(to_uint8(given.images), seeds, strict=True)):
            with _seeded(seed):
                changed = _augment(config, hints)(Image.fromarray(levels))
            made[row] = pixels(np.asarray(changed)[None], given.images.device)[0]
        return given.with_images(made)

    return Defense("rand_augment", batch=batch)


def _checked(config: str) -> None:
    if not re.fullmatch(_CONFIG, config):  # timm passes over what it does not know
        raise BadParameter(
            f"rand_augment: config is '{config}'; write rand and, each after a hyphen, m, n, p, w, mstd, mmax or inc and a number, as in "
            "rand-m9-mstd0.5-inc1."
        )


def _augment(config: str, hints: dict[str, Any]) -> Callable[[Image.Image], Image.Image]:
    """timm's, with posterisation to 0 bits, black, which Pillow refuses by now."""
    made = rand_augment_transform(config, hints)
    for op in made.ops:
        if op.name.startswith("Posterize"):
            op.aug_fn = _posterized
    augment: Callable[[Image.Image], Image.Image] = made
    return augment


def _posterized(image: Image.Image, bits: int, **unused: Any) -> Image.Image:
    kept = 0xFF & ~(2 ** (8 - min(bits, 8)) - 1)
    return image.point(lambda level: level & kept)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Context in which the generators that timm draws from start from a seed; afterwards they are as before."""
    kept, numbers = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(kept)
        np.random.set_state(numbers)
