"""Scoring a store of many rows, beside polars and DuckDB on the same files.

    python benchmarks/scoring.py [--models 7] [--samples 2000] [--repeats 3] [--keep FOLDER] [--tiny]

The store is that of suite imagenet-c, 76 cells a model, answers drawn at random; a million rows by default. Ours is the whole leaderboard:
every metric of the suite with its interval. The peers compute the means of top-1, top-5, NLL and Brier score of every cell from the same
Parquet files and nothing else: the floor of whoever reads them. Seconds are of CPU time, one thread each; medians over `--repeats` turns,
which alternate. `same` says whether our values are the peers' to 1e-9.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import pandas as pd

from robustvit.records import records
from robustvit.records.manifest import Manifest
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.sample_order import SHARD
from robustvit.spec.spec import Spec, canonical, digest
from robustvit.spec.suite_file import load_suite

CLASSES = 1000


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


def write(place: Path, models: int, samples: int) -> int:
    """Writes the store; returns its rows."""
    suite, store = load_suite("imagenet-c"), Store(place, create=True)
    (part,) = suite.parts
    rng, ids = np.random.default_rng(0), [f"val/n{i % CLASSES:08d}/ILSVRC2012_val_{i:08d}.JPEG" for i in range(samples)]
    labels = rng.integers(0, CLASSES, samples).astype(np.int32)
    requested: list[dict[str, Any]] = []
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
            made = answers(rng, ids, labels, 0.8 - 0.1 * (int(severity or 0)))
            for start in range(0, samples, SHARD):
                rows = records.table({key: value[start : start + SHARD] for key, value in made.items()})
                store.write(cell, start // SHARD, 0, rows, {"seconds": 1.5, "environment": "abc", "version": "0.1.0"})
            requested.append({
                "cell": cell, "weights": f"m{model}", "model": f"m{model}", "data": "imagenet", "transforms": "", "scenario": name,
                "severity": severity, "params": "", "seed": 0, "precision": "float32", "view": "224x224, center, bicubic",
                "model_view": "224x224, center, bicubic", "base": "imagenet", "data_fingerprint": "f", "kind": "corruption", "storage": "",
                "asked": samples, "source": "on-the-fly", "link": 0, "links": 0, "attack": "",
            })  # fmt: skip
    cards = {f"m{model}": {"weights_kind": "given", "fingerprint": f"m{model}", "parameters": 5_700_000} for model in range(models)}
    about = {"label": "imagenet", "name": "imagenet", "base": "imagenet", "classes": CLASSES, "n": samples, "asked": samples}
    body = {"suite": {"name": suite.name, "version": 1, "metrics": [canonical(one) for one in suite.metrics]}, "models": cards}
    shared = {"data": {"f": about}, "command": "robustvit run", "started": "2026-01-01T00:00:00+00:00", "cells": requested}
    store.write_manifest(Manifest.of_json({"id": digest([models, samples]), **body, **shared}))
    return len(requested) * samples


def with_polars(place: Path) -> pd.DataFrame:
    """Means of every cell, by polars."""
    import polars as pl

    right = (pl.col("pred") == pl.col("label")).mean() * 100
    five = (pl.col("rank") <= 5).mean() * 100
    means = {"top1": right, "top5": five, "nll": pl.col("nll").cast(pl.Float64).mean(), "brier": pl.col("brier").cast(pl.Float64).mean()}
    rows = pl.scan_parquet(f"{place}/cells/*/0*.parquet", include_file_paths="file", missing_columns="insert")
    cell = pl.col("file").str.split("/").list.get(-2).alias("cell")
    return rows.group_by(cell).agg(**means).collect().to_pandas().set_index("cell")


def with_duckdb(place: Path) -> pd.DataFrame:
    """Means of every cell, by DuckDB."""
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    return connection.sql(
        "select parse_path(filename)[-2] as cell, 100 * avg((pred = label)::int) as top1, 100 * avg((rank <= 5)::int) as top5, "
        f"avg(nll::double) as nll, avg(brier::double) as brier from read_parquet('{place}/cells/*/0*.parquet', filename=true) group by cell"
    ).df().set_index("cell")  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def agrees(board: pd.DataFrame, means: pd.DataFrame) -> bool:
    """Whether the board's values are those means."""
    own = board[board["metric"].isin(means.columns) & (board["cell"] != "")].pivot(index="cell", columns="metric", values="value")
    return bool(np.allclose(own, means.loc[own.index, own.columns], rtol=1e-9, atol=1e-9)) and len(own) == len(means)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=7)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder in which the store is kept, and found again")
    parser.add_argument("--tiny", action="store_true", help="one model, 50 samples: seconds")
    chosen = parser.parse_args()
    models, samples, repeats = (1, 50, 1) if chosen.tiny else (chosen.models, chosen.samples, chosen.repeats)
    with tempfile.TemporaryDirectory() as lost:
        place = chosen.keep or Path(lost) / "store"
        rows = models * samples * 76 if Store.is_at(place) else write(place, models, samples)
        size = sum(path.stat().st_size for path in place.rglob("*.parquet"))
        print(f"{rows:,} rows in {sum(1 for _ in place.rglob('0*.parquet')):,} files, {size / rows:.1f} bytes a row\n")
        works = {"ours": lambda: leaderboard(place), "polars": lambda: with_polars(place), "DuckDB": lambda: with_duckdb(place)}
        turns = [{name: seconds(work) for name, work in works.items()} for _ in range(repeats)]
        board = leaderboard(place)
        same = {"ours": "", "polars": agrees(board, with_polars(place)), "DuckDB": agrees(board, with_duckdb(place))}
        print("| | CPU s | ours / it | values |\n|---|--:|--:|---|")
        for name in works:
            median = statistics.median(turn[name] for turn in turns)
            ratio = statistics.median(turn["ours"] / turn[name] for turn in turns)
            print(
                f"| {name} | {median:.2f} | {ratio:.2f} | {'' if same[name] == '' else 'same' if same[name] else 'DIFFERENT'} |", flush=True
            )


if __name__ == "__main__":
    main()
