"""Attacks on models whose gradients say nothing."""

import warnings
from pathlib import Path

import pytest
import torch
from exact import Stepped, classifier, images, linear
from torch import nn

import robustvit as rv
from robustvit.batch import Batch
from robustvit.board import leaderboard
from robustvit.draws import Draws
from robustvit.errors import GradientAbsent, RobustvitError
from robustvit.registry import bind
from robustvit.registry import scenario as entry_of
from robustvit.scenario import Outcome, _attacked, scenario
from robustvit.search import GRADIENTS, Crafted
from robustvit.spec import parse


def attacked(module: nn.Module, node: dict[str, object]) -> Outcome:
    model, pixels = classifier(module), images(12)
    batch = Batch(pixels, model(pixels).argmax(dim=1), tuple(str(i) for i in range(12)))
    (spec,) = parse(node)
    entry = entry_of(spec.name)
    return scenario(entry, bind(entry, spec))(model, batch, Draws(0, "x", batch.ids))


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd_ce", "apgd_t", "fab_t", "mi_fgsm"])
def test_an_attack_that_finds_no_gradient_fails_and_tells_what_would_do(name: str) -> None:
    with pytest.raises(GradientAbsent, match=r"zero or missing for 12 of 12 samples.*square"):
        attacked(Stepped(10), {name: {"eps": 0.01}})


def test_an_attack_that_asks_for_none_does_not_mind() -> None:
    outcome = attacked(Stepped(10), {"square": {"eps": 0.2, "steps": 50}})
    assert set(outcome.columns["gradient"].tolist()) == {GRADIENTS.index("not used")}


def test_a_model_of_dynamic_integers_is_not_called_robust(tmp_path: Path) -> None:
    demo = rv.load_model("demo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        demo.model = torch.ao.quantization.quantize_dynamic(demo.model, {nn.Linear}, dtype=torch.qint8)
    suite = tmp_path / "mine.yaml"
    suite.write_text(
        "name: mine\ntitle: Mine\ndata: digits\nscenarios: [clean, {pgd: {eps: 2/255, steps: 3}}]\nmetrics: [top1, robust_accuracy]\n"
    )
    done = rv.run(suite, [demo], store=tmp_path / "s", limit=8)
    assert ["gradient" in reason for reason in done.failed.values()] == [True]
    board = leaderboard(tmp_path / "s")
    assert set(board.loc[board["metric"] == "robust_accuracy", "status"]) == {"failed"}


def test_a_column_that_no_book_has_is_refused() -> None:
    entry = entry_of("fgsm")
    spec = bind(entry, parse({"fgsm": {"eps": 0.01}})[0])
    model, pixels = linear()[0], images(4)
    batch = Batch(pixels, model(pixels).argmax(dim=1), ("0", "1", "2", "3"))
    with pytest.raises(RobustvitError, match="'mood'; an attack's books are steps, queries, gradients, gradient"):
        _attacked(lambda *given: Crafted(given[1], {"mood": torch.zeros(4)}), spec, model, batch, Draws(0, "x", batch.ids))
