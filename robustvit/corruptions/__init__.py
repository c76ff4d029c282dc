"""Corruptions: functions of images, draws and a severity that return images. `corrupt` is a drop-in for `imagecorruptions.corrupt`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustvit.corruptions.imagecorruptions_api import corrupt, get_corruption_names, salt_and_pepper

__all__ = ["corrupt", "get_corruption_names", "salt_and_pepper"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'robustvit.corruptions' has no attribute '{name}'")
    return getattr(importlib.import_module("robustvit.corruptions.imagecorruptions_api"), name)
