"""Stylized ImageNet: ImageNet's images with their textures replaced by those of paintings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from robustvit.data.annotations.wnids import readings, wnids
from robustvit.data.formats.class_folders import class_folder_dataset
from robustvit.data.formats.files import FileDataset
from robustvit.data.formats.listing import need_folder
from robustvit.data.imagenet import COUNTS
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_NAME = "imagenet-stylized"


@dataset(
    name=_NAME,
    source="Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture",
    url="https://github.com/rgeirhos/Stylized-ImageNet",
    licence="MIT (code); images under the terms of ImageNet and of the paintings",
    rules="Make it from ImageNet and the paintings of Kaggle's painter-by-numbers with the authors' create_stylized_imagenet.sh (PNGs of "
    "224 px in "
    "val/<wnid>/ and train/<wnid>/), then --data-dir FOLDER. It is not distributed.",
    citation="""@inproceedings{geirhos2019imagenet,
  title={{ImageNet}-trained {CNNs} are biased towards texture; increasing shape bias improves accuracy and robustness},
  author={Geirhos, Robert and Rubisch, Patricia and Michaelis, Claudio and Bethge, Matthias and Wichmann, Felix A. and Brendel, Wieland},
  booktitle={International Conference on Learning Representations},
  year={2019}
}""",
)
def imagenet_stylized(root: Path | None, *, split: Literal["val", "train"] = "val") -> FileDataset:
    """Stylized ImageNet, all thousand classes. root: holds `<split>/<wnid>/*.png`, or the class folders themselves for val.

    The authors' script draws a painting for each image anew in every run: scores on two copies are similar, not equal.
    """
    place = need_folder(root, _NAME)
    here = place if split == "val" and not (place / split).is_dir() else place / split
    scenario = _NAME if split == "val" else f"{_NAME}-{split}"
    own = Traits(base="imagenet", scenario=scenario, cut=224, expected=COUNTS[split])
    return class_folder_dataset(_NAME, here, wnids(), prefix=f"{_NAME}/{split}", classes=wnids(), readings=readings(wnids()), traits=own)
