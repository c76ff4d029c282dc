"""ImageNet's validation images with the object or its surroundings painted over, by the boxes that annotators drew around it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le
from PIL import Image, ImageFilter

from robustvit.data.annotations.box_annotations import Boxes, find_boxes
from robustvit.data.formats.files import Files
from robustvit.data.imagenet import imagenet
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import Sample, Traits
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import dataset
from robustvit.spec.spec import Value, digest

Keep = Literal["full", "foreground", "background"]
Fill = Literal["mean", "zero", "blur", "noise"]
MEAN = (124, 116, 104)  # ImageNet's mean colour, in levels
_SHARE = 224 / 256  # of the short side: the middle that the usual view cuts out
_VISIBLE = 0.1  # of the boxes' area must lie in it
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
) -> Boxed:
    """Validation images whole, or with what is outside (`foreground`) or inside (`background`) the boxes of their class filled.

    fill: with ImageNet's mean colour, black, the picture blurred (σ a sixteenth of the short side), or uniform noise, keyed by the
    image's id and `seed`. Painted at the picture's own size, before a view resizes it. Left out, whatever `keep` is: images whose boxes
    cover more than `coverage` of the middle that the usual view cuts out (a square of 224/256 of the short side), and images that keep less
    than a tenth of their boxes in it. `fact_coverage`: that share, per mille. Ids are those of imagenet, so the three are paired.
    """
    whole = imagenet(root)
    found = find_boxes(whole)
    seen = [middle(boxes) for boxes in found]
    kept = np.array([i for i, one in enumerate(seen) if one.covered <= coverage and one.visible >= _VISIBLE], dtype=np.int64)
    if not len(kept):
        raise DataMissing(f"data 'imagenet-boxes': none of {len(whole)} images has boxes that cover at most {coverage:g} of its middle.")
    told: dict[str, Value] = {"coverage": coverage} if keep == "full" else {"coverage": coverage, "fill": fill}
    if keep != "full" and fill == "noise":
        told["seed"] = seed
    facts = {"fact_coverage": [round(1000 * seen[i].covered) for i in kept.tolist()]}
    own = Traits(base="imagenet", scenario=keep, params=tuple(told.items()), fleeting=True, facts=facts)
    return Boxed(whole, kept, [found[i] for i in kept.tolist()], Painting(keep, fill, seed), own)


@dataclass(frozen=True)
class Painting:
    """What of a picture stays, and what takes the place of the rest."""

    keep: Keep
    fill: Fill
    seed: int = 0

    def of(self, picture: np.ndarray, boxes: Boxes, name: str) -> np.ndarray:
        """(H, W, 3) uint8: the picture with this done to it. name: keys the noise."""
        if self.keep == "full":
            return picture
        inside = np.zeros((*picture.shape[:2], 1), dtype=bool)
        for left, top, right, bottom in boxes.corners:
            inside[top:bottom, left:right] = True
        return np.where(inside == (self.keep == "foreground"), picture, self._filling(picture, name))

    def _filling(self, picture: np.ndarray, name: str) -> np.ndarray:
        if self.fill == "mean":
            return np.array(MEAN, np.uint8)
        if self.fill == "zero":
            return np.zeros(3, np.uint8)
        if self.fill == "blur":
            return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(min(picture.shape[:2]) * _BLUR)))
        words = Draws(self.seed, "data/imagenet-boxes", [name]).words(-(-picture.size // 4)).numpy()
        return words.astype("<u4").view(np.uint8).reshape(-1)[: picture.size].reshape(picture.shape)


class Boxed:
    """Pictures of another data set, painted over. Nothing is kept."""

    name = "imagenet-boxes"
    source = "original"

    def __init__(self, whole: Files, kept: np.ndarray, boxes: list[Boxes], painting: Painting, traits: Traits) -> None:
        self.whole, self.kept, self.boxes, self.painting, self.traits = whole, kept, boxes, painting, traits
        self.ids = tuple(whole.ids[i] for i in kept.tolist())
        self.labels = whole.labels[kept]
        self.classes, self.readings, self.ignored = whole.classes, whole.readings, whole.ignored
        self.labels.flags.writeable = False
        corners = [list(map(list, one.corners)) for one in boxes]
        told = {"keep": painting.keep, **dict(traits.params)}
        self.fingerprint = digest([whole.fingerprint, told, kept.tolist(), corners])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """A sample. Raises DataUnreadable for an image that cannot be read, or that its boxes were not drawn on."""
        name, picture, label = self.whole[int(self.kept[index])]
        boxes = self.boxes[index]
        if picture.shape[:2] != (boxes.height, boxes.width):
            raise DataUnreadable(
                f"{name}: {picture.shape[0]}x{picture.shape[1]} pixels; its boxes were drawn on {boxes.height}x{boxes.width}"
            )
        return Sample(name, self.painting.of(picture, boxes, name), label)


class Middle(NamedTuple):
    """The square that the usual view cuts out of a picture: the share of it that boxes cover, and the share of the boxes that it holds."""

    covered: float
    visible: float


def middle(boxes: Boxes) -> Middle:
    """What the usual view (224 of a short side of 256) leaves of a picture's boxes."""
    side = min(boxes.width, boxes.height) * _SHARE
    left, top = (boxes.width - side) / 2, (boxes.height - side) / 2
    corners = np.array(boxes.corners, dtype=np.float64)
    low, high = np.array([left, top] * 2), np.array([left + side, top + side] * 2)
    inside = _area(np.clip(corners, low, high))
    return Middle(inside / side**2, inside / _area(corners))


def _area(corners: np.ndarray) -> float:
    """The area that (K, 4) rectangles cover together."""
    across, down = np.unique(corners[:, 0::2]), np.unique(corners[:, 1::2])
    covered = np.zeros((len(across) - 1, len(down) - 1), dtype=bool)
    for left, top, right, bottom in corners:
        covered |= ((across[:-1] >= left) & (across[1:] <= right))[:, None] & ((down[:-1] >= top) & (down[1:] <= bottom))
    return float(np.diff(across) @ covered @ np.diff(down))
