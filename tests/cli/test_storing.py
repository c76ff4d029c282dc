"""store compact, verify, merge, gc, stats, export on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from robustvit.cli.app import app
from robustvit.cli.configuration import with_configured
from robustvit.errors import StoreError
from robustvit.records.store import Store

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


@pytest.fixture
def store(make_store: Make, answered: Columns) -> Store:
    return make_store({("m", "fog", "1"): answered([True, False] * 20), ("n", "fog", "1"): answered([True] * 40)})


def said(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["store", *words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def test_compact_tells_what_it_did_and_does_it_once(store: Store) -> None:
    text = said("compact", "--store", str(store.path), "-m", "m")
    assert "1 cells compacted, 0 were, 0 stay as they are." in text
    assert "1 files → 2;" in text
    text = said("compact", "--store", str(store.path))
    assert "1 cells compacted, 1 were, 0 stay" in text
    (one, other) = json.loads(said("compact", "--store", str(store.path), "--json"))
    assert (one["state"], other["state"], one["rows"]) == ("already", "already", 40)
    assert said("compact", "--store", str(store.path), "-q") == ""


def test_what_is_damaged_is_told_with_exit_code_1(store: Store, tmp_path: Path) -> None:
    (file,) = store.files(store.cells()[0])
    file.path.write_bytes(file.path.read_bytes()[:-1])
    assert f"damaged: {store.cells()[0]}: {file.path} is not whole" in said("compact", "--store", str(store.path), code=1)
    lines = said("verify", "--store", str(store.path), code=1).splitlines()
    place = file.path.relative_to(store.path)
    assert lines[0].startswith(f"damaged: {place}: is not whole")
    assert lines[1].endswith("2 cells of " + str(store.path) + ": 1 fault.")
    said("verify", "--store", str(store.path), "-o", str(tmp_path / "found.json"), code=1)
    (fault,) = json.loads((tmp_path / "found.json").read_text())["faults"]
    assert (fault["place"], fault["kind"]) == (str(place), "damaged")


def test_a_lost_table_of_samples_is_one_line(store: Store) -> None:
    said("compact", "--store", str(store.path))
    (table,) = (store.path / "ids").iterdir()
    table.unlink()
    lines = said("compact", "--store", str(store.path), code=1).splitlines()
    assert lines[0].startswith(f"damaged: {store.questions()[0].cell} and 1 more cell: {table} is gone")
    assert lines[1].startswith("0 cells compacted")
    (fault,) = json.loads(said("verify", "--store", str(store.path), "--json", code=1))["faults"]
    assert (fault["place"], len(fault["files"])) == (f"ids/{table.name}", 2)


def test_sizes_of_compact_are_those_of_stats(store: Store) -> None:
    before = re.search(r"files: (.*), (.*) bytes a row,", said("stats", "--store", str(store.path)))
    told = re.search(r"→ 4; (.*) → (.*), (.*) → (.*) bytes a row", said("compact", "--store", str(store.path)))
    after = re.search(r"files: (.*), (.*) bytes a row,", said("stats", "--store", str(store.path)))
    assert before
    assert told
    assert after
    assert (told[1], told[3]) == before.groups()
    assert (told[2], told[4]) == after.groups()


def test_rows_that_are_there_in_other_files_are_counted_apart(store: Store, tmp_path: Path) -> None:
    said("merge", str(store.path), "--into", str(tmp_path / "both"))
    said("compact", "--store", str(store.path))
    text = said("merge", str(store.path), "--into", str(tmp_path / "both"))
    assert "0 cells, 0 files and 0 bytes came" in text
    assert "; 5 hold rows that are there in other files." in text


def test_merge_and_verify(store: Store, make_store: Make, answered: Columns) -> None:
    other = make_store({("o", "fog", "1"): answered([True])}, name="other")
    into = store.path.parent / "both"
    assert "3 cells," in said("merge", str(store.path), str(other.path), "--into", str(into))
    assert json.loads(said("merge", str(store.path), "--into", str(into), "--json"))["cells"] == 0
    assert "3 cells of" in said("verify", "--store", str(into))
    clash = make_store({("m", "fog", "1"): answered([False, True] * 20)}, name="clash")
    with pytest.raises(StoreError, match="1 conflicts, and nothing is merged"):
        said("merge", str(store.path), str(clash.path), "--into", str(into), code=1)


def test_gc_tells_bytes_and_a_dry_run_removes_nothing(store: Store) -> None:
    path = store.path / "learned" / f"{'e' * 20}-{'f' * 20}.safetensors"
    path.parent.mkdir()
    path.write_text("1234")
    assert "1 files, 4 bytes, would be removed." in said("gc", "--store", str(store.path), "--dry-run")
    assert path.exists()
    found = json.loads(said("gc", "--store", str(store.path), "--json"))
    assert (found["removed"], found["bytes"], found["files"][0]["size"]) == (True, 4, 4)
    assert not path.exists()


def test_gc_takes_images_that_attacks_left_where_it_is_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: s\ntitle: S\ndata: digits\nscenarios: [{fgsm: {eps: 8/255}}]\nmetrics: [robust_accuracy]\n")
    words = ["--suite", str(path), "--model", "demo", "--store", str(tmp_path / "r"), "--limit", "4", "-q", "--keep", "adversarial"]
    assert CliRunner().invoke(app, ["run", *words]).exit_code == 0
    assert "0 files, 0 bytes, were removed." in said("gc", "--store", str(tmp_path / "r"))
    assert "a run that has use for them makes them anew" in said("gc", "--store", str(tmp_path / "r"), "--images", "--dry-run")
    assert "1 files, " in said("gc", "--store", str(tmp_path / "r"), "--images")
    assert "no faults" in said("verify", "--store", str(tmp_path / "r"))
    assert CliRunner().invoke(app, ["run", *words]).exit_code == 0
    assert len(list((tmp_path / "r").rglob("cells/*/*.safetensors"))) == 1


def test_stats_have_every_column(store: Store) -> None:
    text = said("stats", "--store", str(store.path))
    assert "80 rows of 2 cells (0 compacted) in 2 files" in text
    assert "confidence" in text
    found = json.loads(said("stats", "--store", str(store.path), "--json"))
    assert found["rows"] == found["columns"]["nll"]["rows"] == 80
    assert found["size"] == sum(one["bytes"] for one in found["columns"].values())


def test_export_tells_where_the_data_set_is(store: Store, tmp_path: Path) -> None:
    found = json.loads(said("export", "--store", str(store.path), "--to", str(tmp_path / "made"), "--json"))
    assert found == {"format": "hf", "path": str(tmp_path / "made")}
    assert (tmp_path / "made" / "README.md").exists()


def test_options_of_commands_of_two_words_come_from_files_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    Path("robustvit.toml").write_text("[store.compact]\nsuite = 'mine'\n[store.gc]\ndry-run = true\n")
    assert with_configured(["store", "compact"], commands) == ["store", "compact", "--suite", "mine"]
    assert with_configured(["store", "gc", "--store", "x"], commands) == ["store", "gc", "--dry-run", "--store", "x"]
    monkeypatch.setenv("ROBUSTVIT_STORE_COMPACT_SUITE", "other")
    assert with_configured(["store", "compact"], commands) == ["store", "compact", "--suite", "other"]
    monkeypatch.setenv("ROBUSTVIT_STORE", "here")
    assert with_configured(["store", "verify"], commands) == ["store", "verify", "--store", "here"]
    assert with_configured(["store"], commands) == ["store"]
    assert with_configured(["store", "absurd"], commands) == ["store", "absurd"]
