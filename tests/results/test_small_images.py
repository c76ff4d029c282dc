"""Scores of a corruption on images of which it leaves little are marked, and so are averages over them and over stand-ins."""

from pathlib import Path

import pytest
import torch

from robustvit.corruptions import elastic
from robustvit.corruptions.kernels.warps import _fixed_point
from robustvit.evaluation.run import run
from robustvit.metrics.corruption import SEVERITIES, alexnet
from robustvit.results.leaderboard import leaderboard
from robustvit.results.small_images import outside
from robustvit.spec.binding import bind
from robustvit.spec.registry import entries, lookup
from robustvit.spec.spec import canonical, parse

SUITE = """name: s
title: S
data: digits
scenarios: [clean, {elastic_transform: {severity: [1, 3]}}, {fog: {severity: [1, 3]}}]
metrics: [top1, corruption_error, mean_corruption_error]
"""


def description(scenario: object, *size: int) -> dict[str, object]:
    (spec,) = parse(scenario)
    return {"scenario": canonical(bind(lookup("corruption", spec.name), spec)), "view": {"size": list(size)}}


@pytest.mark.parametrize(("severity", "side"), [(1, 48), (2, 96)])
def test_half_of_an_elastic_image_lies_outside_below_the_declared_side(severity: int, side: int) -> None:
    corners = torch.rand(2000, 3, 2, generator=torch.Generator().manual_seed(0))
    shares = [share_outside(corners, severity, length) for length in (side * 7 // 8, side * 9 // 8)]
    assert shares[0] > 0.5 > shares[1]
    assert entries("corruption")["elastic_transform"].smallest[severity - 1] == side


def test_at_32_px_it_is_half_at_severities_1_and_2_and_less_at_the_others() -> None:
    corners = torch.rand(2000, 3, 2, generator=torch.Generator().manual_seed(0))
    assert [share_outside(corners, severity, 32) > 0.5 for severity in range(1, 6)] == [True, True, False, False, False]


def share_outside(corners: torch.Tensor, severity: int, side: int) -> float:
    """The mean share of a square image that samples positions outside it."""
    matrices, image = elastic._affine(corners, elastic._SHAPES[severity - 1][2], side, side), torch.zeros(1, 3, side, side)
    x, y = (_fixed_point(image, matrices[:, start : start + 3]) / 32 for start in (0, 3))
    return float(((x < 0) | (x > side - 1) | (y < 0) | (y > side - 1)).double().mean())


def test_a_cell_is_marked_by_its_severity_and_the_shorter_side() -> None:
    text = "half of an image or more lies outside at 40 px, since lengths are those of 224 px: elastic_transform 1"
    assert outside(description({"elastic_transform": {"severity": 1}}, 224, 40)) == text
    assert outside(description({"elastic_transform": {"severity": 2}}, 64, 64)).endswith("elastic_transform 2")
    for severity, side in ((1, 48), (1, 224), (3, 32), (2, 96)):
        assert outside(description({"elastic_transform": {"severity": severity}}, side, side)) == ""
    assert outside(description({"elastic_transform_imagecorruptions": {"severity": 1}}, 32, 32)) == outside({}) == ""


def test_a_corruption_inside_another_is_found() -> None:
    nested = {"patch_corruption": {"count": 4, "size": 8, "corruption": {"elastic_transform": {"severity": 2}}}}
    assert outside(description(nested, 32, 32)).endswith("elastic_transform 2")


def test_a_board_of_32_px_says_so_beside_the_cells_and_their_averages(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    run(tmp_path / "s.yaml", ["demo"], "digits", store=tmp_path / "store", limit=20)
    board = leaderboard(tmp_path / "store")
    marked = board[board["reason"] != ""]
    assert set(zip(marked["scenario"], marked["severity"], marked["metric"], strict=True)) == {
        ("elastic_transform", "1", "top1"), ("elastic_transform", "", "corruption_error"), ("", "", "mean_corruption_error"),
    }  # fmt: skip
    assert marked["reason"].str.startswith("half of an image or more lies outside at 32 px").all()
    assert (marked["status"] == "complete").all()


def test_an_average_with_stand_ins_says_which(make_store, answered) -> None:
    names = [f"{name}_imagecorruptions" if name in ("frost", "elastic_transform") else name for name in alexnet()["ce_mean"]]
    cells = {("m", name, severity): answered([True, False]) for name in names for severity in SEVERITIES}
    metrics = ("mean_err_15", "mce_alexnet", "ce_alexnet", "mean_corruption_error")
    board = leaderboard(make_store(cells, metrics=metrics, data="imagenet", classes=1000))
    averages = board[board["cell"] == ""]
    assert (averages["status"] == "complete").all()
    marked = averages[averages["reason"].str.contains("frost_imagecorruptions for frost")]
    assert list(zip(marked["metric"], marked["scenario"], strict=True)) == [
        ("mean_err_15", ""), ("mce_alexnet", ""), ("ce_alexnet", "frost_imagecorruptions"),
    ]  # fmt: skip
    assert averages.set_index("metric").loc["mean_err_15", "value"] == pytest.approx(50.0)
