"""Certified predictions are robust: no patch, anywhere in the image and with any content, changes the vote."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import robustvit as rv
from robustvit.data.digits import digits
from robustvit.evaluation.cost.estimate import estimate
from robustvit.evaluation.loading import load_model
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.masked_inference import MaskedViews, mask_model
from robustvit.primitives.scenario import scenario
from robustvit.spec.ablations import Ablations
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse
from robustvit.spec.suite_file import read_suite
from robustvit.spec.view import Overrides
from robustvit.training.epochs import load_batch

BANDS = Ablations("columns", 4, 1, (32, 32))
WINDOW = BANDS.window(np.arange(BANDS.count))


@functools.cache
def certified(unseen: str) -> tuple[Classifier, Batch, dict[str, Tensor]]:
    """The model trained on ablations, some digits, and their votes."""
    model = load_model("demo/ablations")
    batch = load_batch(digits(None), np.arange(16), model.view, "cpu")
    spec = bind(lookup("certificate", "columns"), parse({"columns": {"width": 4, "unseen": unseen}})[0])
    return model, batch, scenario(lookup("certificate", "columns"), spec)(model, batch, Draws(0, "c", batch.ids)).columns


def all_logits(model: Classifier, images: Tensor, unseen: str) -> Tensor:
    """(N, bands, K) logits, differentiable."""
    which = torch.arange(len(images)).repeat_interleave(BANDS.count)
    window = BANDS.window(np.tile(np.arange(BANDS.count), len(images)))
    return mask_model(model, images, unseen).logits(MaskedViews(which, window)).view(len(images), BANDS.count, -1)  # type: ignore[arg-type]


def vote(model: Classifier, images: Tensor, unseen: str) -> Tensor:
    with torch.no_grad():
        counts = functional.one_hot(all_logits(model, images, unseen).argmax(dim=2), 10).sum(dim=1)
    return counts.argmax(dim=1)


def attacked(model: Classifier, images: Tensor, labels: Tensor, patch: int, unseen: str) -> Tensor:
    """Whether a patch that follows the gradient of the margins of its bands changes the vote of each image, at any of a few places."""
    fooled = torch.zeros(len(images), dtype=torch.bool)
    for left in (9, 14, 19):
        fooled |= _attacked_at(model, images, labels, ((32 - patch) // 2, left, patch), unseen)
    return fooled


def _attacked_at(model: Classifier, images: Tensor, labels: Tensor, place: tuple[int, int, int], unseen: str) -> Tensor:
    top, left, patch = place
    inside = torch.zeros(1, 1, 32, 32)
    inside[..., top : top + patch, left : left + patch] = 1.0
    moved = torch.where(inside.bool(), Draws(0, f"patch {place}", [str(i) for i in range(len(images))]).uniform(3, 32, 32), images)
    fooled = vote(model, moved, unseen) != labels
    for _ in range(6):
        leaf = moved.clone().requires_grad_(True)
        logits = all_logits(model, leaf, unseen)
        own = logits.gather(2, labels.view(-1, 1, 1).expand(-1, BANDS.count, 1))[..., 0]
        others = logits.scatter(2, labels.view(-1, 1, 1).expand(-1, BANDS.count, 1), -torch.inf).amax(dim=2)
        (gradient,) = torch.autograd.grad((others - own).clamp(max=1.0).sum(), leaf)
        moved = (moved + 0.25 * gradient.sign() * inside).clamp(0.0, 1.0)
        fooled |= vote(model, moved, unseen) != labels
    return fooled


@pytest.mark.slow
@pytest.mark.parametrize(("patch", "unseen"), [(2, "dropped"), (5, "dropped"), (2, "kept")])
def test_no_patch_flips_what_is_certified_and_the_same_attack_flips_much_of_the_rest(patch: int, unseen: str) -> None:
    model, batch, columns = certified(unseen)
    by_count = columns["votes_first"] - columns["votes_second"] > 2 * BANDS.touched(patch)
    holds = by_count | (columns["patch_held"] >= patch)
    fooled = attacked(model, batch.images, columns["vote"].long(), patch, unseen)
    assert int(holds.sum()) >= 3
    assert not bool(fooled[holds].any())
    assert bool(fooled[~holds].any())


def test_a_certificate_that_counted_too_few_bands_would_be_caught() -> None:
    """With the votes of a patch of one pixel taken for those of eight, the same attack refutes it: the law above can fail."""
    model, batch, columns = certified("dropped")
    claimed = columns["votes_first"] - columns["votes_second"] > 2 * BANDS.touched(1)
    assert bool(attacked(model, batch.images, columns["vote"].long(), 8, "dropped")[claimed].any())


SUITE = """
name: certified
title: Certificates of all sorts
data: digits
scenarios:
  - columns: {width: 4}
  - columns: {width: 4, stop_at: 2}
  - blocks: {width: 12, stride: 8}
  - gaussian: {sigma: 0.1, samples: 60, selection: 10}
