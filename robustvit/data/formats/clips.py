"""The clips of ImageNet-P, generated or read from videos: how many frames they have, and which frames are compared.

Frames are samples, `<image>#0`, `<image>#1`, …; the prediction on one frame is compared with that on another, without any label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustvit.primitives.batch import Difficulty, Traits

SIDE = 224  # pixels of a released frame


@dataclass(frozen=True)
class Perturbation:
    """One of the perturbations of ImageNet-P. difficulty: the strength of noise; for others the step between the frames compared."""

    name: str
    difficulty: Difficulty = 1

    @property
    def noisy(self) -> bool:
        """Whether frames are compared with the first, which is clean, and not with an earlier one."""
        return "noise" in self.name

    @property
    def frames(self) -> int:
        """The number of frames of a clip."""
        return 41 if self.name == "translate" else 31

    def against(self, clips: int) -> np.ndarray:
        """(clips · frames,) int32: the number of the frame that each frame is compared with, −1 for none."""
        frames = np.arange(self.frames, dtype=np.int32)
        earlier = np.where(frames > 0, 0, -1) if self.noisy else np.maximum(frames - self.difficulty, -1)
        return np.tile(earlier.astype(np.int32), clips)

    def traits(self, base: str, clips: int, side: int) -> Traits:
        """The traits of a data set of such clips, one for each image of `base`, with square frames of `side` px."""
        facts = {"against": self.against(clips)}
        return Traits(base=base, scenario=self.name, severity=str(self.difficulty), cut=side, fleeting=True, facts=facts)
