"""The names of timm's pretrained models, kept in the cache folder, because timm takes seconds to import."""

from __future__ import annotations

import contextlib
import importlib
import os
from importlib import metadata
from pathlib import Path

from robustvit.records.disk import write_output


def timm_names() -> list[str]:
    """Every pretrained model of the installed timm, `NAME.TAG`; none where timm is not installed."""
    try:
        version = metadata.version("timm")
    except metadata.PackageNotFoundError:
        return []
    import platformdirs

    place = Path(os.environ.get("ROBUSTVIT_CACHE") or platformdirs.user_cache_dir("robustvit")) / f"timm-{version}.txt"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if known := place.read_text(encoding="utf-8").split():
            return known
    names = [str(name) for name in importlib.import_module("timm").list_models(pretrained=True)]
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_output(place, "".join(f"{name}\n" for name in names).encode())
    return names
