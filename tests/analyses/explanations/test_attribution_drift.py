"""Agreement of maps: ranks and overlaps against scipy and sets, and the metrics that read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from vits import TILE, images, made, vit

import robustvit as rv
from robustvit.analyses.explanations.attribution_drift import attribution_drift, drift_passes
from robustvit.errors import BadParameter
from robustvit.metrics.explanations.stability import attribution_rank_correlation, attribution_top_iou
from robustvit.primitives.attribution.agreement import mean_ranks, rank_correlation, top_overlap
from robustvit.primitives.attribution.methods import attribution
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse

COUNT = TILE + 2
LABELS = torch.arange(COUNT) % 5


def drawn(count: int = COUNT) -> Draws:
    return Draws(0, "x", [str(row) for row in range(count)])


def maps(name: str, rows: int = 40) -> torch.Tensor:
    """Maps with many equal values."""
    return Draws(0, name, [str(row) for row in range(rows)]).integers(4, 5, low=0, high=7).float()


def test_rank_correlations_are_scipys() -> None:
    first, second = maps("a"), maps("b")
    assert np.array_equal(mean_ranks(first.flatten(1)).numpy(), rankdata(first.flatten(1).numpy(), axis=1))
    expected = [spearmanr(one.flatten(), other.flatten()).statistic for one, other in zip(first.numpy(), second.numpy(), strict=True)]
    assert rank_correlation(first, second).tolist() == pytest.approx(expected, abs=1e-12)
    assert rank_correlation(first, first.exp()).tolist() == pytest.approx([1.0] * 40)
    assert rank_correlation(first, -first).tolist() == pytest.approx([-1.0] * 40)
    assert bool(rank_correlation(first, torch.ones_like(first)).isnan().all())


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 1.0])
def test_overlaps_are_those_of_sets(share: float) -> None:
    first, second = maps("a"), maps("b")
    count = {0.05: 1, 0.2: 4, 0.5: 10, 1.0: 20}[share]
    for row, found in enumerate(top_overlap(first, second, share).tolist()):
        one, other = (
            set(sorted(range(20), key=lambda place, values=some[row].flatten().tolist(): (-values[place], place))[:count])  # noqa: B008
            for some in (first, second)
        )
        assert found == pytest.approx(len(one & other) / len(one | other))


@pytest.mark.parametrize("name", ["legrad", "random", "centre"])
def test_each_image_is_explained_by_its_own_prediction(name: Any) -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    shifted = 1 - pixels
    found = attribution_drift(model, pixels, LABELS, drawn(), attribution=name, corruption=lambda some, draws: 1 - some)
    answers, others = model(pixels).argmax(dim=1), model(shifted).argmax(dim=1)
    clean = attribution(name, model, pixels, answers, drawn().at("clean"))
    other = attribution(name, model, shifted, others, drawn().at("shifted"))
    assert torch.equal(found["value_spearman"], rank_correlation(clean, other).float())
    assert torch.equal(found["value_top_iou"], top_overlap(clean, other, 0.2).float())
    assert torch.equal(found["value_same_answer"], (answers == others).float())
    assert 0 < float(found["value_same_answer"].sum()) < COUNT
    if name == "random":
        assert float(found["value_spearman"].abs().max()) < 0.9
    alone = attribution_drift(model, pixels[4:], LABELS[4:], drawn()[torch.tensor([4, 5])], attribution=name, corruption=lambda s, d: 1 - s)
    for column, values in found.items():
        assert torch.equal(alone[column], values[4:])


def test_nothing_drifts_where_nothing_shifts_and_something_must() -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    found = attribution_drift(model, pixels, LABELS, drawn(), corruption=lambda some, draws: some)
    assert found["value_spearman"].tolist() == pytest.approx([1.0] * COUNT)
    assert found["value_top_iou"].tolist() == found["value_same_answer"].tolist() == [1.0] * COUNT
    with pytest.raises(BadParameter, match="give corruption or attack, one of the two"):
        attribution_drift(model, pixels, LABELS, drawn())


def test_metrics_are_of_unchanged_predictions_unless_asked_for_all() -> None:
    rows = pd.DataFrame({"value_spearman": [0.5, -1.0, np.nan], "value_top_iou": [0.2, 1.0, 0.0], "value_same_answer": [1.0, 0.0, 1.0]})
    assert np.array_equal(attribution_rank_correlation(rows), [0.5, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(attribution_rank_correlation(rows, unchanged=False), [0.5, -1.0, np.nan], equal_nan=True)
    assert np.array_equal(attribution_top_iou(rows), [0.2, np.nan, 0.0], equal_nan=True)
    assert attribution_top_iou(rows, unchanged=False).tolist() == [0.2, 1.0, 0.0]


def test_passes_are_those_of_two_images() -> None:
    model = made(vit)
    for name, expected in (("legrad", Passes(2, 2)), ("rollout", Passes(4, 0)), ("random", Passes(2, 0))):
        spec = bind(lookup("analysis", "attribution_drift"), parse({"attribution_drift": {"attribution": name}})[0])
        assert drift_passes(spec, model, {"corruption": abs}) == expected
        assert drift_passes(spec, model, {"attack": abs}) is None


def test_a_suite_attacks_maps_and_is_scored(tmp_path: Any) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: mine\ntitle: Mine\ndata: digits\nscenarios:\n"
        "  - attribution_drift: {attribution: legrad, corruption: {gaussian_noise: {severity: [1, 5]}}}\n"
        "  - attribution_drift: {attribution: legrad, attack: {attribution_attack: {eps: 8/255, steps: 5}}}\n"
        "  - attribution_attack: {eps: 8/255, steps: 2}\n"
        "metrics: [attribution_rank_correlation, {attribution_top_iou: {unchanged: false}}, robust_accuracy]\n"
    )
    done = rv.run(path, ["demo"], store=tmp_path / "s", limit=32, progress=False)
    assert (done.failed, done.undefined) == ({}, {})
    board = rv.leaderboard(tmp_path / "s")
    found = board[board["metric"] == "attribution_rank_correlation"].dropna(subset="value").set_index("severity")["value"]
    assert len(found) == 3
    assert found["1"] > found["5"]
