"""Every model that ships loads by its name, and is what its row and its card say."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

import robustvit as rv
from robustvit.cli.commands.catalogue import index
from robustvit.errors import BadParameter, UnknownName
from robustvit.models.checkpoint import read_about
from robustvit.models.demo import WEIGHTS, shipped_models
from robustvit.spec.registry import entries, lookup

ZOO = {name: row for name, row in shipped_models().items() if "recipe" in row}
ROBUST = [name for name in ZOO if name.startswith(("demo/pgd-at", "demo/trades", "demo/fast-at"))]
PLAIN = [name for name in ZOO if name.startswith("demo/plain")]
ROUNDED = 2  # of 40 predictions, where another machine rounds otherwise


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The first held-out digits, (40, 3, 32, 32) in [0, 1], and their labels."""
    data = rv.load_data("digits")
    samples = [data[place] for place in range(40)]
    images = torch.tensor(np.stack([one.image for one in samples])).permute(0, 3, 1, 2) / 255
    return images, torch.tensor([one.label for one in samples])


@pytest.mark.parametrize("name", ZOO)
def test_a_file_is_the_one_that_its_row_is_of(name: str) -> None:
    content = (WEIGHTS / ZOO[name]["file"]).read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (ZOO[name]["sha256"], ZOO[name]["bytes"])


@pytest.mark.parametrize("name", ZOO)
def test_a_card_says_what_its_row_does(name: str) -> None:
    row, text = ZOO[name], (WEIGHTS / f"{name.replace('/', '-')}.md").read_text(encoding="utf-8")
    value, low, high = row["clean"]
    for said in (row["sha256"], *row["commands"], row["first"], f"{row['parameters']:,} parameters", f"{row['bytes']:,} bytes"):
        assert said in text
    assert f"| clean accuracy | {value:.1f} [{low:.1f}, {high:.1f}] % |" in text


@pytest.mark.parametrize("name", ZOO)
def test_a_model_predicts_the_first_digits_as_its_row_says(name: str, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    model, row = rv.load_model(name), ZOO[name]
    with torch.no_grad():
        found = model(digits[0]).argmax(dim=1)
    said = torch.tensor([int(one) for one in row["first"]])
    assert int((found != said).sum()) <= ROUNDED
    right = float((said == digits[1]).float().mean())
    assert abs(100 * right - row["clean"][0]) < 25  # 40 of the 500 that the accuracy is of
    assert (model.card.label, model.card.weights, model.card.licence) == (name, "bundled", "Apache-2.0")


@pytest.mark.parametrize("name", ZOO)
def test_a_file_holds_the_command_and_accuracy_of_its_row(name: str) -> None:
    about = read_about(WEIGHTS / ZOO[name]["file"])
    assert about.command == ZOO[name]["commands"][-1]
    assert about.accuracy == pytest.approx(ZOO[name]["clean"][0] / 100, abs=0.003)


def test_every_file_has_a_row_and_every_row_its_files() -> None:
    named = {row["file"] for row in shipped_models().values()}
    assert {path.name for path in WEIGHTS.glob("*.safetensors")} == named
    assert {path.name for path in WEIGHTS.glob("*.md")} == {name.replace(".safetensors", ".md") for name in named}


def test_all_weights_together_are_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= 10_000_000


@pytest.mark.parametrize("name", PLAIN)
def test_undefended_models_classify_digits_and_fall_to_pgd(name: str) -> None:
    assert ZOO[name]["clean"][0] >= 95
    assert ZOO[name]["pgd"][2] < 10


@pytest.mark.parametrize("name", ROBUST)
def test_robust_models_keep_most_digits_under_pgd(name: str) -> None:
    assert ZOO[name]["clean"][0] >= 90
    assert ZOO[name]["pgd"][1] > 50


@pytest.mark.parametrize("name", ZOO)
def test_a_verdict_follows_from_its_interval(name: str) -> None:
    claim: dict[str, Any] | None = ZOO[name].get("claim")
    if claim is not None:
        _, low, high = claim["difference"]
        assert (claim["verdict"] == "no difference shown") == (low <= 0 <= high)


def test_models_of_the_table_are_listed() -> None:
    assert set(shipped_models()) <= {row["name"] for row in index("models")}
    assert entries("model")["demo/ablations"].summary.startswith("The demo trained further on ablations")


@pytest.mark.parametrize("load", [rv.load_model, lambda name: lookup("model", name)])
def test_a_misspelt_name_of_the_family_is_told_the_nearest(load: Any) -> None:
    with pytest.raises(UnknownName, match=r"no model is called 'demo/ablatons'\. Did you mean 'demo/ablations'"):
        load("demo/ablatons")


def test_a_checkpoint_in_a_folder_of_the_familys_name_is_told_how_it_is_written() -> None:
    with pytest.raises(BadParameter, match=r"A checkpoint is written file:demo/mine\.safetensors"):
        rv.load_model("demo/mine.safetensors")
