"""The table of data sets that can be fetched says what their plug-ins declare."""

from pathlib import Path

from robustvit.cli.commands.fetching import size_of
from robustvit.evaluation.downloads.declared import Download, downloads_of
from robustvit.spec import registry

PAGE = Path(__file__).resolve().parents[2] / "docs/downloads.md"


def rows() -> list[str]:
    return [row(entry.name) for entry in registry.entries("data").values() if entry.downloads]


def row(name: str) -> str:
    entry = registry.lookup("data", name)
    files = downloads_of(entry)
    many = "the files of its record" if files[0].record else "its repository" if files[0].repository else str(len(files))
    sizes = [one.size for one in files]
    checks = sorted({check(one) for one in files})
    return f"| `{name}` | {many} | {'' if None in sizes else size_of(sizes)} | {', '.join(checks)} | {entry.licence} |"


def check(one: Download) -> str:
    if one.record or one.repository:
        return "md5 of the record" if one.record else "the hub's client"
    return one.checksum[0] if one.checksum else "size; no checksum is published" if one.size else "no checksum is published"


def test_the_table_of_data_sets_that_can_be_fetched_is_that_of_the_registry() -> None:
    written = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert written == rows()
