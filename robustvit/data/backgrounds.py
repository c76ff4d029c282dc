"""ImageNet-9: nine coarse classes, with their backgrounds kept, swapped or taken away."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Literal

from robustvit.data.annotations.background_masks import Masks, masks
from robustvit.data.annotations.wnids import wnids
from robustvit.data.formats.class_folders import pictures
from robustvit.data.formats.files import Files, files, need_folder, subfolders, written
from robustvit.errors import DataMissing, DataUnreadable, few
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

_COUNT = 4050  # pictures of a variant
_FOLDERS = (
    "00_dog", "01_bird", "02_wheeled vehicle", "03_reptile", "04_carnivore", "05_insect", "06_musical instrument", "07_primate", "08_fish",
)  # fmt: skip
_CLASSES = ("dog", "bird", "vehicle", "reptile", "carnivore", "insect", "instrument", "primate", "fish")


@dataset(
    name="imagenet-9",
    source="Xiao, Engstrom, Ilyas and Madry 2021, Noise or Signal: The Role of Image Backgrounds in Object Recognition",
    url="https://github.com/MadryLab/backgrounds_challenge",
    licence="images under the terms of ImageNet",
    rules="Unpack backgrounds_challenge_data.tar.gz and original.tar.gz of the authors' release (4,050 images of 224 px a variant), then --data-dir FOLDER. "
    "A model of a thousand classes answers the coarse class of its best class; a best class that belongs to none of the nine is wrong.",
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
) -> Files | Masks:  # fmt: skip
    """One variant of ImageNet-9. root: holds `<variant>/val/<class>/*`, itself or one folder further down; classes are `00_dog` … `08_fish`.

    `fg_mask` are the masks of the originals, under their ids, white where the foreground is.
    """
    place = _place(need_folder(root, "imagenet-9"), variant)
    _refuse_swapped(place)
    own = Traits(base="imagenet-9", scenario=variant, cut=224, alike=variant == "fg_mask", expected=_COUNT)
    if variant == "fg_mask":
        return masks("imagenet-9", place, _FOLDERS, classes=_CLASSES, readings=(reading(),), traits=own)
    found, labels = pictures("imagenet-9", place, _FOLDERS)
    ids = [f"imagenet-9/{variant}/{written(picture.path.rpartition('.')[0])}" for picture in found.pictures]
    return files("imagenet-9", place, found, ids=ids, labels=labels, classes=_CLASSES, readings=(reading(),), traits=own)


@functools.cache
def reading() -> Reading:
    """The best of a thousand classes speaks for its coarse class, or for none of the nine."""
    lines = (resources.files("robustvit.data") / "imagenet_9.txt").read_text(encoding="ascii").splitlines()
    groups = tuple(tuple(int(word) for word in line.split()) for line in lines)
    none = tuple(sorted(set(range(len(wnids()))) - {index for group in groups for index in group}))
    return Reading("nine", len(groups) + 1, outputs=len(wnids()), groups=(*groups, none))


def _refuse_swapped(place: Path) -> None:
    """Raises DataUnreadable for folders whose number and name are those of different classes."""
    number_of = {folder[3:]: folder[:2] for folder in _FOLDERS}
    swapped = [name for name in subfolders(place) if number_of.get(name[3:], name[:2]) != name[:2]]
    if swapped:
        right = ", ".join(f"{number_of[name[3:]]}_{name[3:]}" for name in swapped[:5])
        raise DataUnreadable(
            f"data 'imagenet-9': the numbers and names of {len(swapped)} folders in {place} disagree: {few(swapped)}. They are {right}."
        )


def _place(root: Path, variant: str) -> Path:
    above = [root, *(root / inner for inner in subfolders(root))]
    here = next((place / variant / "val" for place in above if (place / variant / "val").is_dir()), None)
    if here is None:
        raise DataMissing(
            f"data 'imagenet-9': neither {root} nor a folder in it holds {variant}/val. It holds {few(subfolders(root)) or 'no folders'}."
        )
    return here
