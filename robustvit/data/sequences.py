"""ImageNet-P made here, of any data set: clips in which a picture changes little by little."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge
from PIL import Image
from torch import Tensor

from robustvit.data.formats.clips import Difficulty, Sequence
from robustvit.data.imagenet_c_source import CITATION, SOURCE
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Data, Sample
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.spec import registry
from robustvit.spec.registry import dataset
from robustvit.spec.sample_order import Frames
from robustvit.spec.spec import digest
from robustvit.spec.view import INTERPOLATIONS, View, resize_short

Corruption = Callable[..., Tensor]
_KEPT = 4  # pictures at hand for the frames that follow


@dataset(
    source=SOURCE,
    url="https://github.com/hendrycks/robustness",
    licence="as that of the data set they are made of",
    rules="Made of another data set: `{sequences: {data: imagenet, corruption: rotate_frame}}` in a suite. The released ImageNet-P is "
    "lossy video, which these frames are not; the two are told apart as `generated` and `released`.",
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
) -> Clips:
    """Clips of 31 frames (translate: 41), one for each picture of a data set.

    data: whose pictures. corruption: one of the family `sequence`, which makes a frame. difficulty: the strength of noise, or the step between
    frames compared. cut: whether the middle is cut out of the picture, whose short side is resized to 8/7 of `size`, before the corruption or
    after it, as ImageNet-P does where something moves into the frame.
    """
    return Clips(data, corruption, difficulty, cut, size, seed)


class Clips:
    """Clips made frame by frame, when asked for. Nothing but the last few pictures is kept."""

    source = "generated"

    def __init__(self, stills: Data, corruption: Corruption, difficulty: Difficulty, cut: str, size: int, seed: int) -> None:
        name, given = _of_frame(corruption)
        if isinstance(stills.ids, Frames):
            raise BadParameter(f"data 'sequences': clips cannot be made of clips ('{stills.name}').")
        self.stills, self.size, self.seed, self.cut = stills, size, seed, cut
        self.sequence = Sequence(name.removesuffix("_frame"), difficulty)
        self.make = functools.partial(corruption, difficulty=difficulty) if "difficulty" in given else corruption
        self.name = f"{stills.name}-p"
        self.ids = Frames(stills.ids, self.sequence.frames)
        self.labels = np.repeat(np.asarray(stills.labels), self.sequence.frames)
        self.classes = stills.classes
        self.readings = stills.readings
        self.traits = self.sequence.traits(stills.name, len(stills), size)
        version = registry.lookup("corruption", name).version
        self.fingerprint = digest([stills.fingerprint, name, version, difficulty, cut, size, seed, self.sequence.frames])
        self._still = functools.lru_cache(maxsize=_KEPT)(self._resized)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        clip, frame = divmod(index, self.sequence.frames)
        still = self._still(clip)
        draws = Draws(self.seed, f"sequences/{self.sequence.name}", [self.stills.ids[clip]])
        made = to_uint8(self.make(still, draws, frame=frame))[0]
        return Sample(self.ids[index], np.asarray(self._middle(Image.fromarray(made))), int(self.labels[index]))

    def _resized(self, clip: int) -> Tensor:
        """(1, 3, H, W): a picture as the corruption takes it."""
        picture = Image.fromarray(self.stills[clip].image)
        resized = resize_short(picture, round(self.size * 8 / 7), INTERPOLATIONS["bilinear"])
        return pixels(np.asarray(self._middle(resized) if self.cut == "first" else resized)[None])

    def _middle(self, picture: Image.Image) -> Any:
        return View((self.size, self.size), resize=None).apply(picture)


def _of_frame(corruption: Corruption) -> tuple[str, dict[str, Any]]:
    """The name of a corruption that makes frames, and its arguments. Raises BadParameter for any other."""
    function = getattr(corruption, "func", corruption)
    given = dict(getattr(corruption, "keywords", {}))
    name = str(getattr(function, "__name__", "corruption"))
    if "frame" not in given:
        known = [entry.name for entry in registry.entries("corruption").values() if entry.family == "sequence"]
        raise BadParameter(f"data 'sequences': corruption '{name}' makes no frames; those that do are {', '.join(known)}.")
    if given.get("difficulty", 1) != 1 or given["frame"] != 0:
        raise BadParameter(f"data 'sequences': give the difficulty to sequences, not to '{name}', and no frame: all are made.")
    return name, given
