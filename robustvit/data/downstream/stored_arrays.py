"""STL-10, SVHN and Stanford Cars: binary files and files of MATLAB."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from robustvit.data.formats.arrays import ArrayDataset
from robustvit.data.formats.files import FileDataset
from robustvit.data.formats.image_dataset import image_dataset
from robustvit.data.formats.listed_files import Listed, checked_classes, folder_with, listed_dataset
from robustvit.errors import DataUnreadable
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

Split: TypeAlias = Literal["test", "train"]
_STL_10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_STL_SIDE = 96


@dataset(
    source="Coates, Lee and Ng 2011, An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
    url="https://cs.stanford.edu/~acoates/stl10/", licence="none stated by the authors; images of ImageNet", folders=("stl10_binary",),
    rules="Unpack stl10_binary.tar.gz, then --data-dir FOLDER, the one that holds stl10_binary/. The unlabelled images are not read.",
)  # fmt: skip
def stl10(root: Path | None, *, split: Split = "test") -> ArrayDataset:
    """STL-10: ten classes of 96 px, 8,000 test and 5,000 training images.

    root: holds `<split>_X.bin` and `<split>_y.bin`, itself or in `stl10_binary/`.
    """
    place = folder_with("stl10", root, f"{split}_X.bin", "stl10_binary")
    folder_with("stl10", place, f"{split}_y.bin")
    flat = np.fromfile(place / f"{split}_X.bin", dtype=np.uint8)
    labels = np.fromfile(place / f"{split}_y.bin", dtype=np.uint8).astype(np.int64) - 1
    if not len(labels) or flat.size != len(labels) * 3 * _STL_SIDE**2:
        raise DataUnreadable(f"{place / f'{split}_X.bin'} has {flat.size:,} bytes, which are not {len(labels):,} images of 96 px.")
    images = flat.reshape(-1, 3, _STL_SIDE, _STL_SIDE).transpose(0, 3, 2, 1)  # columns first, as MATLAB writes
    return _arrays("stl10", split, np.ascontiguousarray(images), labels, _STL_10, 8_000 if split == "test" else 5_000)


@dataset(
    source="Netzer et al. 2011, Reading Digits in Natural Images with Unsupervised Feature Learning",
    url="http://ufldl.stanford.edu/housenumbers/", licence="for non-commercial use",
    rules="Put test_32x32.mat and train_32x32.mat into a folder, then --data-dir FOLDER. The extra training images are not read.",
)  # fmt: skip
def svhn(root: Path | None, *, split: Split = "test") -> ArrayDataset:
    """SVHN: cropped house numbers of 32 px, labelled by the digit in the middle; 26,032 test and 73,257 training images.

    root: holds `<split>_32x32.mat`, itself or in `svhn/`. The label 10 of the files is the digit 0.
    """
    file = f"{split}_32x32.mat"
    found = _matlab(folder_with("svhn", root, file, "svhn") / file)
    try:
        images = np.ascontiguousarray(np.asarray(found["X"]).transpose(3, 0, 1, 2))
        labels = np.asarray(found["y"]).reshape(-1).astype(np.int64) % 10
        if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or len(images) != len(labels):
            raise ValueError(f"images of {images.shape} {images.dtype} and {len(labels)} labels")
    except (KeyError, ValueError) as error:
        raise DataUnreadable(f"{file} is not a file of SVHN's cropped digits: {error!r}.") from error
    return _arrays("svhn", split, images, labels, tuple(map(str, range(10))), 26_032 if split == "test" else 73_257)


@dataset(
    name="stanford-cars", source="Krause et al. 2013, 3D Object Representations for Fine-Grained Categorization",
    url="https://ai.stanford.edu/~jkrause/cars/car_dataset.html", licence="for research; as ImageNet's", folders=("stanford_cars",),
    rules="Unpack the images and car_devkit.tgz and put cars_test_annos_withlabels.mat beside them, as torchvision wants it, then "
    "--data-dir FOLDER, or the one that holds stanford_cars/.",
)  # fmt: skip
def stanford_cars(root: Path | None, *, split: Split = "test") -> FileDataset:
    """Stanford Cars: 196 makes and models of cars, 8,041 test and 8,144 training images.

    root: holds `devkit/cars_meta.mat`, `devkit/cars_train_annos.mat`, `cars_test_annos_withlabels.mat`, `cars_train/` and `cars_test/`,
    itself or in `stanford_cars/`.
    """
    place = folder_with("stanford-cars", root, "devkit/cars_meta.mat", "stanford_cars")
    file = "cars_test_annos_withlabels.mat" if split == "test" else "devkit/cars_train_annos.mat"
    folder_with("stanford-cars", place, file)
    try:
        names = [str(name) for name in np.atleast_1d(_matlab(place / "devkit/cars_meta.mat")["class_names"])]
        rows = np.atleast_1d(_matlab(place / file)["annotations"])
        listed = [Listed(f"cars_{split}/{row['fname']}", int(row["class"]) - 1) for row in rows]
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise DataUnreadable(f"{place / file} is not a list of Stanford Cars: {error!r}.") from error
    classes = checked_classes("stanford-cars", names, 196)
    return listed_dataset("stanford-cars", split, place, listed, classes, 8_041 if split == "test" else 8_144)


def _arrays(
    name: str, split: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], expected: int
) -> ArrayDataset:  # fmt: skip
    """The data set of these images, (N, side, side, 3) uint8. Raises DataUnreadable for a label that is no class."""
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataUnreadable(f"data '{name}': labels span {labels.min()} … {labels.max()}; there are {len(classes)} classes.")
    images.flags.writeable = False
    marks = (hashlib.sha256(image.tobytes()).hexdigest() for image in images)
    read: Callable[[int], np.ndarray] = images.__getitem__
    return image_dataset(
        name, read, ids=[f"{name}/{split}/{row:05d}" for row in range(len(labels))], labels=labels, classes=classes,
        readings=(Reading("all", len(classes)),), marks=marks, traits=Traits(cut=images.shape[1], fleeting=True, expected=expected),
    )  # fmt: skip


def _matlab(path: Path) -> dict[str, Any]:
    """The variables of a file of MATLAB. Raises DataUnreadable where it is none."""
    try:
        return dict(loadmat(path, squeeze_me=True))
    except (OSError, ValueError, TypeError, NotImplementedError, KeyError, IndexError, MatReadError) as error:
        raise DataUnreadable(f"{path} is no file of MATLAB before 7.3: {error!r}.") from error
