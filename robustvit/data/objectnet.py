"""ObjectNet: household objects in odd places, turned and seen from odd sides; the classes that it shares with ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from robustvit.data.annotations.objectnet_mappings import folders, shared_classes
from robustvit.data.annotations.wnids import wnids
from robustvit.data.formats.class_folders import pictures
from robustvit.data.formats.files import Files, files, need_folder, subfolders, written
from robustvit.errors import DataMissing, few
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

_BORDER = 2  # pixels: the authors' own code cuts as many, though the red line is one pixel wide
_COUNT = 18_574


@dataset(
    source="Barbu et al. 2019, ObjectNet",
    url="https://objectnet.dev",
    licence="CC BY 4.0 with two more clauses: never tune the parameters of any model on it, and post single images only with their red border",
    rules="Unpack objectnet-1.0.zip (its password is on the authors' page), then --data-dir FOLDER with images/ and mappings/. 113 of its 313 classes are "
    "ImageNet's (18,574 images). An answer is right where the best of all thousand classes is one of those that stand for the object; the best "
    "among the 113 alone is read besides (`mask`). For testing only: its licence forbids training. Do not pass the files on; a report shows some, without their border, and is not for the web.",
    citation="""@inproceedings{barbu2019objectnet,
  title={{ObjectNet}: A large-scale bias-controlled dataset for pushing the limits of object recognition models},
  author={Barbu, Andrei and Mayo, David and Alverio, Julian and Luo, William and Wang, Christopher and Gutfreund, Dan and Tenenbaum, Josh
          and Katz, Boris},
  booktitle={Advances in Neural Information Processing Systems},
  year={2019}
}""",
)
def objectnet(root: Path | None, *, border: Literal["cut", "keep"] = "cut") -> Files:
    """The images of ObjectNet whose classes are in ImageNet.

    root: holds `images/<folder>/*.png` and `mappings/`, itself or in `objectnet-1.0/`. border: every file has a red line around it; `cut`
    takes 2 pixels off each side before the view, as the authors' code does. Two readings, from a thousand logits: `1000way` scores, as in
    the authors' code, where the best of all classes must be one of the object's; `mask` lets only the 113 compete, the best of an object's
    classes speaking for it, as the tables of many later papers do, which are some points higher. The authors' top-5 counts five
    classes of the thousand, ours five objects.
    """
    place = _place(need_folder(root, "objectnet"))
    shared = shared_classes(place / "mappings")
    found, labels = pictures("objectnet", place / "images", [one.folder for one in shared], others=folders(place / "mappings"))
    ids = [f"objectnet/{written(picture.path.rpartition('.')[0])}" for picture in found.pictures]
    params = () if border == "cut" else (("border", border),)
    own = Traits(base="imagenet", scenario="objectnet", params=params, expected=_COUNT)
    return files(
        "objectnet", place / "images", found, ids=ids, labels=labels, classes=[one.label for one in shared],
        readings=_readings(tuple(one.columns for one in shared)), traits=own, border=_BORDER if border == "cut" else 0,
    )  # fmt: skip


def _readings(groups: tuple[tuple[int, ...], ...]) -> tuple[Reading, ...]:
    none = tuple(sorted(set(range(len(wnids()))) - {index for group in groups for index in group}))
    return (
        Reading("1000way", len(groups) + 1, outputs=len(wnids()), groups=(*groups, none)),
        Reading("mask", len(groups), outputs=len(wnids()), groups=groups),
    )


def _place(root: Path) -> Path:
    here = next((place for place in (root, root / "objectnet-1.0") if (place / "images").is_dir()), None)
    if here is None:
        raise DataMissing(
            f"data 'objectnet': neither {root} nor objectnet-1.0/ in it holds images/; it holds {few(subfolders(root)) or 'no folders'}."
        )
    return here
