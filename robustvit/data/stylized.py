"""Stylized ImageNet: ImageNet's images with their textures replaced by those of paintings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from robustvit.data.annotations.wnids import readings, wnids
from robustvit.data.formats.class_folders import pictures
from robustvit.data.formats.files import Files, files, need_folder, written
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_NAME = "imagenet-stylized"
_COUNTS = {"val": 50_000, "train": 1_281_167}


@dataset(
    name=_NAME,
    source="Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture",
    url="https://github.com/rgeirhos/Stylized-ImageNet",
    licence="MIT (code); images under the terms of ImageNet and of the paintings",
    rules="Make it from ImageNet and the paintings of Kaggle's painter-by-numbers with the authors' create_stylized_imagenet.sh (PNGs of 224 px in "
    "val/<wnid>/ and train/<wnid>/), then --data-dir FOLDER. It is not distributed.",
    citation="""@inproceedings{geirhos2019imagenet,
  title={{ImageNet}-trained {CNNs} are biased towards texture; increasing shape bias improves accuracy and robustness},
  author={Geirhos, Robert and Rubisch, Patricia and Michaelis, Claudio and Bethge, Matthias and Wichmann, Felix A. and Brendel, Wieland},
  booktitle={International Conference on Learning Representations},
  year={2019}
}""",
)
def imagenet_stylized(root: Path | None, *, split: Literal["val", "train"] = "val") -> Files:
    """Stylized ImageNet, all thousand classes. root: holds `<split>/<wnid>/*.png`, or the class folders themselves for val.

    Which painting each image took depends on the run that made the files; scores of two makings are alike, not equal.
    """
    place = need_folder(root, _NAME)
    here = place if split == "val" and not (place / split).is_dir() else place / split
    found, labels = pictures(_NAME, here, wnids())
    ids = [f"{_NAME}/{split}/{written(picture.path.rpartition('.')[0])}" for picture in found.pictures]
    scenario = _NAME if split == "val" else f"{_NAME}-{split}"
    own = Traits(base="imagenet", scenario=scenario, cut=224, expected=_COUNTS[split])
    return files(_NAME, here, found, ids=ids, labels=labels, classes=wnids(), readings=readings(wnids()), traits=own)
