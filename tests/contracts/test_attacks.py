"""Laws of every registered attack; a new one is tested without being named."""

from typing import Any

import pytest
import torch
from exact import few, images, linear, load_batch, needed

from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import size
from robustvit.primitives.passes import GRADIENT, Passes, declared_passes
from robustvit.primitives.scenario import Outcome, Scenario, parameters, scenario
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import entries
from robustvit.spec.spec import parse

CASES = [
    (entry, norm)
    for entry in entries("attack").values()
    for norm in ("linf", "l2", "l1")
    if {"eps", "norm"} <= {param.name for param in entry.params} and not entry.chain
]
NAMES = [f"{entry.name}-{norm}" for entry, norm in CASES]


def attacked(entry: Entry, norm: str, eps: float, model: Classifier, pixels: torch.Tensor, seed: int = 0) -> tuple[Batch, Outcome]:
    batch = Batch(pixels, model(pixels).argmax(dim=1), tuple(str(i) for i in range(len(pixels))))
    return batch, lifted(entry, norm, eps, model, batch)(model, batch, Draws(seed, "x", batch.ids))


def lifted(entry: Entry, norm: str, eps: float, model: Classifier, batch: Batch) -> Scenario:
    """The attack as a scenario; one with a fit is fitted to the same batch."""
    spec = bind(entry, parse({entry.name: {"eps": eps, "norm": norm, **_brief(entry)}})[0])
    data = few(batch.labels)
    plugins = {param.name: data for param in entry.params if param.hint.plugin == "data"}
    if not entry.fit:
        return scenario(entry, spec, plugins)
    artifact = entry.load_beside(entry.fit)(
        model, load_batch(batch.images, batch.labels), Draws(0, "l", ["l"]), **parameters(spec, plugins)
    )
    return scenario(entry, spec, plugins, artifact)


def _brief(entry: Entry) -> dict[str, Any]:
    """Few steps, which suffice for the linear model, and a name for every data set."""
    steps = {param.name: min(40, param.default) for param in entry.params if param.name == "steps"}
    return steps | {param.name: "digits" for param in entry.params if param.hint.plugin == "data"}


@pytest.mark.parametrize(("entry", "norm"), CASES, ids=NAMES)
def test_range_and_budget_hold(entry: Entry, norm: str) -> None:
    model, _ = linear()
    batch, outcome = attacked(entry, norm, 0.2, model, images(8, low=0.0, high=1.0))
    assert outcome.images is not None
    assert 0.0 <= float(outcome.images.min()) <= float(outcome.images.max()) <= 1.0
    assert float(size(outcome.images - batch.images, norm).max()) <= 0.2 + 1e-4  # type: ignore[arg-type]


@pytest.mark.parametrize(("entry", "norm"), CASES, ids=NAMES)
def test_a_linear_model_flips_only_when_the_budget_exceeds_its_margin(entry: Entry, norm: str) -> None:
    model, weight = linear()
    pixels = images(32)
    distance = needed(model(pixels), weight, norm)
    eps = float(distance.median())
    batch, outcome = attacked(entry, norm, eps, model, pixels)
    flipped = model(outcome.images).argmax(dim=1) != batch.labels
    assert not bool(flipped[distance > eps * 1.001].any())
    if entry.family == "white-box" and norm != "l1":
        assert bool(flipped[distance < eps * 0.98].all())


@pytest.mark.parametrize(("entry", "norm"), CASES, ids=NAMES)
def test_attacks_have_no_side_effects(entry: Entry, norm: str) -> None:
    model, _ = linear()
    pixels = images(8)
    before, weights = pixels.clone(), {name: value.clone() for name, value in model.state_dict().items()}
    attacked(entry, norm, 0.05, model, pixels)
    assert torch.equal(pixels, before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("entry", "norm"), CASES, ids=NAMES)
def test_samples_wrong_when_clean_are_left_alone(entry: Entry, norm: str) -> None:
    model, _ = linear()
    pixels = images(8)
    batch = Batch(pixels, 1 - model(pixels).argmax(dim=1), tuple(str(i) for i in range(8)))
    outcome = lifted(entry, norm, 0.1, model, batch)(model, batch, Draws(0, "x", batch.ids))
    assert outcome.images is not None
    assert torch.equal(outcome.images, pixels)
    assert not bool(outcome.columns["attacked"].any())


@pytest.mark.parametrize(("entry", "norm"), CASES, ids=NAMES)
def test_the_declared_passes_are_those_that_a_surviving_sample_takes(entry: Entry, norm: str) -> None:
    model, _ = linear()
    batch, outcome = attacked(entry, norm, 1e-6, model, images(4, low=0.4, high=0.6))
    spec = bind(entry, parse({entry.name: {"eps": 1e-6, "norm": norm, **_brief(entry)}})[0])
    plugins = {param.name: few(batch.labels) for param in entry.params if param.hint.plugin == "data"}
    declared = declared_passes(entry, spec, model, plugins)
    assert declared is not None, f"{entry.name}: say `passes`, so that `plan` need not run it"
    queries, gradients = (int(outcome.columns[name].max()) for name in ("queries", "gradients"))
    if queries < 0:  # an attack that returns images alone counts nothing
        return
    taken = Passes(forward=max(0, queries - gradients), gradients=gradients)
    assert declared.forwards == pytest.approx(taken.forwards, rel=0.2, abs=2 * GRADIENT)


def test_every_attack_has_a_severity_a_source_and_a_docstring() -> None:
    for entry in registry.entries("attack").values():
        assert entry.severity or entry.family == "minimum-norm"
        assert entry.source
        assert entry.doc
