"""Scoring a store of many rows, beside polars and DuckDB on the same files.

    python benchmarks/scoring.py [--models 7] [--samples 2000] [--pieces] [--repeats 3] [--keep FOLDER] [--growth FOLDER] [--tiny]

The store is that of suite imagenet-c, 76 cells a model, answers drawn at random; a million rows by default, compacted, or with `--pieces`
in the files of 512 rows that runs write. Ours is the whole leaderboard: every metric of the suite with its interval, from rows, and again
from the scores that were kept. The peers compute the means of top-1, top-5, NLL and Brier score of every cell from the same Parquet files
and nothing else: the floor of whoever reads them. Seconds are of CPU time, one thread each; medians over `--repeats` turns, which
alternate. `same` says whether our values are the peers' to 1e-9.

`--growth` scores and draws stores of 10^6, 10^7 and 10^8 rows (2 GB in the folder, where they are found again), a process each, with all
cores: top-1, top-5, NLL, Brier score, corruption errors and mCE with intervals, and the HTML report; wall seconds and peak memory. Then a
board of 100 models, and of one more.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import pandas as pd

from robustvit.records import records
from robustvit.records.compacted.compacted_file import PieceNotes
from robustvit.records.compacted.compaction import Compaction
from robustvit.records.manifest import Manifest
from robustvit.records.store import Store
from robustvit.records.user_cache import cache_folder
from robustvit.report.page import write_report
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.sample_order import SHARD
from robustvit.spec.spec import Spec, canonical, digest
from robustvit.spec.suite_file import load_suite

CLASSES = 1000
SIZES = ((1, 13_158), (3, 43_860), (26, 50_000))  # models and samples: 10^6, 10^7 and 10^8 rows
LISTED = ("top1", "top5", "nll", "brier", "corruption_error", "ce_alexnet", "mce_alexnet", "mean_err_15")


def answers(rng: np.random.Generator, ids: list[str], labels: np.ndarray, share: float) -> dict[str, Any]:
    """Columns of one cell: a share of the answers is right."""
    n = len(ids)
    right, confidence = rng.random(n) < share, rng.beta(4, 2, n)
    pred = np.where(right, labels, (labels + rng.integers(1, CLASSES, n)) % CLASSES)
    rank = np.where(right, 1, rng.integers(2, 20, n))
    top5 = (pred[:, None] + np.arange(5)) % CLASSES
    shown = np.flatnonzero(rank <= 5)
    top5[shown, rank[shown] - 1] = labels[shown]
    probability = np.where(right, confidence, (1 - confidence) * rng.random(n))
    return {
        "sample": ids, "label": labels, "pred": pred, "confidence": confidence, "nll": -np.log(np.maximum(probability, 1e-12)),
        "margin": np.where(right, 1.0, -1.0) * rng.exponential(2.0, n), "brier": (1 - probability) ** 2,
        "rank": rank, "top5": top5,
    }  # fmt: skip


def write(place: Path, models: int, samples: int, *, compacted: bool, metrics: Sequence[str] = ()) -> int:
    """Writes the store; returns its rows."""
    suite, store = load_suite("imagenet-c"), Store(place, create=True)
    (part,) = suite.parts
    rng, ids = np.random.default_rng(0), [f"val/n{i % CLASSES:08d}/ILSVRC2012_val_{i:08d}.JPEG" for i in range(samples)]
    labels = rng.integers(0, CLASSES, samples).astype(np.int32)
    requested: list[dict[str, Any]] = []
    compaction = Compaction(store)
    for model in range(models):
        for spec in part.scenarios:
            name, severity = spec.name, str(spec.get("severity") or "")
            description = {
                "weights": f"m{model}", "view": {"size": [224, 224], "resize": 256, "crop": "center", "interpolation": "bicubic"},
                "data": canonical(Spec("imagenet")), "data_fingerprint": "f", "precision": "float32", "scenario": canonical(spec),
                "transforms": [],
            }  # fmt: skip
            cell = digest(description)
            store.declare(cell, description)
            rows = records.table(answers(rng, ids, labels, 0.8 - 0.1 * (int(severity or 0))))
            notes = {"seconds": 1.5, "environment": "abc", "version": "0.1.0"}
            pieces = [PieceNotes(start // SHARD, 0, min(SHARD, samples - start), notes) for start in range(0, samples, SHARD)]
            if compacted:
                compaction.write(cell, rows, pieces)
            for piece in [] if compacted else pieces:
                store.write(cell, piece.shard, 0, rows.slice(piece.shard * SHARD, piece.stop), notes)
            requested.append({
                "cell": cell, "weights": f"m{model}", "model": f"m{model}", "data": "imagenet", "transforms": "", "scenario": name,
                "severity": severity, "params": "", "seed": 0, "precision": "float32", "view": "224x224, center, bicubic",
                "model_view": "224x224, center, bicubic", "base": "imagenet", "data_fingerprint": "f", "kind": "corruption", "storage": "",
                "asked": samples, "source": "on-the-fly", "link": 0, "links": 0, "attack": "",
            })  # fmt: skip
    cards = {f"m{model}": {"weights_kind": "given", "fingerprint": f"m{model}", "parameters": 5_700_000} for model in range(models)}
    about = {"label": "imagenet", "name": "imagenet", "base": "imagenet", "classes": CLASSES, "n": samples, "asked": samples}
    body = {
        "suite": {"name": suite.name, "version": 1, "metrics": list(metrics) or [canonical(one) for one in suite.metrics]},
        "models": cards,
    }
    shared = {"data": {"f": about}, "command": "robustvit run", "started": "2026-01-01T00:00:00+00:00", "cells": requested}
    store.write_manifest(Manifest.of_json({"id": digest([models, samples]), **body, **shared}))
    return len(requested) * samples


def with_polars(place: Path) -> pd.DataFrame:
    """Means of every cell, by polars."""
    import polars as pl

    right = (pl.col("pred") == pl.col("label")).mean() * 100
    five = (pl.col("rank") <= 5).mean() * 100
    means = {"top1": right, "top5": five, "nll": pl.col("nll").cast(pl.Float64).mean(), "brier": pl.col("brier").cast(pl.Float64).mean()}
    compacted = next(place.glob("ids/*.parquet"), None)
    names = "rows-*" if compacted else "0*"
    rows = pl.scan_parquet(f"{place}/cells/*/{names}.parquet", include_file_paths="file", missing_columns="insert")
    if compacted:
        labels = pl.scan_parquet(compacted).select("label").with_row_index("sample").with_columns(pl.col("sample").cast(pl.Int32))
        rows = rows.join(labels, on="sample")
    cell = pl.col("file").str.split("/").list.get(-2).alias("cell")
    return rows.group_by(cell).agg(**means).collect().to_pandas().set_index("cell")


def with_duckdb(place: Path) -> pd.DataFrame:
    """Means of every cell, by DuckDB."""
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    compacted = next(place.glob("ids/*.parquet"), None)
    names = "rows-*" if compacted else "0*"
    joined = f"join (select file_row_number as sample, label from read_parquet('{compacted}', file_row_number=true)) using (sample)"
    found: pd.DataFrame = connection.sql(
        "select parse_path(filename)[-2] as cell, 100 * avg((pred = label)::int) as top1, 100 * avg((rank <= 5)::int) as top5, "
        f"avg(nll::double) as nll, avg(brier::double) as brier from read_parquet('{place}/cells/*/{names}.parquet', filename=true) "
        f"{joined if compacted else ''} group by cell"
    ).df().set_index("cell")  # fmt: skip
    return found


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def agrees(board: pd.DataFrame, means: pd.DataFrame) -> bool:
    """Whether the board's values are those means."""
    own = board[board["metric"].isin(means.columns) & (board["cell"] != "")].pivot(index="cell", columns="metric", values="value")
    return bool(np.allclose(own, means.loc[own.index, own.columns], rtol=1e-9, atol=1e-9)) and len(own) == len(means)


