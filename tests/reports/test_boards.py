"""The committed boards: what boards.yaml requests, that the bytes are those of the Records, and that Records come out the same again."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

import robustvit as rv
from robustvit.errors import StoreDamaged
from robustvit.records.store import Store
from robustvit.records.upkeep.verification import verify
from robustvit.results.submission.entry import submission_of, write_submission
from robustvit.spec.suite_file import suite_files

ROOT = Path(__file__).resolve().parents[2]
SLICE = {"suite": "quick", "model": "demo/pgd-at", "limit": 8}
EQUAL = 0.99  # of the rows of the slice
SMALL = "channel-drop"  # a suite of few cells


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The scripts of reports/ as modules."""
    sys.path.insert(0, str(ROOT / "reports"))
    try:
        yield {name: importlib.import_module(name) for name in ("board_plan", "board_figures", "records", "regenerate")}
    finally:
        sys.path.remove(str(ROOT / "reports"))


PLAN = """
boards:
  mine:
    store: stored
    folder: tables
    entries: entries
    data: digits
    limit: 8
    models: [demo/plain, "demo/plain+quantize(bits=4)"]
    others: [calibration]
    suites:
      calibration:
      transfer-zoo: {limit: 4}
      downstream-transfer: {models: [demo/trades], surrogates: [demo/plain], limit: 4, data: "digits?part=5/5"}
not_here: {linf: takes long}
"""


@pytest.fixture
def plan(scripts: dict[str, ModuleType], tmp_path: Path) -> Any:
    (tmp_path / "boards.yaml").write_text(PLAN)
    (tmp_path / "zoo.json").write_text('{"demo/plain": {}, "demo/trades": {}}')
    return scripts["board_plan"].read_plan(tmp_path / "boards.yaml", tmp_path / "zoo.json")["mine"]


def test_a_plan_is_a_command_for_each_model_and_suite(plan: Any) -> None:
    commands = [command for run in plan.runs for _, command in run.commands()]
    assert commands == [
        "robustvit run --model demo/plain --suite calibration --data digits --limit 8",
        "robustvit run --model 'demo/plain+quantize(bits=4)' --suite calibration --data digits --limit 8",
        "robustvit run --model demo/plain --model 'demo/plain+quantize(bits=4)' --suite transfer-zoo --data digits --limit 4",
        "robustvit run --model demo/trades --suite downstream-transfer --data 'digits?part=5/5' --surrogate demo/plain --limit 4",
        "robustvit run --model demo/trades --suite calibration --data digits --limit 8",
    ]
    assert plan.suites == ("calibration", "transfer-zoo", "downstream-transfer")


def test_every_suite_is_on_a_board_or_has_a_reason(scripts: dict[str, ModuleType]) -> None:
    left_out = scripts["board_plan"].not_run()
    assert [name for name, why in left_out.items() if not why] == []
    assert {suite for one in scripts["board_plan"].read_plan().values() for suite in one.suites} | set(left_out) == set(suite_files())


def test_suites_are_chosen_by_patterns(scripts: dict[str, ModuleType], plan: Any) -> None:
    chosen = scripts["board_plan"].chosen_suites
    assert chosen([plan], []) == [(plan, [])]
    assert chosen([plan], ["mine/cal*", "mine/transfer-zoo"]) == [(plan, ["calibration", "transfer-zoo"])]
    with pytest.raises(SystemExit, match=r"--only mine/quick fits no suite of boards\.yaml; there are mine/calibration, "):
        chosen([plan], ["mine/quick"])


def test_records_are_computed_once_and_boards_follow_from_them(scripts: dict[str, ModuleType], plan: Any, capsys: Any) -> None:
    for _ in range(2):
        for run in plan.runs[:2]:
            assert scripts["records"].compute(plan, run) == []
        scripts["records"].tidy(plan)
        capsys.readouterr()
        files = {path: path.read_bytes() for path in plan.store.rglob("*") if path.is_file()}
        tables = {path: path.read_bytes() for path in board_files(scripts, plan)}
    assert capsys.readouterr().out == ""
    assert not list(plan.store.glob("**/gallery*"))
    assert {path: path.read_bytes() for path in files} == files
    assert {path: path.read_bytes() for path in board_files(scripts, plan)} == tables
    assert not verify(Store(plan.store)).faults


