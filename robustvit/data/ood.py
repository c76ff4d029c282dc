"""A data set beside sets of images of none of its classes, for the detection of out-of-distribution images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustvit.data.formats.class_folders import Labelled, list_classes, refuse_empty
from robustvit.data.formats.files import ImageFiles
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset
from robustvit.data.formats.listing import as_text, need_folder, refuse_unusable, some_subfolders, subfolders
from robustvit.errors import DataMissing
from robustvit.primitives.batch import NO_CLASS, Data, Traits
from robustvit.spec.registry import dataset

_GROUPS = ("near", "far")


@dataset(
    source="Zhang et al. 2023, OpenOOD v1.5: Enhanced Benchmark for Out-of-Distribution Detection (near and far sets)",
    url="https://github.com/Jingkang50/OpenOOD",
    licence="that of the data set and of each set beside it",
    rules="Your own folders of images: ood/near/NAME/… and ood/far/NAME/… beside the folder of the data set, then --data-dir FOLDER. "
    "OpenOOD's for ImageNet are near ssb_hard and ninco, far inaturalist, textures and openimage_o. Remove images that show a class of the "
    "data set, as OpenOOD's lists of files do: they are counted as images of none.",
    citation="""@inproceedings{zhang2023openood,
  title={{OpenOOD} v1.5: Enhanced Benchmark for Out-of-Distribution Detection},
  author={Zhang, Jingyang and Yang, Jingkang and Wang, Pengyun and Wang, Haoqi and Lin, Yueqian and Zhang, Haoran and others},
  booktitle={NeurIPS Workshop on Distribution Shifts},
  year={2023}
}""",
)
def ood(root: Path | None, *, data: Data) -> ImageDataset[MixedImages]:
    """The images of a data set, and those in `root/near/<set>/…` and `root/far/<set>/…`, at any depth, which are of none of its classes.

    `fact_ood` names each image's set, `near/ninco`, and is "" for the images of the data set itself. Images of no class have no label (−1),
    so that nothing that predicts labels takes this data: analyses do. A further set is a further folder.
    """
    place = need_folder(root, "ood")
    found = _sets(place)
    refuse_unusable("ood", place, found.listing)
    names = [as_text(file.path) for file in found.listing.files]
    sets = ["/".join(name.split("/")[:2]) for name in names]
    ids = [f"ood/{name}" for name in names]
    files = ImageFiles(place, tuple(file.path for file in found.listing.files), "ood", ids)
    return image_dataset(
        "ood", MixedImages(data, files), ids=[*data.ids, *ids],
        labels=np.concatenate([np.asarray(data.labels), np.full(len(names), NO_CLASS)]), classes=data.classes, readings=data.readings,
        marks=[*[data.fingerprint] * len(data), *(file.size for file in found.listing.files)], ignored=found.listing.ignored,
        traits=Traits(params=(("data", data.name),), facts={"fact_ood": [*[""] * len(data), *sets]}),
    )  # fmt: skip


class MixedImages:
    """Reads the images of a data set, and after them those of files."""

    def __init__(self, data: Data, files: ImageFiles) -> None:
        self.data, self.files = data, files

    def __call__(self, index: int) -> np.ndarray:
        """The image. Raises DataUnreadable as the data set and the files do."""
        return self.data[index].image if index < len(self.data) else self.files(index - len(self.data))


def _sets(place: Path) -> Labelled:
    """The files of every set. Raises DataMissing where there is none, DataUnreadable where one holds no images."""
    folders = [f"{group}/{name}" for group in _GROUPS if (place / group).is_dir() for name in subfolders(place / group)]
    if not folders:
        raise DataMissing(
            f"data 'ood': {place} holds no sets: give each a folder of its own, {place}/near/NAME or {place}/far/NAME, with images in it. "
            f"It holds {some_subfolders(place)}."
        )
    found = list_classes(place, folders)
    refuse_empty("ood", place, folders, found.labels)
    return found