def from_rows(place: Path) -> pd.DataFrame:
    """The leaderboard, whose scores nothing kept."""
    shutil.rmtree(cache_folder() / "scores", ignore_errors=True)
    return leaderboard(place)


def table(place: Path, repeats: int) -> None:
    """Prints our seconds beside the peers'."""
    works = {"ours, from rows": lambda: from_rows(place), "ours, kept": lambda: leaderboard(place),
             "polars, four means": lambda: with_polars(place), "DuckDB, four means": lambda: with_duckdb(place)}  # fmt: skip
    turns = [{name: seconds(work) for name, work in works.items()} for _ in range(repeats)]
    board = leaderboard(place)
    same = {name: agrees(board, work(place)) for name, work in (("polars, four means", with_polars), ("DuckDB, four means", with_duckdb))}
    print("| | CPU s | from rows / it | values |\n|---|--:|--:|---|")
    for name in works:
        median = statistics.median(turn[name] for turn in turns)
        ratio = statistics.median(turn["ours, from rows"] / turn[name] for turn in turns)
        print(f"| {name} | {median:.2f} | {ratio:.2f} | {'' if name not in same else 'same' if same[name] else 'DIFFERENT'} |", flush=True)


def one_size(place: Path) -> None:
    """Prints what a process takes that scores a store and draws its report: wall seconds, once more from kept scores, peak memory in MB."""
    moments = [time.perf_counter()]
    for _ in range(2):
        write_report(place, place.parent / "report.html")
        moments.append(time.perf_counter())
    first, again = np.diff(moments)
    print(f"{first:.1f} | {again:.1f} | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def growth(folder: Path) -> None:
    """Prints seconds and memory by the number of rows, then those of a board of 100 models and of one more."""
    print("| rows | cells | scored and drawn, s | again, s | peak, MB |\n|--:|--:|--:|--:|--:|", flush=True)
    for models, samples in SIZES:
        place = folder / f"{models}x{samples}"
        if not Store.is_at(place):
            write(place, models, samples, compacted=True, metrics=LISTED)
        shutil.rmtree(cache_folder() / "scores", ignore_errors=True)
        words = [sys.executable, __file__, "--one-size", str(place)]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        print(f"| {models * samples * 76:,} | {models * 76:,} | {told} |", flush=True)
    place = folder / "101x64"
    if not Store.is_at(place):
        write(place, 101, 64, compacted=True)
    began = time.perf_counter()
    leaderboard(place, models=[f"m{number}" for number in range(100)])
    first = time.perf_counter() - began
    rows = len(leaderboard(place))
    print(f"\n100 models: {first:.1f} s; one more: {time.perf_counter() - began - first:.1f} s, {rows:,} numbers")


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=7)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--pieces", action="store_true", help="in files of 512 rows, as runs write them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder in which the store is kept, and found again")
    parser.add_argument("--growth", type=Path, help="a folder for stores of up to 10^8 rows")
    parser.add_argument("--one-size", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help="one model, 50 samples: seconds")
    chosen = parser.parse_args()
    if chosen.one_size:
        one_size(chosen.one_size)
        return
    models, samples, repeats = (1, 50, 1) if chosen.tiny else (chosen.models, chosen.samples, chosen.repeats)
    with tempfile.TemporaryDirectory() as lost:
        os.environ["ROBUSTVIT_CACHE"] = str(Path(lost) / "cache")
        if chosen.growth:
            growth(chosen.growth)
            return
        place = chosen.keep or Path(lost) / "store"
        rows = models * samples * 76 if Store.is_at(place) else write(place, models, samples, compacted=not chosen.pieces)
        files = list(place.rglob("*.parquet"))
        size = sum(path.stat().st_size for path in files)
        judged = sum(path.stat().st_size for path in files if not path.name.startswith("lists"))
        print(f"{rows:,} rows in {len(files):,} files, {size / rows:.1f} bytes a row, {judged / rows:.1f} without lists\n")
        table(place, repeats)


if __name__ == "__main__":
    main()
