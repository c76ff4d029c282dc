"""A store none of whose manifests can be read: said, never shown as a store without cells."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import robustvit as rv
from robustvit.errors import StoreDamaged
from robustvit.records.store import Store

Make = Callable[..., Store]


def damage(store: Store, change: Callable[[bytes], bytes]) -> list[Path]:
    files = sorted((store.path / "runs").glob("*.json"))
    for path in files:
        path.write_bytes(change(path.read_bytes()))
    return files


@pytest.fixture
def made(make_store: Make, answered: Callable[..., Any]) -> Store:
    make_store({("m", "clean", ""): answered([True, False])}, suite="one")
    return make_store({("m", "fog", "1"): answered([True, False])}, suite="two", started="2026-02-01")


@pytest.mark.parametrize("reader", [rv.leaderboard, rv.load_records, lambda path: rv.compare(path, "m", "n")])
def test_readers_name_every_damaged_manifest_and_the_command_that_makes_it_again(made: Store, reader: Callable[[Path], object]) -> None:
    files = damage(made, lambda content: content.replace(b'"one"', b'"oen"').replace(b'"two"', b'"tow"'))
    with pytest.raises(StoreDamaged, match=r"all manifests .* are damaged \(2\)") as raised:
        reader(made.path)
    assert all(path.name in str(raised.value) for path in files)
    assert "The rows are kept apart and stay (cells: 2)" in str(raised.value)
    assert str(raised.value).endswith(":\n  robustvit run --model demo")


@pytest.mark.parametrize("written", ["results", "'my results'"])
def test_the_command_is_told_for_the_store_where_it_was_found(made: Store, written: str) -> None:
    damage(made, lambda _: f'{{"command": "robustvit run --model demo --store {written} --allow-code"}}'.encode())
    with pytest.raises(StoreDamaged) as raised:
        rv.leaderboard(made.path)
    assert str(raised.value).endswith(f":\n  robustvit run --model demo --store {made.path} --allow-code")


@pytest.mark.parametrize("content", [b"", b"\xff", b'{"command": "robustvit run \\u001b[2J"}', b'{"command": "rm -rf /"}'])
def test_a_command_that_cannot_be_read_or_is_not_ours_is_not_repeated(made: Store, content: bytes) -> None:
    damage(made, lambda _: content)
    with pytest.raises(StoreDamaged) as raised:
        rv.leaderboard(made.path)
    assert str(raised.value).endswith(f":\n  robustvit run --suite SUITE --model MODEL --store {made.path}")


def test_one_whole_manifest_is_enough_for_its_own_cells(made: Store) -> None:
    files = damage(made, lambda content: content)
    files[0].write_bytes(b"{")
    assert len(rv.leaderboard(made.path)) > 0


def test_a_store_without_manifests_has_an_empty_table(tmp_path: Path) -> None:
    assert len(rv.leaderboard(Store(tmp_path / "s", create=True))) == 0


def test_the_same_run_again_computes_nothing_and_gives_the_table_back(tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("name: small\ntitle: Small\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n")
    rv.run(suite, ["demo"], store=tmp_path / "s", limit=20)
    before = rv.leaderboard(tmp_path / "s")
    damage(Store(tmp_path / "s"), lambda content: content[:-2])
    with pytest.raises(StoreDamaged, match=r"robustvit run --model demo --suite small --limit 20 --store"):
        rv.leaderboard(tmp_path / "s")
    assert rv.run(suite, ["demo"], store=tmp_path / "s", limit=20).computed == 0
    assert rv.leaderboard(tmp_path / "s").equals(before)
