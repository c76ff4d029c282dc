"""ImageNet-9: nine coarse classes, with backgrounds kept, swapped or removed."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Literal

from robustvit.data.annotations.background_masks import MaskFiles, mask_dataset
from robustvit.data.annotations.wnids import reading_with_rest
from robustvit.data.formats.class_folders import class_folder_dataset
from robustvit.data.formats.files import FileDataset
from robustvit.data.formats.image_dataset import ImageDataset
from robustvit.data.formats.listing import need_first_folder, need_folder, some_subfolders, subfolders
from robustvit.errors import DataUnreadable, few
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

_NAME = "imagenet-9"
_COUNT = 4050  # images of a variant
_SIDE = 224  # their height and width in pixels
_FOLDERS = (
    "00_dog", "01_bird", "02_wheeled vehicle", "03_reptile", "04_carnivore", "05_insect", "06_musical instrument", "07_primate", "08_fish",
)  # fmt: skip
_CLASSES = ("dog", "bird", "vehicle", "reptile", "carnivore", "insect", "instrument", "primate", "fish")


@dataset(
    name=_NAME,
    source="Xiao, Engstrom, Ilyas and Madry 2021, Noise or Signal: The Role of Image Backgrounds in Object Recognition",
    url="https://github.com/MadryLab/backgrounds_challenge",
    licence="images under the terms of ImageNet",
    rules="Unpack backgrounds_challenge_data.tar.gz and original.tar.gz of the authors' release (4,050 images of 224 px a variant), then "
    "--data-dir FOLDER. "
    "A model of a thousand classes predicts the coarse class of its best class; a best class that belongs to none of the nine is wrong.",
    citation="""@inproceedings{xiao2021noise,
  title={Noise or Signal: The Role of Image Backgrounds in Object Recognition},
  author={Xiao, Kai and Engstrom, Logan and Ilyas, Andrew and Madry, Aleksander},
  booktitle={International Conference on Learning Representations},
  year={2021}
}""",
)
def imagenet_9(
    root: Path | None,
    *,
    variant: Literal[
        "original", "mixed_same", "mixed_rand", "mixed_next", "only_fg", "no_fg", "only_bg_b", "only_bg_t", "fg_mask"
    ] = "original",
) -> FileDataset | ImageDataset[MaskFiles]:  # fmt: skip
    """One variant of ImageNet-9.

    root: holds `<variant>/val/<class>/*`, itself or one folder further down; class folders are `00_dog` … `08_fish`. variant:
    `fg_mask` holds the masks of the originals, with the ids of these, white in the foreground.
    """
    place = _place(need_folder(root, _NAME), variant)
    _refuse_swapped(place)
    own = Traits(base=_NAME, scenario=variant, cut=_SIDE, alike=variant == "fg_mask", expected=_COUNT)
    if variant == "fg_mask":
        return mask_dataset(_NAME, place, _FOLDERS, side=_SIDE, classes=_CLASSES, readings=(reading(),), traits=own)
    return class_folder_dataset(_NAME, place, _FOLDERS, prefix=f"{_NAME}/{variant}", classes=_CLASSES, readings=(reading(),), traits=own)


@functools.cache
def reading() -> Reading:
    """The coarse class of the best of a thousand classes is the prediction; it may be none of the nine."""
    lines = (resources.files("robustvit.data") / "imagenet_9.txt").read_text(encoding="ascii").splitlines()
    return reading_with_rest("nine", tuple(tuple(int(word) for word in line.split()) for line in lines))


def _refuse_swapped(place: Path) -> None:
    """Raises DataUnreadable for folders whose number and name belong to different classes."""
    number_of = {folder[3:]: folder[:2] for folder in _FOLDERS}
    swapped = [name for name in subfolders(place) if number_of.get(name[3:], name[:2]) != name[:2]]
    if swapped:
        right = ", ".join(f"{number_of[name[3:]]}_{name[3:]}" for name in swapped[:5])
        raise DataUnreadable(
            f"data 'imagenet-9': the numbers and names of {len(swapped)} folders in {place} disagree: {few(swapped)}. The right names are "
            f"{right}."
        )


def _place(root: Path, variant: str) -> Path:
    above = [root, *(root / inner for inner in subfolders(root))]
    return need_first_folder(
        (place / variant / "val" for place in above),
        lambda: f"data 'imagenet-9': neither {root} nor a folder in it holds {variant}/val. It holds {some_subfolders(root)}.",
    )
