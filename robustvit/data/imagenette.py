"""Imagenette and Imagewoof: ten easy and ten hard classes of ImageNet that anybody may download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.class_folders import class_folder_dataset
from robustvit.data.formats.files import FileDataset
from robustvit.data.formats.listing import need_first_folder, need_folder, some_subfolders, subfolders
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_IMAGENETTE = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079", "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
)  # fmt: skip
_IMAGEWOOF = (
    "n02086240", "n02087394", "n02088364", "n02089973", "n02093754", "n02096294", "n02099601", "n02105641", "n02111889", "n02115641",
)  # fmt: skip
_COUNTS = {
    ("imagenette", "val"): 3_925, ("imagenette", "train"): 9_469, ("imagewoof", "val"): 3_929, ("imagewoof", "train"): 9_025,
}  # fmt: skip
_IMAGENETTE_FILE = {
    "url": "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2.tgz", "size": 1_557_161_267,
    "md5": "fe2fc210e6bb7c5664d602c3cd71e612",
    "source": "torchvision/datasets/imagenette.py (md5), fastai/data/checks.txt (size)",
}  # fmt: skip
_IMAGEWOOF_FILE = {
    "url": "https://s3.amazonaws.com/fast-ai-imageclas/imagewoof2.tgz", "size": 1_343_715_595,
    "source": "fastai/data/checks.txt (size)",
}  # fmt: skip


@dataset(
    source="Howard, Imagenette",
    url="https://github.com/fastai/imagenette",
    downloads=(_IMAGENETTE_FILE,),
    folders=("imagenette2", "imagenette2-320", "imagenette2-160"),
    licence="Apache-2.0 (lists); images under the terms of ImageNet",
    rules="Unpack imagenette2.tgz (or its 320 px version), then --data-dir FOLDER. Ten classes, read among the ten (`mask`) and among the "
    "thousand; a subset of ImageNet's own images, some of which a model of ImageNet was trained on.",
    citation="""@misc{howard2019imagenette,
  title={Imagenette},
  author={Howard, Jeremy},
  year={2019},
  url={https://github.com/fastai/imagenette}
}""",
)
def imagenette(root: Path | None, *, split: Literal["val", "train"] = "val") -> FileDataset:
    """Ten easily distinguished classes of ImageNet. root: holds `<split>/<wnid>/*`, itself or in `imagenette2*/`."""
    return _ten("imagenette", root, split, _IMAGENETTE)


@dataset(
    source="Howard, Imagewoof",
    url="https://github.com/fastai/imagenette",
    downloads=(_IMAGEWOOF_FILE,),
    folders=("imagewoof2", "imagewoof2-320", "imagewoof2-160"),
    licence="Apache-2.0 (lists); images under the terms of ImageNet",
    rules="Unpack imagewoof2.tgz (or its 320 px version), then --data-dir FOLDER. Ten breeds of dog, read among the ten (`mask`) and among "
    "the "
    "thousand; a subset of ImageNet's own images, some of which a model of ImageNet was trained on.",
    citation="""@misc{howard2019imagewoof,
  title={Imagewoof: a subset of 10 classes from Imagenet that aren't so easy to classify},
  author={Howard, Jeremy},
  year={2019},
  url={https://github.com/fastai/imagenette}
}""",
)
def imagewoof(root: Path | None, *, split: Literal["val", "train"] = "val") -> FileDataset:
    """Ten breeds of dog. root: holds `<split>/<wnid>/*`, itself or in `imagewoof2*/`."""
    return _ten("imagewoof", root, split, _IMAGEWOOF)


def _ten(name: str, root: Path | None, split: str, classes: Sequence[str]) -> FileDataset:
    place = need_folder(root, name)
    above = [place, *(place / inner for inner in subfolders(place) if inner.startswith(name))]
    here = need_first_folder(
        (folder / split for folder in above),
        lambda: f"data '{name}': neither {place} nor {name}2/ in it holds {split}/; it holds {some_subfolders(place)}.",
    )
    own = Traits(expected=_COUNTS[name, split])
    return class_folder_dataset(name, here, classes, prefix=f"{name}/{split}", classes=classes, readings=readings(classes), traits=own)
