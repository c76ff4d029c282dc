"""The test images of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from robustvit.data.cifar.test_batches import SIDE, Batches, read_test_batch, refuse_other_labels
from robustvit.data.formats.arrays import ArrayDataset
from robustvit.data.formats.image_dataset import image_dataset
from robustvit.data.formats.listing import need_folder
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

COUNT = 10_000  # test images of either
CIFAR_10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_LICENCE = "none stated by the authors"
_CITATION = """@techreport{krizhevsky2009learning,
  title={Learning Multiple Layers of Features from Tiny Images},
  author={Krizhevsky, Alex},
  institution={University of Toronto},
  year={2009}
}"""
_FILE_10 = {
    "url": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "size": 170_498_071, "md5": "c58f30108f718f92721af3b95e74349a",
    "source": "torchvision/datasets/cifar.py (md5)",
}  # fmt: skip
_FILE_100 = {
    "url": "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "md5": "eb9058c3a382ffc7106e4002c42a8d85",
    "source": "torchvision/datasets/cifar.py",
}  # fmt: skip


@dataset(
    source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence=_LICENCE,
    downloads=(_FILE_10,),
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    rules="Unpack cifar-10-python.tar.gz (or its binary version), then --data-dir FOLDER, the one that holds cifar-10-batches-py/. Scores "
    "are on the 10,000 test images, which a model of 32 px gets as they are.",
    citation=_CITATION,
)
def cifar10(root: Path | None) -> ArrayDataset:
    """The 10,000 test images of CIFAR-10, of 32 px.

    root: holds `cifar-10-batches-py/test_batch`, as torchvision unpacks it, or `cifar-10-batches-bin/test_batch.bin`, or is one of these
    folders. Ids are `cifar10/test/<row>`, the same in both versions and in CIFAR-10-C. A pickle that asks for anything but arrays is
    refused.
    """
    where = Batches("cifar-10-batches-py/test_batch", "cifar-10-batches-bin/test_batch.bin", b"labels", 1)
    return _opened("cifar10", root, where, CIFAR_10)


@dataset(
    source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence=_LICENCE,
    downloads=(_FILE_100,),
    folders=("cifar-100-python", "cifar-100-binary"),
    rules="Unpack cifar-100-python.tar.gz (or its binary version), then --data-dir FOLDER, the one that holds cifar-100-python/. Scores "
    "are on the 10,000 test images and the hundred fine classes; a model of 32 px gets the images as they are.",
    citation=_CITATION,
)
def cifar100(root: Path | None) -> ArrayDataset:
    """The 10,000 test images of CIFAR-100, of 32 px, with their fine labels.

    root: holds `cifar-100-python/test`, as torchvision unpacks it, or `cifar-100-binary/test.bin`, or is one of these folders. Ids are
    `cifar100/test/<row>`. A pickle that asks for anything but arrays is refused.
    """
    where = Batches("cifar-100-python/test", "cifar-100-binary/test.bin", b"fine_labels", 2)
    return _opened("cifar100", root, where, cifar_100())


@functools.cache
def cifar_100() -> tuple[str, ...]:
    """The fine classes of CIFAR-100 in the order of their labels, which is that of the alphabet."""
    return tuple((resources.files("robustvit.data") / "cifar_100.txt").read_text(encoding="ascii").split())


def cifar_dataset(name: str, images: np.ndarray, labels: np.ndarray, classes: Sequence[str], own: Traits) -> ArrayDataset:
    """The data set of these rows of the test images, (N, 32, 32, 3) uint8, with the ids of the clean images."""
    marks = (hashlib.sha256(image.tobytes()).hexdigest() for image in images)
    read: Callable[[int], np.ndarray] = images.__getitem__
    return image_dataset(
        name, read, ids=[f"{own.base or name}/test/{row:05d}" for row in range(len(labels))], labels=labels, classes=classes,
        readings=(Reading("all", len(classes)),), marks=marks, source="released" if own.base else "original", traits=own,
    )  # fmt: skip


def _opened(name: str, root: Path | None, where: Batches, classes: Sequence[str]) -> ArrayDataset:
    place = need_folder(root, name)
    images, labels = read_test_batch(name, place, where)
    refuse_other_labels(name, place, labels, classes)
    images.flags.writeable = False
    return cifar_dataset(name, images, labels, classes, Traits(cut=SIDE, fleeting=True, expected=COUNT))
