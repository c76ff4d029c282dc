"""Adversarial images that an attack kept, by sample id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class ImagePairs(NamedTuple):
    """Images of n samples: adversarial (n, 3, H, W) float32 in [0, 1], and clean (n, H, W, 3) uint8."""

    adversarial: np.ndarray
    clean: np.ndarray


class AdversarialImages(Protocol):
    """A source of adversarial images by sample id."""

    def images(self, ids: Sequence[str]) -> ImagePairs:
        """The adversarial and clean images of the samples `ids`, in their order."""
        ...
