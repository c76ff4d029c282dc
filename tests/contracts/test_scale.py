"""Laws of every registered attack on a model whose logits are scaled: no result hangs on the scale."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from exact import classifier, images, load_batch
from torch import Tensor, nn

import robustvit as rv
from robustvit.data.formats.arrays import ArrayDataset
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.reading import Reading
from robustvit.primitives.scenario import parameters, scenario
from robustvit.spec.binding import bind
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import entries
from robustvit.spec.spec import parse

COUNT, SIDE, CLASSES = 40, 6, 5
RADII = {"linf": 0.03, "l2": 0.2, "l1": 0.6}
ON_THE_MARGIN = {"apgd_dlr", "apgd_t", "fab", "fab_t", "fmn", "cw", "square"}  # and on the ratio: scaling changes no verdict
POWERS, OTHERS = (2.0**-60, 2.0**-7, 2.0**10), (0.01, 0.1, 10.0, 100.0, 1000.0)
FEWER = {"steps": 12, "epochs": 2, "samples": COUNT, "searches": 4, "targets": 3}
CASES = [
    (entry, norm)
    for entry in entries("attack").values()
    for norm in RADII
    if not entry.chain and ("norm" in {param.name for param in entry.params} or (entry.family == "minimum-norm" and norm == "l2"))
]
NAMES = [f"{entry.name}-{norm}" for entry, norm in CASES]


class Scaled(nn.Module):
    """Five classes by two layers with drawn weights; the logits times `scale`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        draws = Draws(0, "weights", ["w"])
        self.first = nn.Parameter(draws.at("first").normal(3 * SIDE**2, 24)[0] / 4)
        self.second = nn.Parameter(draws.at("second").normal(24, CLASSES)[0] * 2)
        self.scale = scale

    def forward(self, pixels: Tensor) -> Tensor:
        hidden: Tensor = torch.tanh((pixels - 0.5).flatten(1) @ self.first)
        return self.scale * (hidden @ self.second)


def left_by(entry: Entry, norm: str, scale: float, *, double: bool = False) -> tuple[Tensor, Tensor]:
    """The images that an attack leaves of the scaled model's, and whether each is robust."""
    model, pixels = classifier(Scaled(scale), SIDE, tile=COUNT), images(COUNT, SIDE, 0.2, 0.8)
    model = model.double() if double else model
    labels = classifier(Scaled(1.0), SIDE, tile=COUNT)(pixels).argmax(dim=1)
    batch = Batch(pixels, labels, tuple(map(str, range(COUNT))))
    made = lifted(entry, norm, model, batch)(model, batch, Draws(0, "x", batch.ids))
    assert made.images is not None
    left: Tensor = made.images
    return left, classifier(Scaled(1.0), SIDE, tile=COUNT).double()(left).argmax(dim=1) == labels


def lifted(entry: Entry, norm: str, model: Classifier, batch: Batch) -> Any:
    known = {param.name: param for param in entry.params}
    given: dict[str, Any] = {name: min(value, known[name].default) for name, value in FEWER.items() if name in known}
    given |= {"norm": norm} if "norm" in known else {}
    given |= {"eps": RADII[norm]} if "eps" in known else {}
    given |= {name: "digits" for name, param in known.items() if param.hint.plugin == "data"}
    spec = bind(entry, parse({entry.name: given})[0])
    ids = tuple(batch.ids)
    data = ArrayDataset("some", list(ids).__getitem__, ids, batch.labels.numpy(), tuple("abcde"[:CLASSES]), (Reading("all", CLASSES),), "f")
    plugins = {name: data for name, param in known.items() if param.hint.plugin == "data"}
    fitted = {}
    if entry.fit:
        arguments = parameters(spec, plugins)
        fitted = entry.load_beside(entry.fit)(model, load_batch(batch.images, batch.labels), Draws(0, "l", ["l"]), **arguments)
    return scenario(entry, spec, plugins, copy.copy(fitted))


@pytest.mark.parametrize(("entry", "norm"), [case for case in CASES if case[0].name in ON_THE_MARGIN])
def test_an_attack_on_the_margin_or_the_ratio_does_the_same_at_every_scale(entry: Entry, norm: str) -> None:
    left, robust = left_by(entry, norm, 1.0)
    assert 0 < int(robust.sum()) < COUNT or entry.family == "minimum-norm"
    for scale in POWERS:
        assert torch.equal(left_by(entry, norm, scale)[0], left), scale
    for scale in OTHERS:
        assert torch.equal(left_by(entry, norm, scale)[1], robust), scale


@pytest.mark.parametrize(("entry", "norm"), CASES, ids=NAMES)
def test_every_attack_finds_what_it_finds_in_float64_and_no_less_at_any_scale(entry: Entry, norm: str) -> None:
    most = int(left_by(entry, norm, 1.0)[1].sum()) + COUNT // 20
    for scale in OTHERS:
        _, robust = left_by(entry, norm, scale)
        # below 1 the cross-entropy tends to the mean over the other classes, which is weaker on drawn weights: see the demo below
        assert int(robust.sum()) <= most or scale < 1.0, scale
        assert int((robust != left_by(entry, norm, scale, double=True)[1]).sum()) <= 1, scale


@pytest.mark.parametrize(("name", "given"), [("fgsm", {"eps": 1, "norm": "l2"}), ("pgd", {"eps": 0.5, "norm": "l2", "steps": 6})])
def test_a_trained_model_is_no_more_robust_at_any_scale(name: str, given: dict[str, Any]) -> None:
    demo, data = rv.load_model("demo"), rv.load_data("digits")
    pixels = torch.stack([demo.preprocess(data[i].image) for i in range(COUNT)])
    labels = torch.from_numpy(np.asarray(data.labels)[:COUNT].astype(np.int64))

    def robust(scale: float) -> int:
        moved = rv.perturb(multiplied(demo, scale), pixels, labels, name, **given)
        return int((demo(moved).argmax(dim=1) == labels).sum())

    most = robust(1.0) + COUNT // 20
    assert max(robust(scale) for scale in (0.01, 10.0, 100.0, 1000.0)) <= most


def multiplied(host: Classifier, scale: float) -> Classifier:
    class Multiplied(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            logits: Tensor = host.model(pixels)
            return scale * logits

    mean, std = (tuple(getattr(host, name).flatten().tolist()) for name in ("mean", "std"))
    return Classifier(Multiplied(), mean=mean, std=std, view=host.view, card=host.card)
