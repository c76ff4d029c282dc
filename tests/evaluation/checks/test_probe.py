"""A model is what it does on real images: company, repetition and the kind of its outputs are probed before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import ModelError
from robustvit.evaluation.checks.outputs import outputs_of
from robustvit.evaluation.run import run
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.results.leaderboard import leaderboard

SUITE = "name: s\ntitle: S\ndata: digits\nscenarios: [clean]\nmetrics: [top1, nll, ece, brier, confidence]\n"


class Around(nn.Module):
    """The demo with something before and after it."""

    def __init__(self, change: Any = lambda x: x, after: Any = lambda z: z) -> None:
        super().__init__()
        demo = rv.load_model("demo")
        self.net, self.change, self.after = demo.model, change, after
        self.register_buffer("m", demo.mean.clone())
        self.register_buffer("s", demo.std.clone())

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.net((self.change(images) - self.m) / self.s))


def classifier(module: nn.Module, kind: type[Classifier] = Classifier) -> Classifier:
    demo = rv.load_model("demo")
    return kind(module, mean=(0.0,) * 3, std=(1.0,) * 3, view=demo.view, card=replace(demo.card, label="odd"))


def shrunk(images: Tensor) -> Tensor:
    """Resizes and pads at random, as the defence does; black images do not change."""
    n = int(torch.randint(20, 32, ()))
    small = nn.functional.interpolate(images, size=(n, n), mode="nearest")
    return nn.functional.pad(small, (0, 32 - n, 0, 32 - n))


def batch_statistics(images: Tensor) -> Tensor:
    return (nn.functional.batch_norm(images, None, None, training=True) * 0.3 + 0.3).clamp(0, 1)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(SUITE)
    return tmp_path / "s.yaml"


@pytest.mark.parametrize("tile", [1, 16])
def test_batch_statistics_are_refused_at_every_batch_size(suite, tmp_path, tile):
    with pytest.raises(ModelError, match=r"'odd' gives other logits for an image alone than among others .*batch statistics"):
        run(suite, [classifier(Around(batch_statistics)).configure(tile=tile)], store=tmp_path / "store", limit=20)
    assert not list((tmp_path / "store").glob("cells/*/*.parquet"))


def test_chance_that_black_images_hide_is_refused(suite, tmp_path):
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=r"'odd' gives other logits for the same 4 images each time .*bound"):
        run(suite, [classifier(Around(shrunk))], store=tmp_path / "store", limit=20)


def test_a_model_whose_rows_are_not_those_of_its_batch_is_refused(suite, tmp_path):
    views = Around(lambda x: torch.stack((x, x.flip(3)), 1).flatten(0, 1))
    with pytest.raises(ModelError, match=r"one row for each of 2 images; it returned a tensor of shape \(4, 10\)"):
        run(suite, [classifier(views)], store=tmp_path / "store", limit=20)


class Keyed(Classifier):
    """Adds noise that belongs to the samples."""

    draws: Draws | None = None

    def bound(self, draws: Draws) -> Classifier:
        made = classifier(self.model, Keyed)
        made.draws = draws
        return made

    def forward(self, images: Tensor) -> Tensor:
        noise = 0 if self.draws is None else 0.3 * self.draws.normal(*images.shape[1:])
        return super().forward((images + noise).clamp(0, 1))


def test_chance_that_is_keyed_by_the_samples_is_accepted(suite, tmp_path):
    assert run(suite, [classifier(Around(), Keyed)], store=tmp_path / "store", limit=20).complete == 1


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        (lambda z: z.softmax(1), "probabilities"),
        (lambda z: 100 * z.softmax(1), "probabilities"),
        (lambda z: z.sigmoid(), "scores in [0, 1]"),
        (lambda z: z.log_softmax(1), "logits"),
        (lambda z: z, "logits"),
        (lambda z: z.relu(), "logits"),
    ],
)
def test_the_kind_of_outputs_is_told_from_a_few_rows(after, kind):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert outputs_of(classifier(Around(after=after))(images)).kind == kind


def test_scores_that_need_logits_are_undefined_where_a_model_has_none_and_accuracy_is_not(suite, tmp_path):
    run(suite, [classifier(Around(after=lambda z: z.softmax(1)))], store=tmp_path / "store", limit=40)
    board = leaderboard(tmp_path / "store").set_index("metric")
    assert board.loc["top1", "value"] > 90
    for metric in ("nll", "ece", "brier", "confidence"):
        assert board.loc[metric, "status"] == "undefined"
        assert "probabilities, not logits: none is negative and every row sums to 1" in board.loc[metric, "reason"]
    again = run(suite, [classifier(Around(after=lambda z: z.softmax(1)))], store=tmp_path / "store", limit=40)
    assert again.computed == 0
    assert leaderboard(tmp_path / "store").set_index("metric").loc["nll", "status"] == "undefined"
