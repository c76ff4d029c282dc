from pathlib import Path

import pytest
import torch

import robustvit as rv
from robustvit.data.digits import digits
from robustvit.evaluation.loading import load_model
from robustvit.models.checkpoint import read_about
from robustvit.models.demo import WEIGHTS, bundled
from robustvit.primitives.classifier import Classifier
from robustvit.spec.view import View
from robustvit.training.run import accuracy

FILE = WEIGHTS / "demo.safetensors"
CARD = FILE.with_suffix(".md").read_text(encoding="utf-8")

CERTIFIED = """
{name: c, title: c, version: 1, data: digits, scenarios: [{columns: {width: 4}}],
 metrics: [top1, {certified_accuracy: {patch: 2}}, {certified_accuracy: {patch: 5}}]}
"""


@pytest.fixture(scope="module")
def model() -> Classifier:
    return bundled("demo")


def test_its_accuracy_on_held_out_digits_is_that_of_its_card(model: Classifier) -> None:
    recorded = read_about(FILE).accuracy
    assert accuracy(model, digits(None)) == recorded
    assert recorded is not None
    assert recorded >= 0.97


def test_the_card_holds_the_notes_of_the_file() -> None:
    about = read_about(FILE)
    assert about.command in CARD
    assert f"{100 * (about.accuracy or 0):.1f} %" in CARD


def test_the_card_holds_the_size_of_the_model(model: Classifier) -> None:
    assert f"{model.card.parameters:,} parameters" in CARD
    assert f"{FILE.stat().st_size:,} bytes" in CARD


def test_the_file_is_small() -> None:
    assert FILE.stat().st_size <= 1_500_000


def test_digits_pass_its_view_untouched(model: Classifier) -> None:
    assert model.view == View(size=(32, 32), resize=32, crop="center", interpolation="bicubic")


def test_its_card_says_that_it_is_bundled_and_under_which_licence(model: Classifier) -> None:
    assert (model.card.label, model.card.weights, model.card.licence) == ("demo", "bundled", "Apache-2.0")


def test_a_copy_of_the_file_is_the_same_model(model: Classifier) -> None:
    copy = load_model(f"file:{FILE}")
    assert (copy.card.identity, copy.card.fingerprint) == (model.card.identity, model.card.fingerprint)


def test_it_gives_ten_finite_logits(model: Classifier) -> None:
    logits = model(torch.zeros(3, 3, 32, 32))
    assert logits.shape == (3, 10)
    assert bool(logits.isfinite().all())


def test_trained_on_ablations_it_proves_what_its_card_says_and_the_demo_proves_next_to_nothing(tmp_path: Path) -> None:
    suite = tmp_path / "c.yaml"
    suite.write_text(CERTIFIED)
    rv.run(str(suite), models=["demo/ablations", "demo"], store=tmp_path / "s")
    board = rv.leaderboard(tmp_path / "s").set_index(["model", "metric"])["value"]
    card = (WEIGHTS / "demo-ablations.md").read_text(encoding="utf-8")
    for name, digit in (("top1", "92.4"), ("certified_accuracy(patch=2)", "68.6"), ("certified_accuracy(patch=5)", "48.8")):
        assert board["demo/ablations", name] == pytest.approx(float(digit), abs=0.5)  # other machines round otherwise
        assert f"{digit} %" in card
        assert board["demo", name] < 15


def test_its_checkpoint_holds_the_command_that_made_it() -> None:
    assert read_about(WEIGHTS / "demo-ablations.safetensors").command in (WEIGHTS / "demo-ablations.md").read_text(encoding="utf-8")
    assert bundled("demo/ablations").card.label == "demo/ablations"
