"""The user's cache folder, which holds what robustvit can compute again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder of what robustvit can compute again: $ROBUSTVIT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("ROBUSTVIT_CACHE") or platformdirs.user_cache_dir("robustvit"))
