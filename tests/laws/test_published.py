"""The published numbers that ship: every row parses, traces to a source, and is in range."""

import csv
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch

from robustvit.evaluation.cost.macs import count
from robustvit.results.published.agreement import references
from robustvit.results.published.files import COLUMNS, folder, read_references
from robustvit.spec import registry

FILES = sorted(folder().glob("*.csv"))
OWN = {"clean", "holes", "", "original", "mixed_same", "mixed_rand"}
SETS = {"imagenet-a", "imagenet-r", "imagenet-sketch", "imagenet-v2-matched-frequency"}


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return references()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_parses_and_has_every_column(path: Path) -> None:
    with path.open(newline="") as file:
        assert tuple(next(csv.reader(file))) == tuple(COLUMNS)
    assert len(read_references(path, path.name))


def test_every_number_has_a_source_an_address_and_its_evidence(published: pd.DataFrame) -> None:
    assert (published["source"] != "").all()
    assert published["url"].str.startswith("https://").all()
    assert published["evidence"].isin(["authors", "third party"]).all()
    assert (published["rules"] != "").all()
    assert (published["tolerance"] > 0).all()


def test_every_scenario_is_known(published: pd.DataFrame) -> None:
    sequences = {"translate", "rotate", "tilt", "scale", "shear"}
    made = {*registry.entries("corruption"), *registry.entries("attack"), *registry.entries("analysis")}
    assert set(published["scenario"]) <= OWN | SETS | sequences | made
    assert set(published["base"]) == {"imagenet", "imagenet-9", "model-vs-human"}


def test_every_metric_is_registered_and_its_unit_fits(published: pd.DataFrame) -> None:
    known = registry.entries("metric")
    for metric, unit in published[["metric", "unit"]].drop_duplicates().itertuples(index=False):
        entry = known[metric.partition("(")[0]]
        assert entry.unit == unit or (unit == "fraction" and entry.unit in ("%", "")), metric


def test_values_are_in_range(published: pd.DataFrame) -> None:
    relative = published["metric"].str.startswith(("mce", "mfr", "mt5d"))
    assert published.loc[~relative & (published["unit"] == "%"), "value"].between(0, 100).all()
    assert published.loc[published["unit"] == "fraction", "value"].between(0, 1).all()
    assert published["value"].between(0, 120).all()


def test_no_number_is_given_twice(published: pd.DataFrame) -> None:
    key = ["model", "img_size", "base", "scenario", "severity", "params", "metric", "pictures", "rules"]
    assert not published.duplicated(key).any()


def test_timm_has_six_numbers_of_49_models_that_it_knows(published: pd.DataFrame) -> None:
    own = published[published["source"].str.startswith("timm ")]
    assert own.groupby("model").size().to_dict() == dict.fromkeys(own["model"].unique(), 6)
    assert own["model"].nunique() == 49
    assert all(timm.get_pretrained_cfg(name) is not None for name in own["model"].unique())
    assert own.groupby("scenario")["n"].unique().map(sorted).to_dict() == {
        "clean": [46837, 50000], "imagenet-a": [7500], "imagenet-r": [30000], "imagenet-sketch": [50889],
        "imagenet-v2-matched-frequency": [10000],
    }  # fmt: skip


def test_the_alexnet_errors_are_those_that_mce_divides_by(published: pd.DataFrame) -> None:
    from robustvit.metrics.corruption import alexnet

    own = published[(published["model"] == "AlexNet (torchvision)") & (published["metric"] == "corruption_error")]
    errors = own.set_index("scenario")["value"]
    assert all(errors[name] == pytest.approx(100 * value, abs=1e-4) for name, value in alexnet()["ce_mean"].items())


def test_the_error_of_every_severity_averages_to_alexnets(published: pd.DataFrame) -> None:
    own = published[published["model"] == "AlexNet (torchvision)"]
    means = own[own["metric"] == "error"].groupby("scenario")["value"].mean()
    averages = own[own["metric"] == "corruption_error"].set_index("scenario")["value"]
    assert len(means) == 15
    assert (means - averages[means.index]).abs().max() < 1e-3


def test_background_gaps_are_what_their_accuracies_leave(published: pd.DataFrame) -> None:
    own = published[published["base"] == "imagenet-9"]
    for _, part in own.groupby("model"):
        values = part.set_index(["scenario", "metric"])["value"]
        left = values["mixed_same", "top1"] - values["mixed_rand", "top1"]
        assert left == pytest.approx(values["", "background_gap"], abs=0.0501)


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224.fb_in1k", "pit_ti_224.in1k", "resnet50.a1_in1k"])
def test_costs_are_what_is_counted_here(name: str) -> None:
    costs = pd.read_csv(folder() / "models" / "costs.csv").set_index("model")
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(name)
    size = int(costs.loc[name, "img_size"])
    assert count(model, (size, size)).macs == costs.loc[name, "macs"]
    assert sum(one.numel() for one in model.parameters()) == costs.loc[name, "parameters"]


def test_costs_are_given_for_every_model_of_timms_table(published: pd.DataFrame) -> None:
    costs = pd.read_csv(folder() / "models" / "costs.csv")
    own = published[published["source"].str.startswith("timm ")]
    sizes = own.drop_duplicates("model").set_index("model")["img_size"].to_dict()
    assert dict(zip(costs["model"], costs["img_size"], strict=True)) == sizes
    assert (costs["source"] != "").all()
    assert costs["url"].str.startswith("https://").all()
