"""Data sets of the Hugging Face Hub, read by timm."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.class_order import ClassOrder, Order, class_order
from robustvit.data.formats.decode import decode
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset, numbered_classes
from robustvit.data.formats.listing import need
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, MissingExtra, few
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_AT_ONCE = 1000  # rows whose labels and sizes are read together


@dataclass(frozen=True, eq=False)
class HubRows:
    """Reads the images of one split. reader: timm's; ids: what messages call the rows."""

    reader: Any
    ids: tuple[str, ...]

    def __call__(self, index: int) -> np.ndarray:
        """The image. Raises DataUnreadable where it cannot be read."""
        return self.decode(index, self.content(index))

    def content(self, index: int) -> bytes:
        """The bytes of an image. Raises DataUnreadable where they cannot be read."""
        try:
            stream, _ = self.reader[index]
            with stream:
                return bytes(stream.read())
        except OSError as error:
            raise DataUnreadable(f"{self.ids[index]}: {error.strerror or error}") from error

    def decode(self, index: int, content: bytes) -> np.ndarray:
        """Decodes the bytes of an image. Raises DataUnreadable for bytes that are none."""
        return decode(content, self.ids[index])

    def stamp(self, index: int) -> int:
        """−1: a table may keep its images anywhere, so that only their bytes show that they changed."""
        return -1


@dataset(
    source="the Hugging Face Hub",
    licence="each data set has its own",
    url="https://huggingface.co/datasets",
    rules="`--data hfds/ORG/NAME?split=…` downloads it from the Hub, or takes it from the Hub's cache; `--data hfds:FOLDER` reads parquet "
    "or image files on this machine.",
)
def hfds(
    root: Path | None, *, name: str | None = None, split: str = "validation", image: str = "image", label: str = "label",
    order: Order | None = None, classes: str | None = None,
) -> ImageDataset[HubRows]:  # fmt: skip
    """A data set of the Hugging Face Hub, or a folder that the `datasets` package can load.

    root: with a name, the folder for downloads (default, the Hub's own cache); without one, the data itself. split: as `datasets` writes
    it, slices included. image, label: the columns. order, classes: where the classes are class folders, whose names the package sorts as
    text, the order in which they are numbered, or a class map (see `class_order`). Ids are `<name>/<split>/<row>`. The data set's own code
    is never run. Raises BadParameter for an order of classes that the data set numbers itself, MissingExtra without the package,
    DataMissing where the data is not available, DataUnreadable for labels that are not class indices.
    """
    place, cache = (str(need(root, "hfds")), None) if name is None else (name, None if root is None else str(root))
    reader = open_split("hfds", place, split, image, label, cache=cache)
    what = f"data 'hfds' ({name or root}, split {split})"
    rows = split_rows(reader.dataset, image, label, what)
    _refuse_other_labels(rows.labels, label, what)
    numbered = _numbered(reader, rows.labels, order, classes, root or Path())
    ids = tuple(f"{name or 'hfds'}/{split}/{row:08d}" for row in range(len(rows.labels)))
    return image_dataset(
        "hfds" if name is None else f"hfds/{name}", HubRows(reader, ids), ids=ids, labels=numbered.labels, classes=numbered.order.names,
        readings=readings(numbered.order.names), marks=rows.sizes, traits=Traits(ambiguous_order=numbered.order.ambiguous),
    )  # fmt: skip


def open_split(data: str, place: str, split: str, image: str, label: str, *, cache: str | None = None) -> Any:
    """timm's reader of one split. data: what messages call the data set; place: a folder, or a name on the Hub.

    Raises MissingExtra without the package, DataMissing where the split cannot be loaded.
    """
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtra(f"data '{data}' needs the package datasets: python -m pip install 'robustvit[datasets]'.")
    from timm.data.readers.reader_factory import create_reader  # late: importing timm takes seconds

    try:
        return create_reader(f"hfds/{place}", root=cache, split=split, input_key=image, target_key=label)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataMissing(
            f"data '{data}': {place}, split '{split}', columns '{image}' and '{label}', cannot be loaded: {reason} "
            "Other splits and columns are written like hfds/ORG/NAME?split=test&image=img&label=fine_label."
        ) from error


class SplitRows(NamedTuple):
    """The labels of a split, as its table holds them, and the sizes of its encoded images in bytes."""

    labels: list[Any]
    sizes: list[int]


def split_rows(dataset: Any, image: str, label: str, what: str) -> SplitRows:
    """Labels and encoded sizes of all rows, without decoding an image. what: the data set in messages.

    Raises DataMissing where there are no rows, or no images in them.
    """
    labels: list[Any] = []
    sizes: list[int] = []
    for table in dataset.select_columns([image, label]).with_format("arrow").iter(batch_size=_AT_ONCE):
        labels += table.column(label).to_pylist()
        sizes += _sizes(table.column(image), image, what)
    if not labels:
        raise DataMissing(f"{what} has no rows.")
    return SplitRows(labels, sizes)


def _refuse_other_labels(labels: Sequence[Any], label: str, what: str) -> None:
    wrong = [row for row, value in enumerate(labels) if not isinstance(value, int) or value < 0]
    if wrong:
        shown = few([f"{row} ({labels[row]!r})" for row in wrong])
        raise DataUnreadable(f"{what}: column '{label}' must hold class indices from 0; {len(wrong)} rows hold none: {shown}.")


def _sizes(images: pa.ChunkedArray, image: str, what: str) -> list[int]:
    """The size of each encoded image in bytes; on disk where the table holds a path."""
    lengths = pc.binary_length(pc.struct_field(images, "bytes")).to_pylist()
    paths = pc.struct_field(images, "path").to_pylist()
    if any(size is None and path is None for size, path in zip(lengths, paths, strict=True)):
        raise DataMissing(f"{what}: column '{image}' is absent, or has rows without an image. Name another with image=COLUMN.")
    try:
        return [os.stat(path).st_size if size is None else size for size, path in zip(lengths, paths, strict=True)]
    except OSError as error:
        raise DataUnreadable(f"{what}: an image file is gone: {error}.") from error


class _Numbered(NamedTuple):
    labels: Sequence[int]
    order: ClassOrder


def _numbered(reader: Any, labels: Sequence[int], order: Order | None, classes: str | None, place: Path) -> _Numbered:
    """The labels as the data set numbers its classes; those of class folders, which the package has sorted, in the requested order."""
    named = sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__)
    if named and reader.dataset.info.builder_name == "imagefolder":
        numbered = class_order("hfds", named, order, classes, place)
        index = {name: i for i, name in enumerate(numbered.names)}
        return _Numbered([index[named[label]] for label in labels], numbered)
    if order is not None or classes is not None:
        raise BadParameter("data 'hfds': this data set numbers its classes itself; leave order and classes out.")
    return _Numbered(labels, ClassOrder(named or numbered_classes(max(labels) + 1, "data 'hfds'")))
