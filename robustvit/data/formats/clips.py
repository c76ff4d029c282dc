"""What the clips of ImageNet-P have in common, whether they are made here or read from videos.

Frames are samples, `<picture>#0`, `<picture>#1`, …; what a model answers to one is compared with what it answers to another, and no label
is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from robustvit.primitives.batch import Traits

Difficulty = Literal[1, 2, 3]
SIDE = 224  # pixels of a released frame


@dataclass(frozen=True)
class Sequence:
    """One of the perturbations. difficulty: the strength of noise; the step between the frames compared of everything else."""

    name: str
    difficulty: Difficulty = 1

    @property
    def noisy(self) -> bool:
        """Whether frames are compared with the first, which is clean, and not with an earlier one."""
        return "noise" in self.name

    @property
    def frames(self) -> int:
        """How many frames a clip has."""
        return 41 if self.name == "translate" else 31

    def against(self, clips: int) -> np.ndarray:
        """(clips · frames,) int32: the number of the frame that each frame is compared with, −1 for none."""
        frames = np.arange(self.frames, dtype=np.int32)
        earlier = np.where(frames > 0, 0, -1) if self.noisy else np.maximum(frames - self.difficulty, -1)
        if not self.noisy:
            earlier[: self.difficulty] = -1
        return np.tile(earlier.astype(np.int32), clips)

    def traits(self, base: str, clips: int, side: int) -> Traits:
        """The traits of data that consists of such clips of `base`, squares of `side` px."""
        facts = {"against": self.against(clips)}
        return Traits(base=base, scenario=self.name, severity=str(self.difficulty), cut=side, fleeting=True, facts=facts)
