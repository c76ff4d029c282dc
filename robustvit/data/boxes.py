"""ImageNet's validation images with the object or its surroundings filled in, by annotated bounding boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le
from PIL import Image, ImageFilter

from robustvit.data.annotations.box_annotations import Boxes, find_boxes
from robustvit.data.formats.files import FileDataset
from robustvit.data.formats.image_dataset import ImageDataset, read_only_labels
from robustvit.data.imagenet import imagenet
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import Traits
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import dataset
from robustvit.spec.spec import Value, digest

Keep = Literal["full", "foreground", "background"]
Fill = Literal["mean", "zero", "blur", "noise"]
MEAN = (124, 116, 104)  # ImageNet's mean colour, in levels
_SHARE = 224 / 256  # of the short side: the usual center crop
_INSIDE = 0.1  # of the boxes' area must lie in it
_BLUR = 1 / 16  # of the short side: the standard deviation of the blur


@dataset(
    name="imagenet-boxes",
    source="Ghiasi et al. 2022, What do Vision Transformers Learn? A Visual Exploration (the question; the boxes are ImageNet's)",
    url="https://www.image-net.org/challenges/LSVRC/2012/",
    licence="ImageNet terms of access: non-commercial research and education",
    rules="ImageNet's validation images as for imagenet, and beside them or above the boxes: ILSVRC2012_bbox_val_v3.tgz unpacked "
    "(…/*.xml), ILSVRC/Annotations/CLS-LOC/val, or Kaggle's LOC_val_solution.csv. Then --data-dir FOLDER.",
    citation="""@article{ghiasi2022vision,
  title={What do Vision Transformers Learn? A Visual Exploration},
  author={Ghiasi, Amin and Kazemi, Hamid and Borgnia, Eitan and others},
  journal={arXiv preprint arXiv:2212.06727},
  year={2022}
}""",
)
def imagenet_boxes(
    root: Path | None,
    *,
    keep: Literal["full", "foreground", "background"] = "full",
    fill: Literal["mean", "zero", "blur", "noise"] = "mean",
    coverage: Annotated[float, Gt(0), Le(1)] = 0.5,
    seed: Annotated[int, Ge(0)] = 0,
) -> ImageDataset[FilledImages]:
    """Validation images whole, or with the pixels outside (`foreground`) or inside (`background`) the boxes of their class filled.

    fill: with ImageNet's mean colour, black, the blurred image (σ a sixteenth of the short side), or uniform noise, keyed by the image's
    id and `seed`; at the image's own size, before a view resizes it. Left out, for every `keep`: images whose boxes cover more than
    `coverage` of the usual center crop (a square of 224/256 of the short side), and images with less than a tenth of their boxes in it.
    `fact_coverage`: that share, per mille. Ids are those of imagenet, so the three are paired.
    """
    whole = imagenet(root)
    found = find_boxes(whole)
    crops = [center_crop(boxes) for boxes in found]
    kept = [i for i, crop in enumerate(crops) if crop.covered <= coverage and crop.inside >= _INSIDE]
    if not kept:
        raise DataMissing(f"data 'imagenet-boxes': none of {len(whole)} images has boxes that cover at most {coverage:g} of its middle.")
    params: dict[str, Value] = {"coverage": coverage} if keep == "full" else {"coverage": coverage, "fill": fill}
    if keep != "full" and fill == "noise":
        params["seed"] = seed
    boxes = [found[i] for i in kept]
    corners = [list(map(list, one.corners)) for one in boxes]
    facts = {"fact_coverage": [round(1000 * crops[i].covered) for i in kept]}
    own, former = (digest([mark, {"keep": keep, **params}, kept, corners]) for mark in (whole.fingerprint, whole.former_fingerprint))
    return ImageDataset(
        name="imagenet-boxes", read=FilledImages(whole, kept, boxes, Filling(keep, fill, seed)), ids=tuple(whole.ids[i] for i in kept),
        labels=read_only_labels(whole.labels[kept]), classes=whole.classes, readings=whole.readings,
        fingerprint=own, former_fingerprint=former, ignored=whole.ignored,
        traits=Traits(base="imagenet", scenario=keep, params=tuple(params.items()), fleeting=True, facts=facts),
    )  # fmt: skip


@dataclass(frozen=True)
class Filling:
    """Which part of an image is kept, and what the rest is filled with."""

    keep: Keep
    fill: Fill
    seed: int = 0

    def apply(self, image: np.ndarray, boxes: Boxes, name: str) -> np.ndarray:
        """(H, W, 3) uint8: the image with the rest filled. name: keys the noise."""
        if self.keep == "full":
            return image
        inside = np.zeros((*image.shape[:2], 1), dtype=bool)
        for left, top, right, bottom in boxes.corners:
            inside[top:bottom, left:right] = True
        return np.where(inside == (self.keep == "foreground"), image, self._pixels(image, name))

    def _pixels(self, image: np.ndarray, name: str) -> np.ndarray:
        if self.fill == "mean":
            return np.array(MEAN, np.uint8)
        if self.fill == "zero":
            return np.zeros(3, np.uint8)
        if self.fill == "blur":
            return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(min(image.shape[:2]) * _BLUR)))
        words = Draws(self.seed, "data/imagenet-boxes", [name]).words(-(-image.size // 4)).numpy()
        return words.astype("<u4").view(np.uint8).reshape(-1)[: image.size].reshape(image.shape)


@dataclass(frozen=True, eq=False)
class FilledImages:
    """Reads images of another data set, at its indices `kept`, and fills them by their boxes. Nothing stays in memory."""

    whole: FileDataset
    kept: list[int]
    boxes: list[Boxes]
    filling: Filling

    def __call__(self, index: int) -> np.ndarray:
        """The image. Raises DataUnreadable where it cannot be read, or has another size than its annotation says."""
        name, image, _ = self.whole[self.kept[index]]
        boxes = self.boxes[index]
        if image.shape[:2] != (boxes.height, boxes.width):
            raise DataUnreadable(f"{name}: {image.shape[0]}x{image.shape[1]} pixels; its boxes were drawn on {boxes.height}x{boxes.width}")
        return self.filling.apply(image, boxes, name)


class CenterCrop(NamedTuple):
    """covered: the share of the crop that boxes cover; inside: the share of the boxes' area that lies in it."""

    covered: float
    inside: float


def center_crop(boxes: Boxes) -> CenterCrop:
    """How the boxes of an image overlap with its usual center crop (224 of a short side of 256)."""
    side = min(boxes.width, boxes.height) * _SHARE
    left, top = (boxes.width - side) / 2, (boxes.height - side) / 2
    corners = np.array(boxes.corners, dtype=np.float64)
    low, high = np.array([left, top] * 2), np.array([left + side, top + side] * 2)
    inside = _area(np.clip(corners, low, high))
    return CenterCrop(inside / side**2, inside / _area(corners))


def _area(corners: np.ndarray) -> float:
    """The area of the union of (K, 4) rectangles."""
    across, down = np.unique(corners[:, 0::2]), np.unique(corners[:, 1::2])
    covered = np.zeros((len(across) - 1, len(down) - 1), dtype=bool)
    for left, top, right, bottom in corners:
        covered |= ((across[:-1] >= left) & (across[1:] <= right))[:, None] & ((down[:-1] >= top) & (down[1:] <= bottom))
    return float(np.diff(across) @ covered @ np.diff(down))
