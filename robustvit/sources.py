"""Which data sets are at hand, where they were looked for, and how to get the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustvit import registry
from robustvit.batch import Data
from robustvit.data_address import places, resolve_root
from robustvit.errors import RobustvitError
from robustvit.order import Frames
from robustvit.spec import Spec


def status(name: str, data_dir: Path | str | None = None) -> dict[str, Any]:
    """One data set as `robustvit data` shows it, opened with its defaults.

    Returns name, found, where (the folder opened, or None), looked (places tried), images, classes, fingerprint, told (one line: what
    was found, or why nothing was), get (what to do to have it), url, licence. A data set that needs no files is found everywhere.
    """
    entry = registry.lookup("data", name)
    root = resolve_root(name, data_dir)
    looked = [str(data_dir)] if data_dir is not None else [str(place.absolute()) for place in places(name).values()]
    nested = any(param.hint.plugin for param in entry.params)
    about: dict[str, Any] = {
        "name": name, "found": False, "where": None if root is None else str(root), "looked": looked, "images": None, "classes": None,
        "fingerprint": None, "get": entry.rules, "url": entry.url, "licence": entry.licence,
    }  # fmt: skip
    if nested:
        return {**about, "looked": [], "told": entry.rules}
    try:
        arguments = dict(registry.bind(entry, Spec(name)).params)
        found: Data = entry.load()(root, **arguments)
    except RobustvitError as error:
        reason = str(error) if root is not None else f"not found; looked in {' and '.join(looked)}."
        return {**about, "told": f"{reason} {entry.rules}".strip()}
    size = {"images": len(found), "classes": len(found.classes), "fingerprint": found.fingerprint}
    return {**about, **size, "found": True, "told": _told(found, root)}


def _told(found: Data, root: Path | None) -> str:
    ignored = getattr(found, "ignored", 0)
    beside = f", {ignored} other files left out" if ignored else ""
    size = f"{len(found.ids.clips)} clips" if isinstance(found.ids, Frames) else f"{len(found)} images"
    return f"{size} of {len(found.classes)} classes" + (f" in {root}" if root is not None else "") + beside
