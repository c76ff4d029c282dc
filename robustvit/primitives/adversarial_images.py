"""The adversarial images that an attack kept, by sample id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class ImagePairs(NamedTuple):
    """Images of some samples: (n, 3, H, W) float32 in [0, 1] as an attack left them, and (n, H, W, 3) uint8 as they were."""

    adversarial: np.ndarray
    clean: np.ndarray


class AdversarialImages(Protocol):
    """Images that an attack left, by sample id."""

    def images(self, ids: Sequence[str]) -> ImagePairs:
        """Those of some samples."""
        ...
