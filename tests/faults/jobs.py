"""Command lines that write files, what each must leave behind, and whether what lies in a folder is that."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from robustvit.errors import RobustvitError
from robustvit.records.records import cover, read
from robustvit.records.sample_digests import SampleDigests
from robustvit.records.store import Store

MODEL = "vit_tiny_patch16_224?weights=random&num_classes=2&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=1,num_heads=2"
SUITE = """
name: faults
title: Every kind of cell and of file
data: folder
scenarios:
  - clean
  - fog: {severity: 3}
  - pgd: {eps: 4/255, steps: 2}
  - uap: {train: folder, eps: 4/255, samples: 4, epochs: 1}
  - columns: {width: 8}
metrics: [top1]
"""
_LEFT = re.compile(r"\..+\.[0-9a-f]{32}|.*\.(unfinished|lock)|.*\.partial\..*")


@dataclass(frozen=True)
class Job:
    """words: the command line, in a folder of its own; before: the job whose results lie there already; store: whether it fills one."""

    name: str
    words: tuple[str, ...]
    before: str = ""
    store: bool = False


def jobs(source: Path, suite: Path) -> dict[str, Job]:
    """The jobs, on the images of a folder, in an order in which each follows the one before it."""
    data = ("-d", "folder", "--data-dir", str(source))
    run = ("run", "-m", MODEL, *data, "-s", str(suite), "--store", "st", "--keep", "logits", "--keep", "adversarial", "-q")
    made = (
        Job("run", run, store=True),
        Job("run again", run, before="run", store=True),
        Job("compact", ("store", "compact", "--store", "st", "-q"), before="run", store=True),
        Job("board", ("leaderboard", "--store", "st", "-f", "csv", "-o", "board.csv"), before="run"),
        Job("report", ("report", "--store", "st", "-o", "page.html"), before="run"),
        Job("corrupt", ("corrupt", str(source), "made", "-c", "fog", "-c", "gaussian_noise", "--severity", "2", "-q")),
        Job("train", ("train", "-m", MODEL, *data, "--epochs", "2", "-b", "4", "-o", "mine.safetensors", "-q")),
    )
    return {job.name: job for job in made}


def prepare(folder: Path) -> tuple[Path, Path]:
    """Writes the images and the suite that jobs read."""
    source, suite = folder / "images", folder / "faults.yaml"
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (source / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(random.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(source / name / f"{number}.png")
    suite.write_text(SUITE)
    return source, suite


def place(whole: Path, folder: Path, job: Job) -> None:
    """A new folder for a job, with the undisturbed results of the one before it."""
    if job.before:
        shutil.copytree(whole / job.before, folder)
    else:
        folder.mkdir(parents=True)


def results(job: Job, folder: Path) -> dict[str, Any]:
    """Everything that a job left behind and that must be the same whatever befell it, by name."""
    return _of_store(folder) if job.store else _of_files(folder, job)


def _of_files(folder: Path, job: Job) -> dict[str, Any]:
    held = {"st", "cache"} if job.before else set()
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in held and not _LEFT.fullmatch(path.name)
    }


def _of_store(folder: Path) -> dict[str, Any]:
    store = Store(folder / "st")
    found: dict[str, Any] = {f"cache/{path.name}": path.read_bytes() for path in (folder / "cache").rglob("*.npy")}
    found["questions"] = [vars(question) for question in store.questions()]
    for cell in store.cells():
        found[f"{cell}: what"] = store.describe(cell)
        found[f"{cell}: failure"] = store.failure(cell)
        found[f"{cell}: rows"] = read(store.files(cell))
        found[f"{cell}: gallery"] = store.gallery(cell)
        kept = [file for file in cover(store.files(cell)) if "images" in file.about()]
        found[f"{cell}: images"] = [store.images(file).path.name for file in kept]
    for place in (folder / "st" / "samples").iterdir():  # a shorter table that a longer one has not replaced yet says the same
        found[f"samples/{place.name}"] = SampleDigests(store.path, place.name, "").all()
    for path in (folder / "st" / "learned").glob("*.safetensors"):
        found[f"learned/{path.name}"] = path.read_bytes()
    return found


def differing(found: Mapping[str, Any], whole: Mapping[str, Any]) -> list[str]:
    """The names of results that are not those of an undisturbed job."""
    return [name for name in sorted({*found, *whole}) if name not in found or name not in whole or not _same(found[name], whole[name])]


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, pd.DataFrame):
        return bool(one == other)
    if list(one) != list(other) or len(one) != len(other):
        return False
    return all(_bits(one[name]) == _bits(other[name]) for name in one)


def _bits(column: pd.Series) -> list[bytes] | bytes:
    if column.dtype.kind in "biuf":
        return column.to_numpy().tobytes()
    return [value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode() for value in column]


def wrong_rows(folder: Path, whole: Mapping[str, Any]) -> list[str]:
    """The cells whose rows, as far as a disturbed store holds and believes them, are not the first of the undisturbed ones."""
    try:
        store = Store(folder / "st")
    except RobustvitError:
        return []
    return [cell for cell in store.cells() if not _first_of(store, cell, whole[f"{cell}: rows"])]


def _first_of(store: Store, cell: str, whole: pd.DataFrame) -> bool:
    try:
        rows = read(store.files(cell))
    except RobustvitError:
        return True  # told
    return not len(rows) or _same(rows, whole.iloc[: len(rows)])


def left_behind(folder: Path) -> list[str]:
    """Unfinished files and locks that a job must not leave."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if _LEFT.fullmatch(path.name))
