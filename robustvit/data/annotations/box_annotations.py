"""Reads the bounding boxes of ImageNet's validation images from the files in which they are distributed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from PIL import Image, UnidentifiedImageError

from robustvit.data.annotations.names_with_wnids import without_wnid
from robustvit.data.annotations.validation_labels import CSV, label_folders
from robustvit.data.formats.decode import FORMATS
from robustvit.data.formats.files import FileDataset
from robustvit.data.formats.listing import read_text
from robustvit.errors import DataMissing, DataUnreadable, few

FOLDERS = ("Annotations/CLS-LOC/val", "ILSVRC2012_bbox_val_v3/val", "ILSVRC2012_bbox_val_v3", "bbox/val", "bbox", "val", "")
_BEYOND = 1  # pixels by which a box may exceed the image, where annotators counted pixels from 1; clipped

Corners = tuple[int, int, int, int]


class Boxes(NamedTuple):
    """Boxes on an image of so many pixels: (left, top, right, bottom), right and bottom exclusive."""

    width: int
    height: int
    corners: tuple[Corners, ...]


class _Wrong(Exception):
    """Why an image has no usable boxes. kind: the same for all images with the same problem, for one message about them."""

    def __init__(self, kind: str, more: str = "") -> None:
        super().__init__(more)
        self.kind = kind


def find_boxes(images: FileDataset) -> list[Boxes]:
    """The boxes of each image's own class; boxes of other classes are left out.

    Searched beside the images and up to four folders above: the XML files of the validation set, in one of the folders that archives
    unpack to, or Kaggle's LOC_val_solution.csv, for which the images are opened for their sizes. Raises DataMissing where there is neither;
    DataUnreadable, with counts, for images without boxes of their class, annotations that cannot be read, and boxes outside the image.
    """
    boxes_of = _source(images)
    found, wrong = [], dict[str, list[str]]()
    for index, name in enumerate(images.ids):
        try:
            found.append(boxes_of(index))
        except _Wrong as error:
            wrong.setdefault(error.kind, []).append(f"{name}: {error}" if str(error) else name)
    if wrong:
        problems = "; ".join(f"{len(names)} {kind}: {few(names)}" for kind, names in wrong.items())
        raise DataUnreadable(f"data 'imagenet-boxes': of {len(images)} images in {images.read.root}, {problems}.")
    return found


def _source(images: FileDataset) -> Callable[[int], Boxes]:
    for folder in label_folders(images.read.root):
        for inner in FOLDERS:
            if (folder / inner).is_dir() and any((folder / inner).glob("ILSVRC2012_val_*.xml")):
                return lambda index, place=folder / inner: _of_xml(images, place, index)  # type: ignore[misc]
        if (folder / CSV).is_file():
            return _of_table(images, folder / CSV)
    raise DataMissing(
        f"data 'imagenet-boxes': no boxes were found for the images in {images.read.root}. Put ILSVRC2012_bbox_val_v3/val/*.xml, "
        f"Annotations/CLS-LOC/val/*.xml or {CSV} beside them or above."
    )


def _of_xml(images: FileDataset, place: Path, index: int) -> Boxes:
    path = place / f"{_stem(images, index)}.xml"
    try:
        root = ElementTree.parse(path).getroot()
        width, height = (int(_text(root, f"size/{side}")) for side in ("width", "height"))
        named = [(_text(one, "name"), _corners([_text(one, f"bndbox/{key}") for key in _KEYS])) for one in root.iter("object")]
    except FileNotFoundError:
        raise _Wrong("without an annotation") from None
    except (OSError, ElementTree.ParseError, ValueError, OverflowError) as error:
        raise _Wrong("with annotations that cannot be read", f"{path.name}: {error}") from error
    return _checked(width, height, [corners for name, corners in named if name == images.classes[int(images.labels[index])]])


_KEYS = ("xmin", "ymin", "xmax", "ymax")


def _text(node: ElementTree.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return text.strip()


def _corners(words: Sequence[str]) -> Corners:
    left, top, right, bottom = (round(float(word)) for word in words)
    return left, top, right, bottom


def _of_table(images: FileDataset, path: Path) -> Callable[[int], Boxes]:
    lines = (line.partition(",") for line in read_text(path).splitlines())  # a header is the row of no image
    table = {name: words.split() for name, _, words in lines}

    def boxes(index: int) -> Boxes:
        words = table.get(_stem(images, index))
        if words is None:
            raise _Wrong("without an annotation")
        try:
            named = list(_fives(words))
        except (ValueError, OverflowError) as error:
            raise _Wrong("with annotations that cannot be read", f"{path.name}: {error}") from error
        return _checked(*_size(images, index), [corners for name, corners in named if name == images.classes[int(images.labels[index])]])

    return boxes


def _fives(words: Sequence[str]) -> Iterator[tuple[str, Corners]]:
    """`wnid left top right bottom`, over and over."""
    if len(words) % 5:
        raise ValueError(f"{len(words)} words are not a wnid and four numbers for each box")
    for start in range(0, len(words), 5):
        yield words[start], _corners(words[start + 1 : start + 5])


def _size(images: FileDataset, index: int) -> tuple[int, int]:
    try:
        with Image.open(images.read.root / images.read.paths[index], formats=FORMATS) as image:
            width, height = image.size
    except (OSError, UnidentifiedImageError) as error:
        raise _Wrong("that cannot be opened", str(error)) from error
    return width, height


def _checked(width: int, height: int, corners: Sequence[Corners]) -> Boxes:
    """The boxes, clipped to the image. Raises _Wrong where there are none, or one lies outside the image."""
    if not corners:
        raise _Wrong("without a box of their class")
    inside = []
    for left, top, right, bottom in corners:
        cut = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        beyond = max(-left, -top, right - width, bottom - height)
        if beyond > _BEYOND or cut[0] >= cut[2] or cut[1] >= cut[3]:
            raise _Wrong("with boxes outside the image", f"({left}, {top}, {right}, {bottom}) on {width}x{height}")
        inside.append(cut)
    return Boxes(width, height, tuple(inside))


def _stem(images: FileDataset, index: int) -> str:
    return without_wnid(images.read.paths[index].rpartition("/")[2].rpartition(".")[0])
