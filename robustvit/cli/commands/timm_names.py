"""The names of timm's pretrained models, kept in the cache folder, because timm takes seconds to import."""

from __future__ import annotations

import contextlib
import importlib
from importlib import metadata

from robustvit.records.disk import write_output
from robustvit.records.user_cache import cache_folder


def timm_names() -> list[str]:
    """Every pretrained model of the installed timm, `NAME.TAG`; none where timm is not installed."""
    try:
        version = metadata.version("timm")
    except metadata.PackageNotFoundError:
        return []
    place = cache_folder() / f"timm-{version}.txt"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if known := place.read_text(encoding="utf-8").split():
            return known
    names = [str(name) for name in importlib.import_module("timm").list_models(pretrained=True)]
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_output(place, "".join(f"{name}\n" for name in names).encode())
    return names
