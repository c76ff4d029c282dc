"""ImageNet-P as it was released: short videos."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from robustvit.data.annotations.wnids import wnids
from robustvit.data.formats.clips import SIDE, Difficulty, Sequence
from robustvit.data.formats.files import Listing, listing, need_folder, subfolders, written
from robustvit.data.formats.fingerprint import fingerprint, refuse_repeats
from robustvit.data.imagenet_c_source import CITATION, SOURCE
from robustvit.errors import DataMissing, DataUnreadable, few, nearest
from robustvit.primitives.batch import Sample
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset
from robustvit.spec.sample_order import Frames

_KEPT = 4  # clips at hand for the frames that follow
_ENDINGS = (".mp4",)


@dataset(
    name="imagenet-p",
    source=SOURCE,
    url="https://zenodo.org/records/3565846",
    licence="images under the terms of ImageNet: non-commercial research and education",
    rules="Unpack blur.tar, digital.tar, noise.tar, weather.tar (and validation.tar) of the released files into one folder, then "
    "--data-dir FOLDER. One MP4 for each validation image, 31 frames of 224 px (translate: 41), as they are; read by OpenCV.",
    citation=CITATION,
)
def imagenet_p(
    root: Path | None,
    *,
    perturbation: Literal[
        "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow", "brightness", "translate", "rotate", "tilt", "scale",
        "speckle_noise", "gaussian_blur", "spatter", "shear",
    ] = "gaussian_noise",
    difficulty: Difficulty = 1,
) -> Videos:  # fmt: skip
    """One perturbation of the released ImageNet-P.

    root: holds `<perturbation>/<wnid>/*.mp4`, itself or one folder further down; noise of difficulty 2 and 3 is `<perturbation>_2`, `_3`.
    difficulty: the strength of noise, or the step between frames compared. Any part of the classes may be present.
    """
    sequence = Sequence(perturbation, difficulty)
    place = _place(need_folder(root, "imagenet-p"), sequence)
    return Videos(place, _clips(place), sequence)


class Videos:
    """The frames of videos. A video is decoded whole when one of its frames is asked for; the last few are kept."""

    name = "imagenet-p"
    source = "released"

    def __init__(self, place: Path, found: Listing, sequence: Sequence) -> None:
        index = {wnid: label for label, wnid in enumerate(wnids())}
        self.place, self.sequence, self.ignored = place, sequence, found.ignored
        self.paths = tuple(picture.path for picture in found.pictures)
        clips = tuple(f"imagenet/val/{_stem(path)}" for path in self.paths)
        refuse_repeats(clips, self.name)
        labels = np.array([index[path.partition("/")[0]] for path in self.paths], dtype=np.int64)
        self.ids = Frames(clips, sequence.frames)
        self.labels = np.repeat(labels, sequence.frames)
        self.classes = wnids()
        self.readings = (Reading("all", len(wnids())),)
        self.traits = sequence.traits("imagenet", len(clips), SIDE)
        marks = (f"{sequence.name} {sequence.difficulty} {picture.size}" for picture in found.pictures)
        self.fingerprint = fingerprint(clips, labels, self.classes, marks)
        self._video = functools.lru_cache(maxsize=_KEPT)(self._tried)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        clip, frame = divmod(index, self.sequence.frames)
        video = self._video(clip)
        if isinstance(video, str):
            raise DataUnreadable(video)
        return Sample(self.ids[index], video[frame], int(self.labels[index]))

    def _tried(self, clip: int) -> np.ndarray | str:
        """A video, or why it cannot be read: tried once, not for each of its frames."""
        try:
            return self._decoded(clip)
        except DataUnreadable as error:
            return str(error)

    def _decoded(self, clip: int) -> np.ndarray:
        """(frames, 224, 224, 3) uint8 RGB. Raises DataUnreadable for another number or size of frames."""
        path = self.place / self.paths[clip]
        frames = _frames(path)
        name, wanted = self.ids.clips[clip], self.sequence.frames
        if len(frames) != wanted:
            raise DataUnreadable(f"{name}: {path} has {len(frames)} readable frames; {self.sequence.name} has {wanted}")
        if frames[0].shape != (SIDE, SIDE, 3):
            height, width = frames[0].shape[:2]
            raise DataUnreadable(f"{name}: {path} has frames of {height}x{width} pixels; they are {SIDE}x{SIDE} in ImageNet-P")
        return np.stack(frames)


def _frames(path: Path) -> list[np.ndarray]:
    """Every frame of a video, RGB."""
    cv2 = _opencv()
    video: Any = cv2.VideoCapture(str(path))
    found: list[np.ndarray] = []
    try:
        while True:
            more, frame = video.read()
            if not more:
                return found
            found.append(np.ascontiguousarray(frame[..., ::-1]))
    finally:
        video.release()


def _opencv() -> ModuleType:
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise DataUnreadable(
            f"videos are read by OpenCV, which cannot be imported here ({error}): pip install opencv-python-headless"
        ) from error


def _place(root: Path, sequence: Sequence) -> Path:
    """The folder of a perturbation, in `root` or one folder further down."""
    name = f"{sequence.name}_{sequence.difficulty}" if sequence.noisy and sequence.difficulty > 1 else sequence.name
    above = [root, *(root / inner for inner in subfolders(root))]
    here = next((place / name for place in above if (place / name).is_dir()), None)
    if here is None:
        held = list(dict.fromkeys(inner for place in above for inner in subfolders(place)))
        raise DataMissing(
            f"data 'imagenet-p': neither {root} nor a folder in it holds '{name}'.{nearest(name, held)} It holds {few(held) or 'no folders'}."
        )
    return here


def _clips(place: Path) -> Listing:
    unknown = [name for name in subfolders(place) if name not in set(wnids())]
    if unknown:
        raise DataUnreadable(
            f"data 'imagenet-p': {len(unknown)} folders in {place} are not among ImageNet's thousand classes: {few(unknown)}."
        )
    found = listing(place, endings=_ENDINGS)
    if not found.pictures:
        raise DataMissing(f"data 'imagenet-p': {place} holds no videos ({found.ignored} other files). Videos end in {', '.join(_ENDINGS)}.")
    empty = [picture.path for picture in found.pictures if picture.size == 0]
    if empty:
        raise DataUnreadable(f"data 'imagenet-p': {len(empty)} videos in {place} are empty: {few(empty)}. Restore or remove them.")
    return found


def _stem(path: str) -> str:
    return written(path.rpartition("/")[2].rpartition(".")[0])