metrics: [top1, {certified_accuracy: {patch: [2, 5]}}, {certified_accuracy_l2: {radius: [0, 0.1]}}, largest_patch, votes_needed, abstention]
"""
CNN = "resnet10t?weights=random&num_classes=10"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """Certificates of a plain transformer and of a CNN, made for fourteen digits and then for thirty-six more."""
    place = tmp_path_factory.mktemp("certified")
    (place / "certified.yaml").write_text(SUITE)
    for limit in (14, 50):
        rv.run(place / "certified.yaml", models=["demo/ablations"], store=place / "s", limit=limit)
    rv.run(place / "certified.yaml", models=[CNN], store=place / "s", limit=14, view=Overrides(img_size=32))
    return place, rv.leaderboard(place / "s")


def test_certificates_made_in_parts_are_those_made_at_once(results: tuple[Path, pd.DataFrame]) -> None:
    place, _ = results
    rv.run(place / "certified.yaml", models=["demo/ablations"], store=place / "whole", limit=50, workers=0)
    parts, whole = (rv.load_records(place / store, models=["demo/ablations"]).to_pandas() for store in ("s", "whole"))
    keys = ["cell", "sample"]
    pd.testing.assert_frame_equal(*(rows.sort_values(keys).reset_index(drop=True) for rows in (parts, whole)))


def test_what_stops_early_proves_what_all_votes_prove_and_nothing_else(results: tuple[Path, pd.DataFrame]) -> None:
    board = results[1].query("model == 'demo/ablations' and scenario == 'columns'")
    value = board.set_index([board["params"].str.contains("stop_at=2"), "metric"])["value"]
    assert value[True, "certified_accuracy(patch=2)"] == value[False, "certified_accuracy(patch=2)"] > 30
    assert np.isnan(value[True, "certified_accuracy(patch=5)"])
    assert np.isnan(value[True, "largest_patch"])
    assert 16 < value[True, "votes_needed"] < value[False, "votes_needed"] == 32
    assert (True, "top1") not in value.index


def test_a_leaderboard_states_which_of_two_classifiers_was_evaluated(results: tuple[Path, pd.DataFrame]) -> None:
    place, board = results
    params = board[board["scenario"] == "blocks"].groupby("model")["params"].first()
    assert "unseen=dropped" in params["demo/ablations"]
    assert "unseen=kept" in params.drop("demo/ablations").iloc[0]
    card = board.attrs["models"][params.drop("demo/ablations").index[0]]
    assert "it is a ResNet" in card["notes"]["unseen tokens"]
    rows = rv.load_records(place / "s").to_pandas()
    assert set(rows[rows["scenario"] == "blocks"].groupby("model")["tokens"].max() > 0) == {True, False}


def test_radii_and_their_level_are_in_the_records(results: tuple[Path, pd.DataFrame]) -> None:
    place, board = results
    rows = rv.load_records(place / "s").to_pandas().query("scenario == 'gaussian'")
    assert rows["level"].between(0.998, 1.0).all()
    assert ((rows["radius"] > 0) == (rows["pred"] >= 0)).all()
    shares = board.query("model == 'demo/ablations' and scenario == 'gaussian'").set_index("metric")["value"]
    assert shares["certified_accuracy_l2(radius=0)"] == shares["top1"] >= shares["certified_accuracy_l2(radius=0.1)"]


def test_half_precision_fails_the_cell_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "certified.yaml").write_text(SUITE)
    summary = rv.run(tmp_path / "certified.yaml", models=["demo/ablations"], store=tmp_path / "s", limit=2, precision="bfloat16")
    assert len(summary.failed) == 4
    assert all("a certificate is made in float32" in reason for reason in summary.failed.values())


@pytest.mark.parametrize("node", ["columns: {width: 4}", "columns: {width: 4, unseen: kept}", "gaussian: {sigma: 0.1, samples: 10}"])
def test_logits_that_are_no_numbers_fail_the_cell(node: str, tmp_path: Path) -> None:
    model = load_model("demo")
    model.model.head.bias[:] = torch.nan
    (tmp_path / "nan.yaml").write_text(f"{{name: nan, title: NaN, data: digits, scenarios: [{{{node}}}], metrics: [top1]}}")
    summary = rv.run(tmp_path / "nan.yaml", models=[model], store=tmp_path / "s", limit=2)
    assert "logits that are not finite numbers" in next(iter(summary.failed.values()))


def test_a_certificate_that_does_not_fit_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text(
        "{name: wide, title: Wide, data: digits, scenarios: [clean, {columns: {width: 33}}], "
        "metrics: [top1, {certified_accuracy: {patch: 2}}]}"
    )
    summary = rv.run(tmp_path / "wide.yaml", models=["demo"], store=tmp_path / "s", limit=2)
    assert len(summary.failed) == 1
    board = rv.leaderboard(tmp_path / "s").set_index("scenario")
    assert board.loc["columns", "status"] == "failed"
    assert "width is 1 to 32" in board.loc["columns", "reason"]
    assert board.loc["clean", "status"] == "complete"


def test_a_plan_knows_cells_that_will_fail(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text("{name: wide, title: Wide, data: digits, scenarios: [{columns: {width: 33}}], metrics: [top1]}")
    assert estimate(make(read_suite(tmp_path / "wide.yaml"), ["demo"], None, Settings(limit=2)), {}).seconds == 0.0


def test_a_certificate_that_was_announced_and_not_begun_is_still_to_come(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "{name: c, title: C, data: digits, scenarios: [clean, {columns: {width: 4}}], metrics: [top1, {certified_accuracy: {patch: 2}}]}"
    )
    rv.run(tmp_path / "c.yaml", models=["demo"], store=tmp_path / "s", limit=2)
    cell = rv.leaderboard(tmp_path / "s").set_index("scenario").loc["columns", "cell"].iloc[0]
    shutil.rmtree(tmp_path / "s" / "cells" / cell)  # as a run that was killed between its manifest and its first cell leaves it
    board = rv.leaderboard(tmp_path / "s").set_index("scenario")
    assert set(board.loc[["columns"], "status"]) == {"partial"}
    assert board.loc["clean", "status"] == "complete"
