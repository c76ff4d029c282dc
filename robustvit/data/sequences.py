"""ImageNet-P generated from any data set: clips in which an image changes little by little."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge
from PIL import Image
from torch import Tensor

from robustvit.data.formats.clips import Perturbation
from robustvit.data.formats.image_dataset import ImageDataset, read_only_labels
from robustvit.data.formats.left_out import LeftOut
from robustvit.data.imagenet_c_source import CITATION, SOURCE
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Data, Difficulty, traits
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.spec import registry
from robustvit.spec.registry import dataset
from robustvit.spec.sample_order import Frames
from robustvit.spec.spec import digest
from robustvit.spec.view import INTERPOLATIONS, View, resize_short

Corruption = Callable[..., Tensor]
_KEPT = 4  # resized images that stay in memory for the frames that follow


@dataset(
    source=SOURCE,
    url="https://github.com/hendrycks/robustness",
    licence="that of the data set that they are generated from",
    rules="Generated from another data set: `{sequences: {data: imagenet, corruption: rotate_frame}}` in a suite. The released ImageNet-P "
    "is "
    "lossy video, which these frames are not; the `source` of the one is `generated`, of the other `released`.",
    citation=CITATION,
)
def sequences(
    root: Path | None,
    *,
    data: Data,
    corruption: Corruption,
    difficulty: Difficulty = 1,
    cut: Literal["first", "last"] = "first",
    size: Annotated[int, Ge(1)] = 224,
    seed: Annotated[int, Ge(0)] = 0,
) -> ImageDataset[GeneratedFrames]:
    """Clips of 31 frames (translate: 41), one for each image of a data set.

    data: the images. corruption: one of the family `sequence`, which makes a frame. difficulty: the strength of noise, or the step between
    the frames compared. cut: whether the image, whose short side is resized to 8/7 of `size`, is center-cropped before the corruption or
    after it, as ImageNet-P does where something moves into the frame.
    """
    name, arguments = _frame_maker(corruption)
    if isinstance(data.ids, Frames):
        raise BadParameter(f"data 'sequences': clips cannot be made of clips ('{data.name}').")
    perturbation = Perturbation(name.removesuffix("_frame"), difficulty)
    make = functools.partial(corruption, difficulty=difficulty) if "difficulty" in arguments else corruption
    version = registry.lookup("corruption", name).version
    own, former = (
        digest([mark, name, version, difficulty, cut, size, seed, perturbation.frames]) if mark else ""
        for mark in (data.fingerprint, getattr(data, "former_fingerprint", ""))
    )
    return ImageDataset(
        name=f"{data.name}-p", read=GeneratedFrames(data, perturbation, make, cut, size, seed), ids=Frames(data.ids, perturbation.frames),
        labels=read_only_labels(np.repeat(np.asarray(data.labels), perturbation.frames)), classes=data.classes, readings=data.readings,
        fingerprint=own, former_fingerprint=former, source="generated",
        traits=replace(perturbation.traits(data.name, len(data), size), ambiguous_order=traits(data).ambiguous_order),
        ignored=getattr(data, "ignored", LeftOut()),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class GeneratedFrames:
    """Makes the frames of clips from the images of a data set, (size, size, 3) uint8 RGB. Only the last few images stay in memory."""

    images: Data
    perturbation: Perturbation
    make: Corruption
    cut: str
    size: int
    seed: int

    def __call__(self, index: int) -> np.ndarray:
        """The frame. Raises DataUnreadable where its image cannot be read."""
        clip, frame = divmod(index, self.perturbation.frames)
        draws = Draws(self.seed, f"sequences/{self.perturbation.name}", [self.images.ids[clip]])
        made = to_uint8(self.make(self._image(clip), draws, frame=frame))[0]
        return np.asarray(self._center_crop(Image.fromarray(made)))

    @functools.cached_property
    def _image(self) -> Callable[[int], Tensor]:
        return functools.lru_cache(maxsize=_KEPT)(self._resized)

    def _resized(self, clip: int) -> Tensor:
        """(1, 3, H, W): an image as the corruption takes it."""
        image, short = Image.fromarray(self.images[clip].image), round(self.size * 8 / 7)
        View((self.size, self.size), short).refuse_long(image.size, self.images.ids[clip])
        resized = resize_short(image, short, INTERPOLATIONS["bilinear"])
        return pixels(np.asarray(self._center_crop(resized) if self.cut == "first" else resized)[None])

    def _center_crop(self, image: Image.Image) -> Any:
        return View((self.size, self.size), resize=None).apply(image)


def _frame_maker(corruption: Corruption) -> tuple[str, dict[str, Any]]:
    """The name of a corruption that makes frames, and its arguments. Raises BadParameter for any other corruption."""
    function = getattr(corruption, "func", corruption)
    given = dict(getattr(corruption, "keywords", {}))
    name = str(getattr(function, "__name__", "corruption"))
    if "frame" not in given:
        known = [entry.name for entry in registry.entries("corruption").values() if entry.family == "sequence"]
        raise BadParameter(f"data 'sequences': corruption '{name}' makes no frames; those that do are {', '.join(known)}.")
    if given.get("difficulty", 1) != 1 or given["frame"] != 0:
        raise BadParameter(f"data 'sequences': give the difficulty to sequences, not to '{name}', and no frame: all are made.")
    return name, given
