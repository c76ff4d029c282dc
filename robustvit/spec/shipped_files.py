"""Finds the folders that ship with robustvit beside its modules: suites and published numbers."""

from __future__ import annotations

import importlib.resources
from pathlib import Path


def shipped_folder(package: str, *in_checkout: str) -> Path:
    """The folder `robustvit/<package>` of an installed package, or that of a checkout that is used in place."""
    try:
        return Path(str(importlib.resources.files(f"robustvit.{package}")))
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[2].joinpath(*in_checkout)
