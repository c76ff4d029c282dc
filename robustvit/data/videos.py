"""The released ImageNet-P: short videos."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from robustvit.data.annotations.wnids import class_indices, readings, wnids
from robustvit.data.formats.class_folders import refuse_unknown_wnids
from robustvit.data.formats.clips import SIDE, Perturbation
from robustvit.data.formats.files import ImageFiles
from robustvit.data.formats.fingerprint import content_fingerprint, fingerprint, refuse_repeats
from robustvit.data.formats.image_dataset import ImageDataset, read_only_labels
from robustvit.data.formats.listing import Listing, first_folder, list_files, need_folder, refuse_unusable, subfolders
from robustvit.data.imagenet_c_source import CITATION, SOURCE
from robustvit.errors import DataMissing, DataUnreadable, few, nearest
from robustvit.primitives.batch import Difficulty
from robustvit.spec.registry import dataset
from robustvit.spec.sample_order import Frames

_KEPT = 4  # decoded videos that stay in memory for the frames that follow
_ENDINGS = (".mp4",)
_PYTORCH_OOD = "pytorch-ood, dataset/img/imagenet.py"
_FILES = (
    {
        "url": "https://zenodo.org/records/3565846/files/noise.tar", "md5": "619b37b5139ce764f77ce3bed3aee837", "source": _PYTORCH_OOD,
        "only": {"perturbation": ("gaussian_noise", "shot_noise", "speckle_noise")},
    },
    {
        "url": "https://zenodo.org/records/3565846/files/blur.tar", "md5": "869b2d2fb1604d1baa4316b5ecc9fdea", "source": _PYTORCH_OOD,
        "only": {"perturbation": ("motion_blur", "zoom_blur", "gaussian_blur")},
    },
    {
        "url": "https://zenodo.org/records/3565846/files/weather.tar", "md5": "a597ff6db8c6fb0dbcd6eb12ed620002", "source": _PYTORCH_OOD,
        "only": {"perturbation": ("snow", "brightness", "spatter")},
    },
    {
        "url": "https://zenodo.org/records/3565846/files/digital.tar", "md5": "8c1f73e4912812788e2fdb637cd55372", "source": _PYTORCH_OOD,
        "only": {"perturbation": ("translate", "rotate", "tilt", "scale", "shear")},
    },
)  # fmt: skip


@dataset(
    name="imagenet-p",
    downloads=_FILES,
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
) -> ImageDataset[VideoFrames]:  # fmt: skip
    """One perturbation of the released ImageNet-P.

    root: holds `<perturbation>/<wnid>/*.mp4`, itself or one folder further down; noise of difficulty 2 and 3 is `<perturbation>_2`, `_3`.
    difficulty: the strength of noise, or the step between frames compared. Any part of the classes may be present.
    """
    chosen = Perturbation(perturbation, difficulty)
    place = _place(need_folder(root, "imagenet-p"), chosen)
    return _dataset(place, _videos(place), chosen)


def _dataset(place: Path, found: Listing, perturbation: Perturbation) -> ImageDataset[VideoFrames]:
    clips = tuple(f"imagenet/val/{file.stem}" for file in found.files)
    refuse_repeats(clips, "imagenet-p")
    paths = tuple(file.path for file in found.files)
    labels = read_only_labels([class_indices()[path.partition("/")[0]] for path in paths])
    marks = (f"{perturbation.name} {perturbation.difficulty} {file.size}" for file in found.files)
    names = fingerprint(clips, labels, wnids(), marks)
    return ImageDataset(
        name="imagenet-p", read=VideoFrames(place, paths, clips, perturbation), ids=Frames(clips, perturbation.frames),
        labels=read_only_labels(np.repeat(labels, perturbation.frames)), classes=wnids(), readings=readings(wnids()),
        fingerprint=content_fingerprint(names, clips, ImageFiles(place, paths, "imagenet-p")), former_fingerprint=names, source="released",
        traits=perturbation.traits("imagenet", len(clips), SIDE), ignored=found.ignored,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Reads the frames of the videos `paths` below `root`, (224, 224, 3) uint8 RGB. A video is decoded whole; the last few stay in memory.

    clips: what messages call the videos.
    """

    root: Path
    paths: tuple[str, ...]
    clips: tuple[str, ...]
    perturbation: Perturbation

    def __call__(self, index: int) -> np.ndarray:
        """The image. Raises DataUnreadable where its video cannot be read."""
        clip, frame = divmod(index, self.perturbation.frames)
        video = self._video(clip)
        if isinstance(video, str):
            raise DataUnreadable(video)
        return np.asarray(video[frame])

    @functools.cached_property
    def _video(self) -> Callable[[int], np.ndarray | str]:
        return functools.lru_cache(maxsize=_KEPT)(self._decoded_or_reason)

    def _decoded_or_reason(self, clip: int) -> np.ndarray | str:
        """A video, or why it cannot be read: attempted once, not for each of its frames."""
        try:
            return self._decoded(clip)
        except DataUnreadable as error:
            return str(error)

    def _decoded(self, clip: int) -> np.ndarray:
        """(frames, 224, 224, 3) uint8 RGB. Raises DataUnreadable for another number or size of frames."""
        path, name, wanted = self.root / self.paths[clip], self.clips[clip], self.perturbation.frames
        frames = _frames(path)
        if len(frames) != wanted:
            raise DataUnreadable(f"{name}: {path} has {len(frames)} readable frames; {self.perturbation.name} has {wanted}")
        if frames[0].shape != (SIDE, SIDE, 3):
            height, width = frames[0].shape[:2]
            raise DataUnreadable(f"{name}: {path} has frames of {height}x{width} pixels; those of ImageNet-P have {SIDE}x{SIDE}")
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


def _place(root: Path, perturbation: Perturbation) -> Path:
    """The folder of a perturbation, in `root` or one folder further down."""
    name = f"{perturbation.name}_{perturbation.difficulty}" if perturbation.noisy and perturbation.difficulty > 1 else perturbation.name
    above = [root, *(root / inner for inner in subfolders(root))]
    here = first_folder(place / name for place in above)
    if here is None:
        held = list(dict.fromkeys(inner for place in above for inner in subfolders(place)))
        raise DataMissing(
            f"data 'imagenet-p': neither {root} nor a folder in it holds '{name}'.{nearest(name, held)} "
            f"It holds {few(held) or 'no folders'}."
        )
    return here


def _videos(place: Path) -> Listing:
    refuse_unknown_wnids("imagenet-p", place)
    found = list_files(place, endings=_ENDINGS)
    refuse_unusable("imagenet-p", place, found, what="videos", endings=_ENDINGS)
    return found
