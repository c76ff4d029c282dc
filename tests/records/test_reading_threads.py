"""What reads Parquet starts no thread of Arrow's pools: one that is still at work when Python ends aborts the process, once in hundreds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import robustvit as rv
from robustvit.records.compacted.compaction import compact
from robustvit.records.store import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of a process in /proc")

READING = """
import os
import sys

import pyarrow.parquet
import robustvit as rv
from robustvit.results.published.agreement import all_references

def threads():
    return len(os.listdir("/proc/self/task"))

before = threads()
records = rv.load_records(sys.argv[1])
records.to_pandas()
cell = records.questions.query("scenario == 'pgd'")["cell"].iloc[0]
kept = rv.load_kept(f"{sys.argv[1]}#{cell}")
kept.images(kept.ids)
rv.write_report(sys.argv[1], sys.argv[2])
all_references()
ours = threads() - before
rows = pyarrow.parquet.read_table(next(__import__("pathlib").Path(sys.argv[1]).rglob("*.parquet"))).to_pandas()
print(ours, threads() - before)
"""


@pytest.mark.parametrize("packed", [False, True])
def test_reading_a_store_starts_no_thread(tmp_path: Path, packed: bool) -> None:
    suite = tmp_path / "s.yaml"
    suite.write_text("name: s\ntitle: S\ndata: digits\nscenarios: [clean, {pgd: {eps: 4/255, steps: 1}}]\nmetrics: [top1]\n")
    rv.run(suite, ["demo"], store=tmp_path / "store", settings=rv.Settings(limit=4, keep=("adversarial",)))
    if packed:
        compact(Store(tmp_path / "store"))
    done = subprocess.run(
        [sys.executable, "-c", READING, str(tmp_path / "store"), str(tmp_path / "r.html")], capture_output=True, text=True, check=True
    )
    ours, of_arrow = map(int, done.stdout.split())
    assert ours == 0
    assert of_arrow > 0
