"""What a file of a store is, told by its place and name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from robustvit.records.compacted.sample_tables import FOLDER

_KINDS = {
    "marker": r"store\.json",
    "verified": r"verified\.json",
    "report": r"report\.html",
    "description": r"cells/[0-9a-f]{20}/cell\.json",
    "failure": r"cells/[0-9a-f]{20}/failure\.json",
    "rows": r"cells/[0-9a-f]{20}/(?:\d{6}-\d{3}-\d{3}(?:-([0-9a-f]{20}))?|rows-\d{7,9}-\d{5,9}-([0-9a-f]{20}))\.parquet",
    "lists": r"cells/[0-9a-f]{20}/lists-\d{7,9}-([0-9a-f]{20})\.parquet",
    "images": r"cells/[0-9a-f]{20}/\d{6}-\d{3}-\d{3}(?:-([0-9a-f]{20}))?\.safetensors",
    "removal": r"cells/[0-9a-f]{20}/\d{6}-\d{3}-\d{3}-[0-9a-f]{20}\.removed",
    "gallery": r"cells/[0-9a-f]{20}/gallery(?:-([0-9a-f]{20}))?\.parquet",
    "samples": rf"{FOLDER}/([0-9a-f]{{20}})\.parquet",
    "artifact": r"learned/[0-9a-f]{20}-([0-9a-f]{20})\.safetensors",
    "digests": r"samples/[^/]+/\d{6}-\d{3}(?:-([0-9a-f]{20}))?\.parquet",
    "environment": r"environments/[0-9a-f]{20}\.json",
    "manifest": r"runs/[^/]+\.json",
    "set aside": r"(?:cells|samples)/[^/]+/[^/]+\.damaged|learned/[^/]+\.damaged",
    "lock": r"leases/[^/]+\.lock",
    "worker": r"workers/[0-9a-f]{32}\.json",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _KINDS.items()}


def kind_of(root: Path, path: Path) -> str:
    """The kind of a file below a store; "" for one that no version of robustvit writes there."""
    place = path.relative_to(root).as_posix()
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(place)), "")


def promised_digest(root: Path, path: Path) -> str:
    """The digest of its bytes that the name of a file has; "" where it has none."""
    found = _PATTERNS[kind_of(root, path)].fullmatch(path.relative_to(root).as_posix())
    return next(filter(None, found.groups()), "") if found else ""


def files_below(root: Path) -> Iterator[Path]:
    """What lies below a store but folders, in order; drafts of files, which are hidden, are left out."""
    for folder, inner, names in os.walk(root):
        inner.sort()
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))
