"""Laws of compacted stores: every reader finds what it found, and runs go on from them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import robustvit as rv
from robustvit.evaluation import run as runner
from robustvit.evaluation.images.kept_images import load_kept
from robustvit.records.compacted.compaction import compact
from robustvit.records.listing import list_store
from robustvit.records.records import read
from robustvit.records.run_progress import newest_run
from robustvit.records.store import Store
from robustvit.records.upkeep.verification import verify
from robustvit.results import comparison
from robustvit.spec.suite import Suite
from robustvit.spec.suite_file import read_suite

SMALL = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=1,num_heads=2"
TEXT = """
name: law
title: A bit of everything
data: digits
scenarios:
  - clean
  - fog: {severity: 3}
  - pgd: {eps: 4/255, steps: 2}
  - columns: {width: 8}
metrics: [top1, nll]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    folder = tmp_path_factory.mktemp("suite")
    (folder / "law.yaml").write_text(TEXT)
    return read_suite(folder / "law.yaml", "law.yaml")


def run(suite: Suite, store: Path, limit: int) -> runner.RunSummary:
    return runner.run(suite, [SMALL], store=store, limit=limit, keep=("adversarial", "logits"))


def tables(path: Path) -> dict[str, pd.DataFrame]:
    store = Store(path)
    return {cell: read(store.files(cell)) for cell in store.cells()}


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    assert one.keys() == other.keys()
    for cell, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[cell], check_exact=True)


@pytest.mark.slow
def test_what_reads_a_store_reads_a_compacted_one_and_a_run_goes_on(suite: Suite, tmp_path: Path) -> None:
    place = tmp_path / "s"
    run(suite, place, 5)
    before, board, page = tables(place), rv.leaderboard(place).to_csv(), rv.write_report(place, tmp_path / "a.html").read_bytes()
    progress = newest_run(Store(place), list_store(place), Store(place).manifests())
    kept = images(place)
    assert {one.state for one in compact(Store(place))} == {"compacted"}
    same(tables(place), before)
    assert rv.leaderboard(place).to_csv() == board
    assert rv.write_report(place, tmp_path / "b.html").read_bytes() == page
    assert newest_run(Store(place), list_store(place), Store(place).manifests()) == progress
    assert images(place) == kept
    again = run(suite, place, 5)
    assert (again.computed, again.failed, again.repaired) == (0, {}, [])
    assert verify(Store(place)).faults == []

    longer = run(suite, place, 8)
    assert (longer.failed, longer.computed) == ({}, 3 * len(before))
    run(suite, tmp_path / "whole", 8)
    same(tables(place), tables(tmp_path / "whole"))
    assert {one.state for one in compact(Store(place))} == {"compacted"}
    same(tables(place), tables(tmp_path / "whole"))
    assert run(suite, place, 8).computed == 0
    assert comparison.diff(place, tmp_path / "whole")["equal"].tolist() == [True] * len(before)


def images(place: Path) -> list[bytes]:
    found = []
    for question in Store(place).questions():
        if question.kind == "attack":
            kept = load_kept(f"{place}#{question.cell}")
            found.append(kept.images(kept.ids).adversarial.tobytes())
    return found
