"""The page about training names every defense."""

from __future__ import annotations

import re
from pathlib import Path

from robustvit.spec.registry import entries, lookup

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_every_defense_is_in_the_table_at_its_family() -> None:
    rows = re.findall(r"^\| ([a-z]+) \| (`.*) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = {name: family for family, text in rows for name in re.findall(r"`([a-z_0-9]+)`", text)}
    known = {name: lookup("defense", name).family for name in entries("defense")}
    known.pop("plain")
    assert told == known
