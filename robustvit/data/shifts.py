"""Distribution shifts of ImageNet: natural adversarial images, renditions, sketches, a second validation set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from robustvit.data.annotations.wnids import listed, readings, wnids
from robustvit.data.formats.class_folders import class_folder_dataset, list_all_classes
from robustvit.data.formats.files import FileDataset, file_dataset
from robustvit.data.formats.listing import first_folder, need_folder, subfolders
from robustvit.errors import DataMissing, few
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_FILTERED = ("imagenet-a", "imagenet-o")  # images that a ResNet-50 gets wrong
_NUMBERS = tuple(str(label) for label in range(1000))
_NATURAL = """@inproceedings{hendrycks2021natural,
  title={Natural Adversarial Examples},
  author={Hendrycks, Dan and Zhao, Kevin and Basart, Steven and Steinhardt, Jacob and Song, Dawn},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2021}
}"""
_TFDS = "tensorflow/datasets, checksums.tsv"
_FILE_A = {
    "url": "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar", "size": 687_552_512, "source": _TFDS,
    "sha256": "3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
}  # fmt: skip
_FILE_R = {
    "url": "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar", "size": 2_191_079_936, "source": _TFDS,
    "sha256": "18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
}  # fmt: skip
_FILE_O = {
    "url": "https://people.eecs.berkeley.edu/~hendrycks/imagenet-o.tar", "md5": "86bd7a50c1c4074fb18fc5f219d6d50b",
    "source": "pytorch-ood, dataset/img/imagenet.py",
}  # fmt: skip
_FILE_SKETCH = {"url": "https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip"}
_FILES_V2 = (
    {
        "url": "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
        "size": 1_264_079_360, "sha256": "f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c", "source": _TFDS,
        "only": {"split": ("matched-frequency",)},
    },
    {
        "url": "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-threshold0.7.tar.gz",
        "size": 1_249_906_176, "sha256": "32142bfe998f9cfa4141be691f6a80eeb1e27b24bd532a668eb08c26d98897a2", "source": _TFDS,
        "only": {"split": ("threshold-0.7",)},
    },
    {
        "url": "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-top-images.tar.gz",
        "size": 1_245_927_936, "sha256": "85e4ace30f3f0d660152062254b8759dda66267b27f7ec0fd8d5768f1073a04b", "source": _TFDS,
        "only": {"split": ("top-images",)},
    },
)  # fmt: skip


@dataset(
    name="imagenet-a",
    downloads=(_FILE_A,),
    source="Hendrycks et al. 2021, Natural Adversarial Examples",
    url="https://github.com/hendrycks/natural-adv-examples",
    licence="MIT (list and code); the images' own terms",
    rules="Unpack imagenet-a.tar (7,500 images, 200 classes), then --data-dir FOLDER. Read twice from one pass: among its 200 classes "
    "(`mask`, "
    "the authors' rule) and among all thousand (`1000way`).",
    citation=_NATURAL,
)
def imagenet_a(root: Path | None) -> FileDataset:
    """ImageNet-A: photographs that a ResNet-50 gets wrong. root: holds `<wnid>/*`, itself or in `imagenet-a/`."""
    return _subset("imagenet-a", root, listed("imagenet_a"), 7_500)


@dataset(
    name="imagenet-r",
    downloads=(_FILE_R,),
    source="Hendrycks et al. 2021, The Many Faces of Robustness",
    url="https://github.com/hendrycks/imagenet-r",
    licence="MIT (list and code); the images' own terms",
    rules="Unpack imagenet-r.tar (30,000 images, 200 classes), then --data-dir FOLDER. Read twice from one pass: among its 200 classes "
    "(`mask`, "
    "the authors' rule) and among all thousand (`1000way`).",
    citation="""@inproceedings{hendrycks2021many,
  title={The Many Faces of Robustness: A Critical Analysis of Out-of-Distribution Generalization},
  author={Hendrycks, Dan and Basart, Steven and Mu, Norman and Kadavath, Saurav and others},
  booktitle={IEEE/CVF International Conference on Computer Vision},
  year={2021}
}""",
)
def imagenet_r(root: Path | None) -> FileDataset:
    """ImageNet-R: paintings, toys, tattoos and other renditions. root: holds `<wnid>/*`, itself or in `imagenet-r/`."""
    return _subset("imagenet-r", root, listed("imagenet_r"), 30_000)


@dataset(
    name="imagenet-o",
    downloads=(_FILE_O,),
    source="Hendrycks et al. 2021, Natural Adversarial Examples",
    url="https://github.com/hendrycks/natural-adv-examples",
    licence="MIT (list and code); the images' own terms",
    rules="Unpack imagenet-o.tar (2,000 images in 200 folders), then --data-dir FOLDER. Its images belong to none of the thousand classes: "
    "a folder "
    "is named by the class that a ResNet-50 predicts for them. Scored by how confident a model is, beside validation images of those 200 "
    "classes.",
    citation=_NATURAL,
)
def imagenet_o(root: Path | None) -> FileDataset:
    """ImageNet-O: images of none of the thousand classes. root: holds `<wnid>/*`, itself or in `imagenet-o/`."""
    return _subset("imagenet-o", root, listed("imagenet_o"), 2_000)


@dataset(
    name="imagenet-sketch",
    downloads=(_FILE_SKETCH,),
    folders=("sketch",),
    source="Wang et al. 2019, Learning Robust Global Representations by Penalizing Local Predictive Power",
    url="https://github.com/HaohanWang/ImageNet-Sketch",
    licence="the images' own terms; research use",
    rules="Unpack ImageNet-Sketch.zip (50,889 images, 1,000 classes), then --data-dir FOLDER.",
    citation="""@inproceedings{wang2019learning,
  title={Learning Robust Global Representations by Penalizing Local Predictive Power},
  author={Wang, Haohan and Ge, Songwei and Lipton, Zachary and Xing, Eric P.},
  booktitle={Advances in Neural Information Processing Systems},
  year={2019}
}""",
)
def imagenet_sketch(root: Path | None) -> FileDataset:
    """ImageNet-Sketch: black and white drawings of all thousand classes. root: holds `<wnid>/*`, itself or in `sketch/`."""
    return _subset("imagenet-sketch", root, wnids(), 50_889)


@dataset(
    name="imagenet-v2",
    downloads=_FILES_V2,
    source="Recht et al. 2019, Do ImageNet Classifiers Generalize to ImageNet?",
    url="https://huggingface.co/datasets/vaishaal/ImageNetV2",
    licence="MIT (code); the images' own terms",
    rules="Unpack imagenetv2-matched-frequency.tar.gz and its two siblings into one folder (10,000 images each, folders named 0 to 999 by "
    "class, or renamed to wnids), then --data-dir FOLDER.",
    citation="""@inproceedings{recht2019imagenet,
  title={Do {ImageNet} Classifiers Generalize to {ImageNet}?},
  author={Recht, Benjamin and Roelofs, Rebecca and Schmidt, Ludwig and Shankar, Vaishaal},
  booktitle={International Conference on Machine Learning},
  year={2019}
}""",
)
def imagenet_v2(
    root: Path | None, *, split: Literal["matched-frequency", "threshold-0.7", "top-images"] = "matched-frequency"
) -> FileDataset:
    """ImageNetV2, one of its three sets.

    root: holds `imagenetv2-<split>/` or `imagenetv2-<split>-format-val/`, or is that folder. In it are the folders 0 … 999, the class index
    as a number, whatever the order of names, or as many folders named by wnid. The three sets have the same layout, so only the name of
    the folder above identifies the set. Ids are `imagenet-v2/<split>/<class index>/<file name without its ending>` in both layouts.
    """
    here = _set(need_folder(root, "imagenet-v2"), split)
    folders = wnids() if set(subfolders(here)) & set(wnids()) else _NUMBERS
    found = list_all_classes("imagenet-v2", here, folders)
    stems = (file.without_ending.partition("/")[2] for file in found.listing.files)
    ids = [f"imagenet-v2/{split}/{label}/{stem}" for label, stem in zip(found.labels, stems, strict=True)]
    own = Traits(base="imagenet", scenario=f"imagenet-v2-{split}", expected=10_000)
    return file_dataset(
        "imagenet-v2", here, found.listing, ids=ids, labels=found.labels, classes=wnids(), readings=readings(wnids()), traits=own
    )


def _set(place: Path, split: str) -> Path:
    """The folder of one of the three sets. Raises DataMissing for class folders whose folder is not named after this set."""
    released = split.replace("threshold-", "threshold")  # as the authors' archive is called: imagenetv2-threshold0.7-format-val
    named = tuple(f"imagenetv2-{name}{ending}" for name in dict.fromkeys((split, released)) for ending in ("-format-val", ""))
    here = first_folder(place / name for name in named)
    if here is not None:
        return here
    if os.path.basename(os.path.abspath(place)) in named:
        return place
    held = subfolders(place)
    unnamed = bool({*_NUMBERS, *wnids()} & set(held))
    why = (
        f"its folders {few(held)} are classes, which are the same in all three sets" if unnamed else f"it holds {few(held) or 'no folders'}"
    )
    raise DataMissing(
        f"data 'imagenet-v2': {place} holds no {named[1]}/ or {named[0]}/ and has neither name itself; {why}. "
        f"Name the folder of the thousand classes of this set {named[1]}, and give it or the one above."
    )


def _subset(name: str, root: Path | None, classes: Sequence[str], expected: int) -> FileDataset:
    place = need_folder(root, name)
    inner = first_folder(place / one for one in (name, name.removeprefix("imagenet-")))
    own = Traits(base="imagenet", scenario=name, expected=expected, filtered=name in _FILTERED)
    return class_folder_dataset(name, inner or place, classes, prefix=name, classes=classes, readings=readings(classes), traits=own)
