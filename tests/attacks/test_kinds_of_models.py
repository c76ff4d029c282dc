"""Every attack, on models of every kind: float64, one channel and four, one logit and two. A new attack is tested without being named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from vits import SIDE, TILE, vit

import robustvit as rv
from robustvit.data.formats.arrays import array_dataset
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import Card
from robustvit.primitives.scenario import Outcome, parameters, scenario
from robustvit.spec.binding import bind
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import entries
from robustvit.spec.spec import Spec, parse
from robustvit.spec.view import View

ATTACKS = [entry for entry in entries("attack").values() if not entry.chain and not entry.name.endswith("/") and entry.name != "replay"]
CASES = [
    (entry, norm)
    for entry in ATTACKS
    for norm in (("linf", "l2", "l1") if any(param.name == "norm" for param in entry.params) else (None,))
]
NAMES = [f"{entry.name}-{norm}" if norm else entry.name for entry, norm in CASES]
KINDS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "float64": (lambda: vit().double(), 3),
    "grey": (lambda: vit(in_chans=1), 1),
    "four channels": (lambda: vit(in_chans=4), 4),
    "one logit": (lambda: vit(num_classes=1), 3),
    "two classes": (lambda: vit(num_classes=2), 3),
}
FEWER: dict[str, Any] = {
    "steps": 3, "epochs": 1, "eps": "16/255", "surrogate": "demo", "attack": {"fgsm": {"eps": "16/255"}}, "train": "digits",
    "probe": "digits", "angles": 3, "shifts": 3,
}  # fmt: skip


def model(kind: str) -> Classifier:
    make, channels = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
    card = Card("toy", Spec("toy"), "f", "given")
    return Classifier(module, mean=(0.5,) * channels, std=(0.5,) * channels, view=View((SIDE, SIDE), SIDE), card=card, tile=TILE)


def attacked(entry: Entry, norm: str | None, target: Classifier, rows: int = 3) -> tuple[Batch, Outcome]:
    ids = tuple(str(i) for i in range(rows))
    pixels = Draws(0, "pixels", ids).uniform(target.channels, *target.size)
    batch = Batch(pixels, target(pixels).argmax(dim=1), ids)
    given = {param.name: FEWER[param.name] for param in entry.params if param.name in FEWER}
    spec = bind(entry, parse({entry.name: given | ({"norm": norm} if norm else {})})[0])
    plugins = {param.name: plugin(param.hint.plugin, target, batch) for param in entry.params if param.hint.plugin in ("model", "data")}
    plugins |= {"attack": fgsm} if "attack" in given else {}
    artifact = fitted(entry, spec, plugins, target, batch) if entry.fit else None
    return batch, scenario(entry, spec, plugins, artifact)(target, batch, Draws(0, "x", ids))


def plugin(kind: str, target: Classifier, batch: Batch) -> Classifier | Data:
    black, classes = np.zeros((len(batch), 1, 1, 3), np.uint8), ["0", "1", "2", "3", "4"]
    others = [f"other {name}" for name in batch.ids]  # no probe may hold the images that are attacked
    return target if kind == "model" else array_dataset("few", black, batch.labels.numpy(), ids=others, classes=classes)


def fgsm(surrogate: Classifier, images: Tensor, labels: Tensor, draws: Draws) -> Any:
    return entries("attack")["fgsm"].load()(surrogate, images, labels, draws, eps=16 / 255)


def fitted(entry: Entry, spec: Spec, plugins: dict[str, Any], target: Classifier, batch: Batch) -> dict[str, Tensor]:
    def load_batch(data: Data, positions: np.ndarray) -> Batch:
        return batch[torch.from_numpy(positions)]

    return entry.load_beside(entry.fit)(target, load_batch, Draws(0, "l", ["l"]), **parameters(spec, plugins))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("entry", "norm"), CASES, ids=NAMES)
def test_the_attack_leaves_float32_images_of_the_models_shape(entry: Entry, norm: str | None, kind: str) -> None:
    target = model(kind)
    target = rv.transformed(target, "evit", keep=0.5) if entry.family == "cost" else target  # they are of token reducers alone
    batch, outcome = attacked(entry, norm, target)
    assert outcome.images is not None
    assert (outcome.images.dtype, outcome.images.shape) == (torch.float32, batch.images.shape)
    assert bool(torch.isfinite(target(outcome.images)).all())


SUITE = """
name: two
title: Two classes
data: digits
scenarios: [clean, {gaussian_noise: {severity: 3}}, {pgd: {eps: 8/255, steps: 3}}, {apgd_ce: {eps: 8/255, steps: 3}}]
metrics: [top1, nll, ece, robust_accuracy, attack_success]
"""


@pytest.mark.parametrize("kind", ["one logit", "two classes"])
def test_two_classes_go_through_scenarios_and_metrics(kind: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)
    data = array_dataset("coin", images, [0, 1] * 3, ids=list("abcdef"), classes=("tails", "heads"))
    (tmp_path / "two.yaml").write_text(SUITE)
    summary = rv.run(tmp_path / "two.yaml", models=[model(kind)], data=data, store=tmp_path / "store")
    board = rv.leaderboard(tmp_path / "store")
    assert not summary.failed
    assert set(board.status) == {"complete"}
    assert {"top1", "nll", "ece", "robust_accuracy", "attack_success"} <= set(board.metric)
    assert bool(np.isfinite(board.value.astype(float)).all())
