"""Corruptions whose lengths are in pixels, on images so small that little of them is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robustvit.spec.registry import entries

_OUTSIDE = "half of an image or more lies outside"


def outside(description: Mapping[str, Any]) -> str:
    """Why the scores of a cell are marked, "" where they are not: by a corruption's own word, half of an image or more lies outside.

    description: the cell's canonical question, empty where the store does not hold it.
    """
    if "scenario" not in description:
        return ""
    side = min(description["view"]["size"])
    found = [f"{name} {severity}" for name, severity, least in _least_sides(description["scenario"]) if side < least]
    return f"{_OUTSIDE} at {side} px, since lengths are those of 224 px: {', '.join(found)}" if found else ""


def is_of_size(mark: str) -> bool:
    """Whether all that marks a number is `outside`, which it is for every model with images of its size."""
    return all(text.startswith(_OUTSIDE) for text in mark.split("; "))


def _least_sides(node: Any) -> Iterator[tuple[str, int, int]]:
    """Of each corruption in a canonical Spec that has such sizes: its name, its severity and the least side."""
    if not isinstance(node, Mapping) or "params" not in node:
        return
    entry = entries("corruption").get(node["name"]) if node.get("kind") == "corruption" else None
    if entry and entry.smallest and node["version"] == entry.version:
        severity = int(node["params"][entry.severity])
        yield entry.name, severity, entry.smallest[severity - 1]
    for value in node["params"].values():
        yield from _least_sides(value)
