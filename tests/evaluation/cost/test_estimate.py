"""How an estimate is told to people."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from exact import linear
from torch import Tensor

import robustvit as rv
from robustvit.evaluation.cost.estimate import Estimate, estimate
from robustvit.evaluation.loading import load_model
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.passes import GRADIENT, Passes, declared_passes
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.spec import parse


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 second "), (1.4, "1 second "), (1.6, "2 seconds "), (89, "89 seconds "), (90, "1.5 minutes "), (5400, "1.5 hours ")],
)
def test_seconds_are_told_in_the_largest_unit_and_one_second_is_singular(seconds: float, told: str) -> None:
    assert Estimate(8, 8, seconds, 0, 0).sentence.startswith(f"About {told}on this machine.")


def passes(node: dict[str, object], model: Classifier) -> Passes:
    (spec,) = parse(node)
    entry = registry.scenario_entry(spec.name)
    found = declared_passes(entry, bind(entry, spec), model, {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("node", "forwards"),
    [
        ({"square": {"eps": 0.1, "steps": 500}}, 500),  # forward passes alone
        ({"pgd": {"eps": 0.1, "steps": 10, "restarts": 2, "eot": 3}}, 60 * GRADIENT),
        ({"apgd_t": {"eps": 0.1, "steps": 10, "targets": 9}}, 10 * GRADIENT),  # of two classes one is wrong
        ({"transfer": {"surrogate": "demo", "attack": {"pgd": {"eps": 0.1, "steps": 7}}}}, 7 * GRADIENT),
        ({"torchattacks/EOTPGD": {"eps": 0.1, "steps": 7, "eot_iter": 3}}, 21 * GRADIENT),
    ],
)
def test_an_attack_declares_its_passes_for_a_sample_that_survives(node: dict[str, object], forwards: float) -> None:
    if "torchattacks/EOTPGD" in node:
        pytest.importorskip("torchattacks")
    assert passes(node, linear()[0]).forwards == pytest.approx(forwards)


@pytest.mark.parametrize(
    ("node", "forwards"),
    [
        ({"columns": {"width": 4, "unseen": "kept"}}, 32),
        ({"columns": {"width": 4, "stride": 8}}, 4 * 5 / 17),  # four of sixteen tokens and the class token
        ({"blocks": {"width": 4, "stride": 4, "unseen": "kept"}}, 64),
        ({"gaussian": {"sigma": 0.5, "samples": 90, "selection": 10}}, 100),
    ],
)
def test_a_certificate_declares_its_masked_or_noisy_passes(node: dict[str, object], forwards: float) -> None:
    found = passes(node, load_model("demo"))
    assert (found.forwards, found.at_most) == (pytest.approx(forwards), False)


def test_a_certificate_that_may_stop_early_declares_an_upper_bound() -> None:
    assert passes({"columns": {"width": 4, "unseen": "kept", "stop_at": 2}}, load_model("demo")).at_most


@rv.attack(severity="eps", source="made here")
def undeclared(model: rv.Classifier, images: Tensor, labels: Tensor, draws: rv.Draws, *, eps: float) -> Tensor:
    """An attack that declares no passes, and takes 10 ms for each image."""
    time.sleep(0.01 * len(images))
    return images


def test_a_scenario_that_declares_no_passes_is_timed(tmp_path: Path) -> None:
    page = tmp_path / "mine.yaml"
    page.write_text("name: mine\ntitle: Mine\ndata: digits\nscenarios: [{undeclared: {eps: 1/255}}]\nmetrics: [robust_accuracy]\n")
    made = make(rv.load_suite(page), ["demo"], "digits", Settings(limit=100))
    assert 1.0 < (estimate(made, {}, measure=True).seconds or 0.0) < 10.0
    assert estimate(made, {}).unknown == ("undeclared",)


@rv.attack(severity="eps", source="made here")
def raising(model: rv.Classifier, images: Tensor, labels: Tensor, draws: rv.Draws, *, eps: float) -> Tensor:
    """An attack that declares no passes, and fails."""
    raise ValueError("boom")


def test_a_plan_survives_a_scenario_that_fails_when_it_is_timed(tmp_path: Path) -> None:
    page = tmp_path / "mine.yaml"
    page.write_text("name: mine\ntitle: Mine\ndata: digits\nscenarios: [clean, {raising: {eps: 1/255}}]\nmetrics: [top1]\n")
    made = make(rv.load_suite(page), ["demo"], "digits", Settings(limit=4))
    assert estimate(made, {}).rows_to_do == 8


def test_what_is_fitted_once_for_a_cell_counts(tmp_path: Path) -> None:
    def seconds(epochs: int) -> float:
        page = tmp_path / f"{epochs}.yaml"
        attack = f"{{uap: {{eps: 10/255, train: digits, samples: 100, epochs: {epochs}}}}}"
        page.write_text(f"name: mine\ntitle: Mine\ndata: digits\nscenarios: [{attack}]\nmetrics: [robust_accuracy]\n")
        made = make(rv.load_suite(page), ["demo"], "digits", Settings(limit=4))
        return estimate(made, {}).seconds or 0.0

    assert seconds(1000) > 50 * seconds(1)
