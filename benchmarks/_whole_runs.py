"""Runs of one scenario beside bare forward passes of the same model."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import robustvit as rv


def forwards(model: rv.Classifier, count: int) -> None:
    """Bare forward passes of so many images that are in memory already, in the model's precision under autocast, as runs have it."""
    batch = torch.zeros(model.tile, 3, *model.size, device=model.device)
    with torch.no_grad(), torch.autocast(model.device.type, dtype=torch.bfloat16):
        for _ in range(-(-count // model.tile)):
            model.model(batch)


def forwards_in_bfloat16(model: rv.Classifier, count: int) -> Callable[[], None]:
    """Bare forward passes of a copy whose weights are in bfloat16."""
    module = copy.deepcopy(model.model).to(torch.bfloat16)
    batch = torch.zeros(model.tile, 3, *model.size, device=model.device, dtype=torch.bfloat16)

    def work() -> None:
        with torch.no_grad():
            for _ in range(-(-count // len(batch))):
                module(batch)

    return work


def evaluated(model: rv.Classifier, data: rv.Data, name: str, cache: Path | None) -> None:
    """A run of one scenario, severity 3, into a fresh store. cache: of decoded images, or None for an empty one."""
    suite = rv.load_suite("imagenet-c")
    (part,) = suite.parts
    chosen = tuple(spec for spec in part.scenarios if spec.name == name and spec.get("severity") in (None, 3))
    alone = replace(suite, parts=(replace(part, scenarios=chosen),))
    before = os.environ.get("ROBUSTVIT_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ROBUSTVIT_CACHE"] = str(cache or f"{folder}/cache")
        try:
            where = {"device": str(model.device), "precision": model.precision, "workers": os.cpu_count() or 1}
            done = rv.run(alone, [model], data, store=f"{folder}/store", progress=False, **where)
        finally:
            del os.environ["ROBUSTVIT_CACHE"]
            os.environ.update({} if before is None else {"ROBUSTVIT_CACHE": before})
    if done.failed or done.computed != len(data):
        raise RuntimeError(f"the run computed {done.computed} of {len(data)} rows; failed: {done.failed}")
