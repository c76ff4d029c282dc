"""Data sets of TensorFlow Datasets, read in any order.

timm's reader of the same name gives samples one after another, shuffled by shards, and knows no index: no sample of it can be read again by
its number, as evaluation order, resuming and the cache need. `as_data_source` of the package itself can.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset
from robustvit.data.formats.listing import need_folder
from robustvit.data.hubs.hub import HubRows
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, MissingExtra, few, nearest
from robustvit.spec.registry import dataset

_NAME = re.compile(r"\w+(/[\w.-]+)?(:[\d.*]+)?")
_PACKAGES = ("tensorflow_datasets", "tensorflow", "array_record")


@dataset(
    source="TensorFlow Datasets",
    url="https://www.tensorflow.org/datasets",
    licence="each data set has its own",
    rules="Prepare it with the package itself, in a format that can be read in any order: import tensorflow_datasets as tfds, then "
    "tfds.builder('cifar10', file_format='array_record').download_and_prepare(file_format='array_record'). Then "
    "`--data tfds/cifar10?split=test`, or `--data tfds:FOLDER` with the folder of its version.",
)
def tfds(
    root: Path | None, *, name: str | None = None, split: str = "test", image: str = "image", label: str = "label"
) -> ImageDataset[HubRows]:
    """A split of a data set of TensorFlow Datasets that was prepared on this machine as ArrayRecord or Parquet.

    name: as the package writes it, `mnist_corrupted/fog` and `cifar10:3.0.2` included. root: with a name, the folder of all data sets
    (default, the package's own); without one, the folder of the prepared version. split: as the package writes it, slices included. image,
    label: the features; classes have the names of a ClassLabel. Ids are `tfds/<name>/<split>/<row>`. Nothing is downloaded. Opening it
    reads all records of the split once, for their labels. Raises MissingExtra without the packages, BadParameter, DataMissing, and
    DataUnreadable for labels that are not class indices.
    """
    if any(importlib.util.find_spec(one) is None for one in _PACKAGES):
        raise MissingExtra(f"data 'tfds' needs the packages {few(_PACKAGES)}: python -m pip install 'robustvit[tfds]'.")
    library = importlib.import_module("tensorflow_datasets")
    builder = _builder(library, root, name)
    names = _class_names(builder, image, label)
    source = _source(library, builder, split, image)
    labels, sizes = _labels_and_sizes(source, image, label)
    _refuse_other_labels(labels, len(names), f"{builder.info.full_name}, split {split}")
    ids = tuple(f"tfds/{name or builder.info.name}/{split}/{row:08d}" for row in range(len(labels)))
    return image_dataset(
        f"tfds/{name or builder.info.name}", HubRows(_Streams(source, image), ids), ids=ids, labels=labels, classes=names,
        readings=readings(names), marks=sizes,
    )  # fmt: skip


class _Streams:
    """The encoded image of each record, as HubRows reads them."""

    def __init__(self, source: Any, image: str) -> None:
        self.source, self.image = source, image

    def __getitem__(self, index: int) -> tuple[io.BytesIO, None]:
        return io.BytesIO(self.source[index][self.image]), None


def _builder(library: Any, root: Path | None, name: str | None) -> Any:
    """The builder of a data set. Raises BadParameter for a name that is none, DataMissing where the package does not know it."""
    if name is not None and _NAME.fullmatch(name) is None:
        raise BadParameter(f"data 'tfds': '{name}' is no name of a data set; write for example tfds/cifar10 or tfds/mnist_corrupted/fog.")
    folder = need_folder(root, "tfds") if name is None else None
    try:
        return library.builder_from_directory(str(folder)) if name is None else library.builder(name, data_dir=root and str(root))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise DataMissing(f"data 'tfds': {name or folder} cannot be opened: {_first_line(error)}") from error


def _class_names(builder: Any, image: str, label: str) -> tuple[str, ...]:
    """The names of the classes. Raises BadParameter for a feature that is not there, or whose values are no classes."""
    features, what = builder.info.features, builder.info.full_name
    for feature in (image, label):
        if feature not in features:
            hint = f"{nearest(feature, features)} It has {few(list(features))}."
            raise BadParameter(f"data 'tfds': {what} has no feature '{feature}'.{hint}")
    names = getattr(features[label], "names", None)
    if not names:
        raise BadParameter(f"data 'tfds': feature '{label}' of {what} holds no classes; name another with label=FEATURE.")
    return tuple(names)


def _source(library: Any, builder: Any, split: str, image: str) -> Any:
    """The records of a split. Raises DataMissing where it is not prepared, or in a format without random access."""
    try:
        source = builder.as_data_source(split, decoders={image: library.decode.SkipDecoding()})
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise DataMissing(
            f"data 'tfds': split '{split}' of {builder.info.full_name} cannot be read: {_first_line(error)} It must be prepared in "
            f"{builder.info.data_dir} with file_format='array_record': see `robustvit data tfds`. There are the splits "
            f"{few(list(builder.info.splits)) or 'none'}."
        ) from error
    if not len(source):
        raise DataMissing(f"data 'tfds': split '{split}' of {builder.info.full_name} has no records.")
    return source


def _labels_and_sizes(source: Any, image: str, label: str) -> tuple[list[int], list[int]]:
    records = (source[row] for row in range(len(source)))
    pairs = [(int(record[label]), len(record[image])) for record in records]
    return [one for one, _ in pairs], [size for _, size in pairs]


def _refuse_other_labels(labels: Sequence[int], classes: int, what: str) -> None:
    wrong = [row for row, one in enumerate(labels) if not 0 <= one < classes]
    if wrong:
        shown = few([f"{row} ({labels[row]})" for row in wrong])
        raise DataUnreadable(f"data 'tfds' ({what}): {len(wrong)} rows have no class from 0 to {classes - 1}: {shown}.")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
