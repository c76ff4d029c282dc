"""Adversarial images crafted on one model and evaluated on another."""

from pathlib import Path

import pytest
import torch
from exact import Stepped, classifier, images, linear, needed
from torch import nn

import robustvit as rv
from robustvit.attacks.fgsm_pgd import fgsm, pgd
from robustvit.attacks.transfer import transfer
from robustvit.errors import BadParameter, BudgetExceeded, GradientAbsent
from robustvit.primitives.attack_search import GRADIENTS
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.scenario import Outcome, scenario
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse


def transferred(attack: object, surrogate: nn.Module, eps: float = 0.05) -> tuple[Batch, Outcome]:
    model, pixels = classifier(Stepped(1000)), images(16)
    batch = Batch(pixels, model(pixels).argmax(dim=1), tuple(str(i) for i in range(16)))
    entry = lookup("attack", "transfer")
    spec = bind(entry, parse({"transfer": {"surrogate": "demo", "attack": {"pgd": {"eps": eps}}}})[0])
    lifted = scenario(entry, spec, {"surrogate": classifier(surrogate), "attack": attack})
    return batch, lifted(model, batch, Draws(0, "x", batch.ids))


def test_a_model_without_gradients_is_fooled_where_its_twin_is() -> None:
    twin, weight = linear()
    batch, outcome = transferred(lambda *given: pgd(*given, eps=0.05, steps=20, early=False), twin.model)
    assert outcome.images is not None
    distance = needed(twin(batch.images), weight, "linf")
    wrong = classifier(Stepped(1000))(outcome.images).argmax(dim=1) != batch.labels
    clear = (distance - 0.05).abs() > 1e-3
    assert torch.equal(wrong[clear], (distance < 0.05)[clear])
    assert set(outcome.columns["gradient"].tolist()) == {GRADIENTS.index("surrogate")}


def test_samples_that_the_surrogate_gets_wrong_are_attacked_too() -> None:
    contrary = linear()[0]
    contrary.model.weight.data *= -1.0
    contrary.model.bias.data *= -1.0
    for attack in (
        lambda *given: fgsm(*given, eps=0.05),
        lambda *given: pgd(*given, eps=0.05, early=False),
    ):
        batch, outcome = transferred(attack, contrary.model)
        assert outcome.images is not None
        assert bool(((outcome.images - batch.images).abs().amax(dim=(1, 2, 3)) > 0.04).all())


def test_the_nested_attack_is_checked_against_its_own_budget() -> None:
    with pytest.raises(BudgetExceeded, match=r"eps = 0\.0500"):
        transferred(lambda *given: fgsm(*given, eps=0.2), linear()[0].model)


def test_a_surrogate_without_gradients_fails_like_a_model_without() -> None:
    with pytest.raises(GradientAbsent, match="the surrogate gives an input gradient that is zero"):
        transferred(lambda *given: fgsm(*given, eps=0.05), Stepped(1000))


def test_a_chain_cannot_be_nested() -> None:
    with pytest.raises(BadParameter, match="'autoattack' is a chain of attacks"):
        bind(lookup("attack", "transfer"), parse({"transfer": {"surrogate": "demo", "attack": {"autoattack": {"eps": 0.1}}}})[0])


def test_a_plain_function_reports_no_columns() -> None:
    model, _ = linear()
    pixels = images(2)
    labels = model(pixels).argmax(dim=1)
    made = transfer(model, pixels, labels, Draws(0, "x", ["a", "b"]), surrogate=model, attack=lambda model, images, *_: images)
    assert made.columns == {}


def test_tables_name_the_surrogate_and_the_radius_of_the_attack_inside(tmp_path: Path) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text(
        "name: mine\ntitle: Mine\ndata: digits\nmetrics: [robust_accuracy]\n"
        "scenarios:\n  - transfer: {surrogate: demo, attack: {fgsm: {eps: [1/255, 4/255]}}}\n"
    )
    summary = rv.run(suite, ["demo"], store=tmp_path / "store", settings=rv.Settings(limit=40))
    assert not summary.failed
    board = leaderboard(tmp_path / "store")
    assert board[["scenario", "severity"]].values.tolist() == [["transfer", "1/255"], ["transfer", "4/255"]]
    assert set(board["params"]) == {"attack=fgsm(norm=linf), surrogate=demo"}
