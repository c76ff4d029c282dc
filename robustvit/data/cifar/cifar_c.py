"""CIFAR-10-C and CIFAR-100-C, as they were released: one array of 50,000 images for each corruption, five severities one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from robustvit.data.cifar.cifar import CIFAR_10, COUNT, cifar_100, cifar_dataset
from robustvit.data.cifar.test_batches import SIDE, refuse_other_labels
from robustvit.data.formats.arrays import ArrayDataset
from robustvit.data.formats.listing import first_folder, need_folder
from robustvit.data.imagenet_c_source import CITATION, SOURCE
from robustvit.errors import DataMissing, DataUnreadable, few, nearest
from robustvit.primitives.batch import Severity, Traits
from robustvit.spec.registry import dataset

Released = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "frost", "fog",
    "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression", "speckle_noise", "gaussian_blur", "spatter", "saturate",
]  # fmt: skip
_SEVERITIES = 5
_FILE_10 = {
    "url": "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar", "size": 2_918_471_680,
    "sha256": "c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
    "source": "tensorflow/datasets, url_checksums/cifar10_corrupted.txt",
}  # fmt: skip
_FILE_100 = {
    "url": "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar", "size": 2_918_473_216,
    "sha256": "30ee6543a1bfd049fa33834b7c1ada301e7064b7fbe8fc38340eb8b62ced4b33",
    "source": "tensorflow/datasets, url_checksums/cifar100_corrupted.txt",
}  # fmt: skip


@dataset(
    name="cifar10-c",
    downloads=(_FILE_10,),
    folders=("CIFAR-10-C",),
    source=SOURCE,
    url="https://zenodo.org/records/2535967",
    licence="CC BY 4.0",
    rules="Unpack CIFAR-10-C.tar (nineteen arrays and labels.npy), then --data-dir FOLDER. 10,000 images of 32 px for each corruption and "
    "severity, which a model of 32 px gets as they are. The suite cifar10-c scores the fifteen of its table.",
    citation=CITATION,
)
def cifar10_c(root: Path | None, *, corruption: Released = "gaussian_noise", severity: Severity = 1) -> ArrayDataset:
    """One corruption at one severity of the released CIFAR-10-C.

    root: holds `<corruption>.npy`, (50000, 32, 32, 3) uint8, the first 10,000 of severity 1 and the last of severity 5 (the README of the
    archive), and `labels.npy`, itself or in `CIFAR-10-C/`. Ids are those of the test images, `cifar10/test/<row>`, with which these are
    compared.
    """
    return _released("cifar10-c", root, "CIFAR-10-C", corruption, severity, CIFAR_10)


@dataset(
    name="cifar100-c",
    downloads=(_FILE_100,),
    folders=("CIFAR-100-C",),
    source=SOURCE,
    url="https://zenodo.org/records/3555552",
    licence="CC BY 4.0",
    rules="Unpack CIFAR-100-C.tar (nineteen arrays and labels.npy), then --data-dir FOLDER. 10,000 images of 32 px for each corruption and "
    "severity, which a model of 32 px gets as they are. The suite cifar100-c scores the fifteen of its table.",
    citation=CITATION,
)
def cifar100_c(root: Path | None, *, corruption: Released = "gaussian_noise", severity: Severity = 1) -> ArrayDataset:
    """One corruption at one severity of the released CIFAR-100-C, with the hundred fine labels.

    root: as for cifar10-c, itself or in `CIFAR-100-C/`. Ids are `cifar100/test/<row>`.
    """
    return _released("cifar100-c", root, "CIFAR-100-C", corruption, severity, cifar_100())


def _released(name: str, root: Path | None, folder: str, corruption: str, severity: int, classes: Sequence[str]) -> ArrayDataset:
    place = need_folder(root, name)
    here = first_folder((place / folder,)) or place
    labels = _labels(name, here, classes)
    images = _images(name, here, corruption, len(labels) * _SEVERITIES)
    block = images[len(labels) * (severity - 1) : len(labels) * severity]
    base = name.removesuffix("-c")
    own = Traits(base=base, scenario=corruption, severity=str(severity), cut=SIDE, fleeting=True, expected=COUNT)
    return cifar_dataset(name, block, labels, classes, own)


def _labels(name: str, place: Path, classes: Sequence[str]) -> np.ndarray:
    """The labels of one severity. Raises DataUnreadable where labels.npy is not five times the same."""
    path = _array_file(name, place, "labels")
    labels = _load(path)
    refuse_other_labels(name, path, labels, classes)
    blocks = labels.reshape(_SEVERITIES, -1) if labels.ndim == 1 and len(labels) and len(labels) % _SEVERITIES == 0 else None
    if blocks is None or not (blocks == blocks[0]).all():
        raise DataUnreadable(
            f"{path} holds {labels.shape} labels; they must be {_SEVERITIES} times the same, once for each severity "
            f"({_SEVERITIES * COUNT:,} in all)."
        )
    return np.asarray(blocks[0])


def _images(name: str, place: Path, corruption: str, count: int) -> np.ndarray:
    path = _array_file(name, place, corruption)
    images = _load(path)
    if images.shape != (count, SIDE, SIDE, 3) or images.dtype != np.uint8:
        raise DataUnreadable(
            f"{path} holds {images.shape} {images.dtype}; it must be ({count}, {SIDE}, {SIDE}, 3) uint8, an image for each of labels.npy."
        )
    return images


def _array_file(name: str, place: Path, stem: str) -> Path:
    path = place / f"{stem}.npy"
    if not path.is_file():
        there = sorted(one.stem for one in place.glob("*.npy"))
        shown = few([f"{one}.npy" for one in there]) or "no .npy files"
        raise DataMissing(f"data '{name}': {place} holds no {path.name}.{nearest(stem, there)} It holds {shown}.")
    return path


def _load(path: Path) -> np.ndarray:
    """A file's array, mapped and not read: the suite opens 75 of 150 MB."""
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return found
    except (OSError, ValueError, EOFError) as error:
        raise DataUnreadable(f"{path} is no array of numbers: {error}.") from error