def board_files(scripts: dict[str, ModuleType], plan: Any) -> list[Path]:
    plan.folder.mkdir(exist_ok=True)
    return list(scripts["regenerate"].suite_board(plan, "calibration", plan.folder))


def test_entries_are_rows_of_a_board_and_are_made_again_where_their_records_are_there(
    scripts: dict[str, ModuleType], plan: Any, tmp_path: Path
) -> None:
    scripts["records"].compute(plan, plan.runs[0])
    board_files(scripts, plan)
    entry = plan.entries / "theirs"
    write_submission(submission_of(plan.store), entry)
    shutil.copytree(plan.store, entry / "store")
    board_files(scripts, plan)
    table = pd.read_csv(plan.folder / "calibration.csv")
    assert list(table["model"].unique()) == ["demo/plain", "demo/plain (entry theirs)"]
    assert "demo/plain (entry theirs)" in (plan.folder / "calibration.md").read_text()
    page = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps(page | {"cells": 3}))
    with pytest.raises(StoreDamaged, match=r"entry\.json is not what was written there"):
        board_files(scripts, plan)


def test_a_committed_board_that_differs_is_named_with_its_line(scripts: dict[str, ModuleType], plan: Any, monkeypatch: Any) -> None:
    regenerate = scripts["regenerate"]
    monkeypatch.setattr(regenerate, "HERE", plan.folder.parent)
    scripts["records"].compute(plan, plan.runs[0])
    made = next(path for path in board_files(scripts, plan) if path.name == "calibration.csv")
    assert regenerate.different(plan, ["calibration"]) == []
    made.write_bytes(made.read_bytes().replace(b"top1,100,", b"top1,99,"))
    assert regenerate.different(plan, ["calibration"]) == ["tables/calibration.csv, line 2"]
    (plan.folder / "gone.svg").write_text("")
    assert regenerate.stale(plan, {path.name for path in board_files(scripts, plan)}) == [plan.folder / "gone.svg"]


def test_a_committed_board_is_that_of_its_records(scripts: dict[str, ModuleType]) -> None:
    """`nox -s board` compares all of them; here one."""
    assert scripts["regenerate"].different(scripts["board_plan"].read_plan()["zoo"], [SMALL]) == []


def test_committed_records_are_whole_and_few(scripts: dict[str, ModuleType]) -> None:
    for plan in scripts["board_plan"].read_plan().values():
        sizes = [path.stat().st_size for path in plan.store.rglob("*") if path.is_file()]
        assert sum(sizes) < 30e6
        store = Store(plan.store)
        requested = {one.cell: one for one in store.questions() if not one.undefined}
        names = {path.name.partition("-")[0] for cell in requested for path in (store.path / "cells" / cell).glob("*.parquet")}
        assert names <= {"rows", "lists"} | ({"gallery"} if plan.page else set())


def verdicts(store: Path, suite: str, model: str) -> dict[tuple[str, str], int]:
    """The prediction of every sample of every cell that has one, by cell and sample."""
    found = {}
    for question, rows in rv.load_records(store, suite=suite, models=[model]):
        if "pred" in rows:
            found |= {(question.cell, sample): int(pred) for sample, pred in zip(rows["sample"], rows["pred"], strict=True)}
    return found


def test_records_made_again_have_the_verdicts_of_the_committed_ones(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    """On another machine the last digits may be others; a slice of the rows, made here, is compared."""
    suite, model, limit = SLICE["suite"], SLICE["model"], SLICE["limit"]
    rv.run(suite, models=[model], data="digits", limit=limit, store=tmp_path / "again", progress=False, device="cpu")
    made = verdicts(tmp_path / "again", suite, model)
    known = verdicts(scripts["board_plan"].read_plan()["zoo"].store, suite, model)
    assert len(made) == 23 * limit
    assert set(made) <= set(known)
    equal = sum(known[key] == pred for key, pred in made.items()) / len(made)
    assert equal >= EQUAL, f"{equal:.2%} of {len(made)} rows have the verdict of the committed ones"
