"""Stores made up for tests: known predictions in, a Store out."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustvit.records import records
from robustvit.records.manifest import Manifest
from robustvit.records.store import Store
from robustvit.records.user_cache import cache_folder
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.registry import entries, lookup
from robustvit.spec.spec import Spec, canonical, digest, parse

Cells = Mapping[tuple[str, str, str], Mapping[str, Any] | None]


def answers(right: Iterable[bool], *, attacked: Iterable[bool] | None = None, ids: Iterable[str] | None = None) -> dict[str, Any]:
    """The columns of a two-class cell whose samples are classified correctly or not; every label is 0."""
    correct = np.asarray(list(right), dtype=bool)
    n = len(correct)
    confidence = np.linspace(0.55, 0.95, n).astype(np.float32)
    p = np.where(correct, confidence, 1 - confidence)
    columns = {
        "sample": list(ids) if ids is not None else [f"s{i:05d}" for i in range(n)],
        "label": np.zeros(n, int), "pred": (~correct).astype(int),
        "confidence": confidence, "nll": -np.log(p), "brier": 2 * (1 - p) ** 2, "rank": 2 - correct.astype(int), "margin": p - 0.5,
        "top5": np.tile([0, 1, -1, -1, -1], (n, 1)),
    }  # fmt: skip
    return columns if attacked is None else {**columns, "attacked": np.asarray(list(attacked), dtype=bool)}


def _kind(columns: Mapping[str, Any] | None) -> str:
    return "attack" if columns is not None and "attacked" in columns else "analysis" if columns and "pred" not in columns else "corruption"


def _scenario(kind: str, scenario: str, severity: str) -> Any:
    """The scenario in the description of a cell: bound, where it is an attack of a known name."""
    if kind != "attack" or scenario not in entries("attack"):
        return canonical(Spec(scenario, (("severity", severity),), kind, 1))
    node = {scenario: {"eps": severity}} if severity else scenario
    return canonical(bind(lookup("attack", scenario), parse(node)[0]))


def write_store(
    path: Path, cells: Cells, *, suite: str = "made-up", metrics: Iterable[Any] = ("top1",), data: str = "digits", classes: int = 10,
    asked: int | None = None, started: str = "2026-01-01T00:00:00+00:00", label: str = "", salt: str = "",
) -> Store:  # fmt: skip
    """A store of {(model, scenario, severity): columns, or None where nothing was computed}; `a → soft` is the model a, transformed.

    `chain 2/4` is the second of the four attacks of a chain. salt: changes the ids of the cells.
    """
    store = Store(path, create=True)
    requested = []
    for (model, named, severity), columns in cells.items():
        scenario, _, place = named.partition(" ")
        link, links = (int(number) for number in (place or "0/0").split("/"))
        kind = "attack" if place else _kind(columns)
        host, _, transforms = model.partition(" → ")
        description = {
            "weights": host, "view": {"size": [32, 32], "resize": 36, "crop": "center", "interpolation": "bicubic"},
            "data": canonical(Spec(label or data)), "data_fingerprint": "f", "precision": "float32",
            "scenario": _scenario(kind, scenario, severity), "transforms": [], "salt": salt + place + transforms,
        }  # fmt: skip
        cell = digest(description)
        store.declare(cell, description)
        n = 0 if columns is None else len(columns["sample"])
        if columns is not None and n:
            store.write(cell, 0, 0, records.table(columns), {"seconds": 1.5, "environment": "abc", "version": "0.1.0"})
        requested.append({
            "cell": cell, "weights": host, "model": host, "data": label or data, "transforms": transforms, "scenario": scenario,
            "severity": severity, "params": "steps=10" if kind == "attack" else "", "seed": 0, "precision": "float32",
            "view": "32x32, center, bicubic",
            "model_view": "32x32, center, bicubic", "base": label or data, "data_fingerprint": "f", "kind": kind, "storage": "",
            "asked": asked or n or 1, "source": "on-the-fly", "link": link, "links": links, "attack": f"step {link}" if link else "",
        })  # fmt: skip
    specs = [canonical(bind(lookup("metric", spec.name), spec)) for node in metrics for spec in parse(node)]
    cards = {
        model: {"weights_kind": "random" if model == "r" else "given", "fingerprint": model, "parameters": 5_700_000}
        for model in (named.partition(" → ")[0] for named, _, _ in cells)
    }
    body = {"suite": {"name": suite, "version": 1, "metrics": specs}, "models": cards, "cells": requested}
    about = {"label": label or data, "name": data, "base": label or data, "classes": classes, "n": 10, "asked": asked or 10}
    shared = {"data": {"f": about}, "command": "robustvit run --model demo", "started": started}
    store.write_manifest(Manifest.of_json({"id": digest([suite, requested, started]), **body, **shared}))
    return store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Store]:
    """`write_store` into a folder of the test's own; `name` tells several apart."""
    return lambda cells, *, name="results", **about: write_store(tmp_path / name, cells, **about)


@pytest.fixture
def answered() -> Callable[..., dict[str, Any]]:
    """`answers`, for tests that cannot import this file."""
    return answers


@pytest.fixture(scope="session", autouse=True)
def _image_cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests decode into a folder of their own, never the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTVIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _registered_for_one_test() -> Iterator[None]:
    """What a test registers, by itself or by a module that it names, ends with it."""
    before = dict(registry._LIVE)
    yield
    registry._LIVE.clear()
    registry._LIVE.update(before)


@pytest.fixture(autouse=True)
def _scores_of_its_own() -> None:
    """No test finds the scores that another one kept, computed by what was patched there."""
    shutil.rmtree(cache_folder() / "scores", ignore_errors=True)


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """Encodes a small image made from a seed."""

    def encode(seed: int = 0, form: str = "PNG", size: tuple[int, int] = (24, 20)) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, form)
        return sink.getvalue()

    return encode


@pytest.fixture
def plant(encoded: Callable[..., bytes]) -> Callable[..., Path]:
    """Writes images at paths below a folder, each with its own seed; returns the folder."""

    def write(root: Path, *paths: str) -> Path:
        for seed, path in enumerate(paths):
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(encoded(seed, "JPEG" if place.suffix.lower() in (".jpeg", ".jpg") else "PNG"))
        return root

    return write
