"""ObjectNet: household objects in unusual places, rotations and viewpoints; the classes that it shares with ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from robustvit.data.annotations.objectnet_mappings import folders, shared_classes
from robustvit.data.annotations.wnids import reading_with_rest, wnids
from robustvit.data.formats.class_folders import class_folder_dataset
from robustvit.data.formats.files import FileDataset
from robustvit.data.formats.listing import need_first_folder, need_folder, some_subfolders
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

_BORDER = 2  # pixels: as many as the authors' own code cuts, though the red line is one pixel wide
_COUNT = 18_574


@dataset(
    source="Barbu et al. 2019, ObjectNet",
    url="https://objectnet.dev",
    folders=("objectnet-1.0",),
    licence="CC BY 4.0 with two more clauses: never tune the parameters of any model on it, and post single images only with their red "
    "border",
    rules="Unpack objectnet-1.0.zip (its password is on the authors' page), then --data-dir FOLDER with images/ and mappings/. 113 of its "
    "313 "
    "classes are ImageNet's (18,574 images). A prediction is right where the best of all thousand classes is one of those of the object; "
    "the "
    "best among the 113 alone is scored too (`mask`). For testing only: its licence forbids training. Do not pass the files on; a report "
    "shows some images without their border and is not for the web.",
    citation="""@inproceedings{barbu2019objectnet,
  title={{ObjectNet}: A large-scale bias-controlled dataset for pushing the limits of object recognition models},
  author={Barbu, Andrei and Mayo, David and Alverio, Julian and Luo, William and Wang, Christopher and Gutfreund, Dan and Tenenbaum, Josh
          and Katz, Boris},
  booktitle={Advances in Neural Information Processing Systems},
  year={2019}
}""",
)
def objectnet(root: Path | None, *, border: Literal["cut", "keep"] = "cut") -> FileDataset:
    """The images of ObjectNet whose classes are in ImageNet.

    root: holds `images/<folder>/*.png` and `mappings/`, itself or in `objectnet-1.0/`. border: every file has a red line around it; `cut`
    crops 2 pixels off each side before the view, as the authors' code does. Two readings, from a thousand logits: `1000way` scores, as in
    the authors' code: the best of all classes must be one of the object's; `mask` compares the 113 objects alone, each by the best of its
    classes, as many later papers do, whose accuracies are some points higher. The authors' top-5 counts five classes of the thousand,
    ours five objects.
    """
    place = _place(need_folder(root, "objectnet"))
    shared = shared_classes(place / "mappings")
    params = () if border == "cut" else (("border", border),)
    own = Traits(base="imagenet", scenario="objectnet", params=params, expected=_COUNT)
    groups = tuple(one.columns for one in shared)
    masked = Reading("mask", len(groups), outputs=len(wnids()), groups=groups)
    return class_folder_dataset(
        "objectnet", place / "images", [one.folder for one in shared], others=folders(place / "mappings"), prefix="objectnet",
        classes=[one.label for one in shared], readings=(reading_with_rest("1000way", groups), masked), traits=own,
        border=_BORDER if border == "cut" else 0,
    )  # fmt: skip


def _place(root: Path) -> Path:
    return need_first_folder(
        (place / "images" for place in (root, root / "objectnet-1.0")),
        lambda: f"data 'objectnet': neither {root} nor objectnet-1.0/ in it holds images/; it holds {some_subfolders(root)}.",
    ).parent
