"""Suites that reproduce a paper's table, run over tiny data trees in the real layouts, and the leaderboards that they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import IN9, plant_images
from PIL import Image

from robustvit.data.annotations.wnids import listed, wnids
from robustvit.evaluation import run as runner
from robustvit.evaluation.cost.estimate import estimate
from robustvit.evaluation.loading import load_model
from robustvit.evaluation.requested import make as planned
from robustvit.evaluation.settings import Settings
from robustvit.metrics.corruption import EXTRA, alexnet
from robustvit.records.store import Store
from robustvit.report.page import write_report
from robustvit.report.ranking import ranking
from robustvit.report.suite_results import results_by_suite
from robustvit.report.text import conclusion
from robustvit.results.comparison import compare, diff, flips
from robustvit.results.export import export
from robustvit.results.leaderboard import build_leaderboard, leaderboard
from robustvit.results.summary import summary
from robustvit.spec.suite_file import load_suite

TINY = "vit_tiny_patch16_224?weights=random&crop_pct=1&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"
VARIANTS = ("original", "mixed_same", "mixed_rand", "mixed_next", "only_fg", "no_fg", "only_bg_b", "only_bg_t")
CUT = (224, 224)


def plant_imagenet(root: Path, count: int = 3, size: tuple[int, int] = (60, 48)) -> list[str]:
    """Writes validation images into the folders of the classes that the tiny model predicts; returns their paths below `val`."""
    model = load_model(TINY)
    paths = []
    for seed in range(count):
        image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))
        label = int(model(model.preprocess(image)[None]).argmax())
        paths.append(f"{wnids()[label]}/ILSVRC2012_val_{seed + 1:08}.JPEG")
        (root / "val" / paths[-1]).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / "val" / paths[-1], "PNG")
    return paths


def plant_in9(root: Path, variants: tuple[str, ...]) -> None:
    """Writes one image per class and variant, and masks whose foreground is the left half."""
    plant_images(root, [f"bg_challenge/{variant}/val/{folder}/n1_{i}.JPEG" for variant in variants for i, folder in enumerate(IN9)], CUT)
    for i, folder in enumerate(IN9):
        place = root / "bg_challenge/fg_mask/val" / folder
        place.mkdir(parents=True)
        np.save(place / f"n1_{i}.npy", np.arange(224)[None].repeat(224, 0) < 112)


def plant_subset(root: Path, name: str) -> None:
    plant_images(root / name, [f"{wnid}/x.jpg" for wnid in listed(name.replace("-", "_"))])


def film(path: Path, frames: int) -> None:
    cv2 = pytest.importorskip("cv2")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, CUT)
    for i in range(frames):
        writer.write(np.full((*CUT, 3), 5 * i, np.uint8))
    writer.release()


def values(board: pd.DataFrame) -> dict[str, float]:
    """The averages that have a value."""
    whole = board[(board["cell"] == "") & (board["scenario"] == "") & (board["status"] == "complete")]
    return dict(zip(whole["metric"], whole["value"], strict=True))


def test_the_background_challenge_runs_and_is_shown(tmp_path: Path) -> None:
    plant_in9(tmp_path, ("original", "only_bg_t"))
    runner.run("background-challenge", [TINY], store=tmp_path / "s", data_dir=tmp_path)
    board = leaderboard(tmp_path / "s").set_index("metric")
    assert (board.loc["challenge_accuracy", "n"], board.loc["challenge_accuracy", "status"]) == (9, "complete")
    assert board.loc["challenge_accuracy", "value"] <= board.loc["top1", "value"] + 1e-9
    rows = next(rows for question, rows in Store(tmp_path / "s").records() if question.kind == "analysis")
    assert rows["queries"].between(1, 9).all()
    assert "challenge_accuracy" in summary(leaderboard(tmp_path / "s")).columns


def test_a_limit_counts_foregrounds(tmp_path: Path) -> None:
    plant_in9(tmp_path, ("original", "only_bg_t"))
    runner.run("background-challenge", [TINY], store=tmp_path / "s", data_dir=tmp_path, limit=4)
    runner.run("background-challenge", [TINY], store=tmp_path / "t", data_dir=tmp_path)
    grown = runner.run("background-challenge", [TINY], store=tmp_path / "s", data_dir=tmp_path)
    assert grown is not None
    for (_, a), (_, b) in zip(Store(tmp_path / "s").records(), Store(tmp_path / "t").records(), strict=True):
        assert a.equals(b)


def test_other_masks_make_another_cell(tmp_path: Path) -> None:
    plant_in9(tmp_path, ("original", "only_bg_t"))
    before = [cell.id for cell in planned(load_suite("background-challenge"), [TINY], None, Settings(data_dir=tmp_path)).cells]
    np.save(tmp_path / "bg_challenge/fg_mask/val/00_dog/n1_0.npy", np.ones(CUT, np.int64))
    after = [cell.id for cell in planned(load_suite("background-challenge"), [TINY], None, Settings(data_dir=tmp_path)).cells]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


def test_background_dependence_is_of_the_same_images(tmp_path: Path) -> None:
    for path in plant_imagenet(tmp_path):
        place = tmp_path / "ILSVRC2012_bbox_val_v3/val" / f"{path.partition('/')[2].removesuffix('.JPEG')}.xml"
        place.parent.mkdir(parents=True, exist_ok=True)
        corners = "<xmin>20</xmin><ymin>16</ymin><xmax>40</xmax><ymax>32</ymax>"
        named = f"<object><name>{path[:9]}</name><bndbox>{corners}</bndbox></object>"
        place.write_text(f"<annotation><size><width>60</width><height>48</height></size>{named}</annotation>")
    runner.run("background-dependence", [TINY], store=tmp_path / "s", data_dir=tmp_path)
    board = leaderboard(tmp_path / "s")
    found = values(board)
    assert set(found) == {
        "foreground_retention", "background_retention", "foreground_retention_top5", "background_retention_top5",
    }  # fmt: skip
    shares = board[board["metric"] == "top1"].set_index("scenario")["value"]
    assert shares["full"] == 100.0
    assert found["background_retention"] == pytest.approx(shares["background"])
    assert all("fact_coverage" in rows for _, rows in Store(tmp_path / "s").records())


def test_the_table_of_pit(tmp_path: Path) -> None:
    plant_imagenet(tmp_path / "imagenet")
    plant_subset(tmp_path, "imagenet-a")
    plant_in9(tmp_path / "imagenet-9", ("original", "only_bg_t"))
    runner.run("pit-robust", [TINY], store=tmp_path / "s", data_dir=tmp_path, limit=4)
    board = leaderboard(tmp_path / "s")
    complete = {(row.scenario, row.severity, row.metric) for row in board[board["status"] == "complete"].itertuples()}
    assert {
        ("clean", "", "top1"), ("center_occlusion", "0.5", "top1"), ("imagenet-a", "", "top1"), ("imagenet-a", "", "top1_1000way"),
        ("fgsm", "1/255", "robust_accuracy"), ("fgsm", "8/255", "robust_accuracy"), ("background_challenge", "", "challenge_accuracy"),
    } <= complete  # fmt: skip
    assert set(board["status"]) == {"complete"}
    assert board[(board["scenario"] == "clean") & (board["metric"] == "top1")]["value"].item() == 100.0


def test_the_table_of_robust_learners(tmp_path: Path) -> None:
    paths = plant_imagenet(tmp_path / "imagenet", 2)
    for name in listed("imagenet_o")[:2]:
        plant_images(tmp_path / "imagenet/val", [f"{name}/ILSVRC2012_val_{int(name[1:]) % 10**8:08}.JPEG"])
    names = (*alexnet()["ce_mean"], *EXTRA)
    plant_images(tmp_path / "imagenet-c", [f"{name}/{level}/{path}" for name in names for level in range(1, 6) for path in paths], CUT)
    for name in alexnet()["flip_rate"]:
        film(tmp_path / "imagenet-p" / name / paths[0].replace("JPEG", "mp4"), 41 if name == "translate" else 31)
    for letter in "aro":
        plant_subset(tmp_path, f"imagenet-{letter}")
    plant_in9(tmp_path / "imagenet-9", VARIANTS)
    runner.run("vit-robust-learners", [TINY], store=tmp_path / "s", data_dir=tmp_path, limit=3)
    board = leaderboard(tmp_path / "s")
    assert {"mean_err_19", "mce_alexnet", "mean_flip_rate", "mfr_alexnet", "mean_top5_distance", "ood_aupr", "background_gap"} == set(
        values(board)
    )
    undefined = board[board["status"] != "complete"]
    assert undefined["metric"].tolist() == ["mt5d"]
    shifted = board[board["metric"].isin(["top1_1000way", "top5_1000way"])]
    assert {"imagenet-a", "imagenet-r"} <= set(shifted["scenario"])
    assert set(board.loc[board["scenario"] == "clean", "view"]) == {"32x32, squash, bicubic"}


def test_a_challenge_without_predictions_breaks_no_comparison_nor_page(tmp_path: Path) -> None:
    plant_in9(tmp_path, ("original", "only_bg_t"))
    other = TINY.replace("depth=1", "depth=2")
    runner.run("background-challenge", [TINY, other], store=tmp_path / "s", data_dir=tmp_path)
    verdicts = compare(tmp_path / "s", TINY, other).set_index("scenario")
    assert verdicts.loc["background_challenge", "verdict"] == "no answers"
    assert "fingerprint" not in verdicts.loc["background_challenge", "params"]
    assert set(flips(tmp_path / "s", TINY, other)["scenario"]) <= {"original"}
    assert set(diff(tmp_path / "s", tmp_path / "s")["verdict"]) == {"identical"}
    board = leaderboard(tmp_path / "s")
    (suite,) = results_by_suite(board)
    assert "challenge_accuracy" in [column.key for column in ranking([suite]).columns]
    assert "has challenge accuracy" in conclusion(suite, suite.models[0]).sentence
    page = write_report(tmp_path / "s", tmp_path / "page.html").read_text(encoding="utf-8")
    assert "challenge_accuracy" in page
    assert all(export(build_leaderboard(tmp_path / "s"), format) for format in ("csv", "json", "md", "latex", "timm"))


def test_the_estimated_time_of_a_challenge_is_an_upper_bound(tmp_path: Path) -> None:
    plant_in9(tmp_path, ("original", "only_bg_t"))
    made = planned(load_suite("background-challenge"), [TINY], None, Settings(data_dir=tmp_path))
    assert estimate(made, {}).sentence.startswith("Up to")
    assert estimate(planned(load_suite("quick"), ["demo"], None, Settings(limit=2)), {}).sentence.startswith("About")
