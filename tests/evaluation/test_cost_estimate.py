"""How an estimate is told to people."""

from __future__ import annotations

import pytest
from exact import linear

from robustvit.evaluation.cost_estimate import _GRADIENT, Estimate, _looks, _passes
from robustvit.evaluation.loading import load_model
from robustvit.spec import registry
from robustvit.spec.spec import parse


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 second "), (1.4, "1 second "), (1.6, "2 seconds "), (89, "89 seconds "), (90, "1.5 minutes "), (5400, "1.5 hours ")],
)
def test_seconds_are_told_in_the_largest_unit_and_one_second_is_singular(seconds: float, told: str) -> None:
    assert Estimate(8, 8, seconds, 0, 0).sentence.startswith(f"About {told}on this machine.")


@pytest.mark.parametrize(
    ("node", "passes"),
    [
        ({"square": {"eps": 0.1, "steps": 500}}, 500),  # forward passes alone
        ({"pgd": {"eps": 0.1, "steps": 10, "restarts": 2, "eot": 3}}, 60 * _GRADIENT),
        ({"apgd_t": {"eps": 0.1, "steps": 10, "targets": 9}}, 10 * _GRADIENT),  # of two classes one is wrong
        ({"transfer": {"surrogate": "demo", "attack": {"pgd": {"eps": 0.1, "steps": 7}}}}, 7 * _GRADIENT),
    ],
)
def test_an_attack_is_counted_by_what_it_asks_of_a_sample_that_stands(node: dict[str, object], passes: float) -> None:
    (spec,) = parse(node)
    assert _passes(registry.bind(registry.scenario(spec.name), spec), linear()[0]) == pytest.approx(passes)


@pytest.mark.parametrize(
    ("node", "looks"),
    [
        ({"columns": {"width": 4, "unseen": "kept"}}, 32),
        ({"columns": {"width": 4, "stride": 8}}, 4 * 5 / 17),  # four of sixteen tokens and the class token
        ({"blocks": {"width": 4, "stride": 4, "unseen": "kept"}}, 64),
        ({"gaussian": {"sigma": 0.5, "samples": 90, "selection": 10}}, 100),
    ],
)
def test_a_certificate_is_counted_by_what_it_shows_the_model(node: dict[str, object], looks: float) -> None:
    (spec,) = parse(node)
    assert _looks(registry.bind(registry.scenario(spec.name), spec), load_model("demo")) == pytest.approx(looks)
