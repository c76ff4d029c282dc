"""Attacks on models whose gradients say nothing."""

import warnings
from pathlib import Path

import pytest
import torch
from exact import Stepped, classifier, images, linear
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import GradientAbsent, ModelError, RobustvitError
from robustvit.primitives.attack_search import GRADIENTS, Crafted
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.scenario import Outcome, scenario
from robustvit.primitives.scenarios.attack import AttackScenario
from robustvit.primitives.votes import Votes
from robustvit.results.leaderboard import leaderboard
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.registry import scenario_entry as entry_of
from robustvit.spec.spec import parse


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


class Rounded(nn.Module):
    """A module whose inputs are rounded to integers of a fixed scale: its gradients are zero."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net((images * 32).round() / 32)


def test_a_model_of_integers_that_are_scaled_by_the_batch_is_refused(tmp_path: Path) -> None:
    demo = rv.load_model("demo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        demo.model = torch.ao.quantization.quantize_dynamic(demo.model, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ModelError, match=r"an image alone than among others .* the scale of dynamic quantisation"):
        rv.run("quick", [demo], store=tmp_path / "s", limit=8)


def test_a_model_of_integers_is_not_called_robust(tmp_path: Path) -> None:
    demo = rv.load_model("demo")
    demo.model = Rounded(demo.model)
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
    attack = AttackScenario(entry, spec, lambda *given: Crafted(given[1], {"mood": torch.zeros(4)}), {})
    with pytest.raises(RobustvitError, match="'mood'; those of an attack are steps, queries, gradients, gradient"):
        attack(model, batch, Draws(0, "x", batch.ids))


def _votes(counts: torch.Tensor, **columns: torch.Tensor) -> None:
    """What becomes of votes that a certificate of two pictures and two classes returns."""

    @rv.certificate(family="odd", source="a test")
    def odd_votes(model, images, draws):  # type: ignore[no-untyped-def]
        """Returns the votes of the test."""
        return Votes(counts, True, columns)

    model, batch = linear()[0], Batch(images(2), torch.zeros(2, dtype=torch.int64), ("a", "b"))
    entry = registry.lookup("certificate", "odd_votes")
    scenario(entry, bind(entry, parse("odd_votes")[0]))(model, batch, Draws(0, "c", batch.ids))


ONE = torch.tensor([[3, 1], [0, 4]])


@pytest.mark.parametrize(
    ("counts", "columns", "message"),
    [
        (torch.ones(2, 7, dtype=torch.int64), {}, r"counts of shape \(2, 2\), \(images, classes\); it returned \(2, 7\)"),
        (ONE - 2, {}, "whole numbers from 0"),
        (ONE / 2, {}, "whole numbers from 0"),
        (ONE * 0, {}, "at least one vote for each image"),
        (ONE, {"label": torch.zeros(2)}, "returns a column 'label'; it may return pred, radius"),
        (ONE, {"pred": torch.tensor([0, 7])}, "classes 0 to 1 in 'pred', or -1"),
        (ONE, {"radius": torch.zeros(3)}, "one 'radius' for each of 2 images"),
    ],
)
def test_votes_that_are_none_are_refused_by_name(counts: torch.Tensor, columns: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(RobustvitError, match=f"certificate 'odd_votes' .*{message}"):
        _votes(counts, **columns)


def test_votes_with_a_measurement_are_taken() -> None:
    _votes(ONE, value_mine=torch.zeros(2), pred=torch.tensor([0, -1]))


def test_a_gradient_that_is_not_finite_at_black_pixels_is_taken_inside_and_attacks_as_the_model_itself() -> None:
    class Root(nn.Module):
        """The demo after (√x)²: itself, with a gradient of 0 · ∞ at black pixels."""

        def forward(self, pixels: Tensor) -> Tensor:
            logits: Tensor = demo((pixels.sqrt().square()).clamp(0.0, 1.0))
            return logits

    demo, data = rv.load_model("demo"), rv.load_data("digits")
    dark = ((torch.stack([demo.preprocess(data[i].image) for i in range(24)]) - 0.35) / 0.65).clamp(0.0, 1.0)
    labels = demo(dark).argmax(dim=1)
    assert bool((dark == 0).flatten(1).any(dim=1).all())
    root = classifier(Root(), 32, tile=16)
    found, expected = (rv.perturb(model, dark, labels, "pgd", eps="2/255", steps=5) for model in (root, demo))
    assert int((demo(found).argmax(dim=1) == labels).sum()) <= int((demo(expected).argmax(dim=1) == labels).sum()) + 1
    batch = Batch(dark, labels, tuple(map(str, range(24))))
    spec = bind(entry_of("pgd"), parse({"pgd": {"eps": "2/255", "steps": 5}})[0])
    codes = scenario(entry_of("pgd"), spec)(root, batch, Draws(0, "x", batch.ids)).columns["gradient"]
    assert {GRADIENTS[code] for code in codes.tolist()} == {"inside"}


def test_gradients_that_are_finite_nowhere_fail_the_cell() -> None:
    class Broken(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            score = pixels.flatten(1).sum(dim=1)
            return torch.stack((0.0 * score, 1.0 + 0.0 * torch.where(score < 0, (-score).sqrt(), 0.0)), dim=1)

    batch = Batch(images(4), torch.ones(4, dtype=torch.int64), ("a", "b", "c", "d"))
    spec = bind(entry_of("pgd"), parse({"pgd": {"eps": 0.1}})[0])
    with pytest.raises(GradientAbsent, match=r"not finite \(NaN or infinite\) in some value for 4 of 4 samples"):
        scenario(entry_of("pgd"), spec)(classifier(Broken()), batch, Draws(0, "x", batch.ids))
