"""The archives of published numbers: every row as strictly checked as a row of a CSV file, and against facts of their sources."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import UsageError
from robustvit.results.published.agreement import all_references, references
from robustvit.results.published.archives import archived, read_archive, write_archive
from robustvit.results.published.files import COLUMNS, folder, read_references
from robustvit.spec import registry

FILES = sorted((folder() / "archives").glob("*.parquet"))
FACTS = (  # read in the sources at the commits that reports/archive_references.py names
    ("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", "clean", "", "top1", 90.056),
    ("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", "imagenet-a", "", "top5", 97.360),
    ("eva02_large_patch14_448.mim_in22k_ft_in1k", "val-of-imagenet-a", "", "top1", 98.850),
    ("Debenedetti2022Light_XCiT-S12 (RobustBench)", "autoattack", "4/255", "robust_accuracy", 41.78),
    ("AlexNet (RobustBench)", "shot_noise", "5", "top1", 1.2),
    ("AlexNet (RobustBench)", "near_focus", "1", "top1", 46.16),
    ("resnet50.tv_in1k", "shot_noise", "1", "top1", 58.28),
    ("efficientnet-l2-noisystudent (ImageNet testbed)", "imagenet-a", "", "top1", 84.853),
)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return archived()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_row_passes_the_checks_of_a_csv_file(path: Path, tmp_path: Path) -> None:
    read_archive(path).to_csv(tmp_path / "rows.csv", index=False)
    pd.testing.assert_frame_equal(read_references(tmp_path / "rows.csv"), read_archive(path))


def test_every_number_has_a_source_a_licence_rules_and_a_tolerance(rows: pd.DataFrame) -> None:
    assert (rows["source"] != "").all()
    assert rows["url"].str.startswith("https://github.com/").all()
    assert set(rows["licence"]) == {"Apache-2.0", "MIT"}
    assert (rows["rules"] != "").all()
    assert (rows["tolerance"] > 0).all()
    assert set(rows["evidence"]) == {"authors"}


def test_every_scenario_is_one_that_a_run_can_have(rows: pd.DataFrame) -> None:
    sets = {"imagenet-a", "imagenet-r", "imagenet-sketch", "imagenet-stylized", "objectnet", "val-of-imagenet-a", "val-of-imagenet-r"}
    sets |= {f"imagenet-v2-{split}" for split in ("matched-frequency", "threshold-0.7", "top-images")}
    depth = {"near_focus", "far_focus", "bit_error", "color_quant", "flash", "fog_3d", "h265_abr", "h265_crf", "iso_noise", "low_light"}
    depth |= {"xy_motion_blur", "z_motion_blur"}
    made = {*registry.entries("corruption"), *registry.entries("attack")}
    assert set(rows["scenario"]) <= {"clean", ""} | sets | depth | made
    assert set(rows["base"]) == {"imagenet", "cifar10", "cifar100"}


@pytest.mark.parametrize(("model", "scenario", "severity", "metric", "value"), FACTS)
def test_numbers_are_those_of_their_sources(
    rows: pd.DataFrame, model: str, scenario: str, severity: str, metric: str, value: float
) -> None:
    key = {"model": model, "scenario": scenario, "severity": severity, "metric": metric}
    assert value in set(rows[(rows[list(key)] == list(key.values())).all(axis=1)]["value"])


def test_robustbenchs_averages_are_those_of_its_75_accuracies(rows: pd.DataFrame) -> None:
    own = rows[rows["source"].str.startswith("RobustBench") & ~rows["url"].str.contains("_3d")]
    cells = own[(own["metric"] == "top1") & (own["severity"] != "")].groupby(["model", "base"])["value"].agg(["mean", "size"])
    means = own[own["metric"] == "mean_err_15"].set_index(["model", "base"])["value"]
    both = cells[cells["size"] == 75].join(means, how="inner")
    assert len(both) > 40
    off = (100 - both["mean"] - both["value"]).abs()
    assert (off < 0.0051).mean() > 0.9, off[off >= 0.0051]
    assert off.max() < 1.5  # the rest differs in RobustBench's own files


def test_models_of_the_testbed_with_timms_name_have_timms_accuracy(rows: pd.DataFrame) -> None:
    clean = all_references().query("scenario == 'clean' and metric == 'top1' and base == 'imagenet'")
    timm = clean[clean["source"].str.startswith("timm ")].set_index("model")["value"]
    testbed = clean[clean["source"].str.contains("testbed") & ~clean["model"].str.contains("testbed")].set_index("model")["value"]
    assert len(testbed) > 25
    assert (testbed - timm[timm.index.isin(testbed.index)]).abs().max() <= 0.06


def test_no_number_is_given_twice_in_all_that_ships() -> None:
    key = ["model", "img_size", "base", "scenario", "severity", "params", "metric", "pictures", "rules", "source"]
    everything = all_references()
    assert len(everything) == len(references()) + len(archived())
    assert not everything.duplicated(key).any()


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < 500_000
    assert len(archived()) > 70_000


def test_the_same_rows_give_the_same_bytes(rows: pd.DataFrame, tmp_path: Path) -> None:
    few = rows.sample(500, random_state=np.random.RandomState(0))
    for name in ("a", "b"):
        write_archive(few, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    pd.testing.assert_frame_equal(read_archive(tmp_path / "a"), few.reset_index(drop=True).astype(COLUMNS))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match="cannot be read as an archive"):
        read_archive(tmp_path / "a.parquet")
