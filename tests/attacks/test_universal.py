"""A perturbation fitted once and applied to all images."""

from pathlib import Path

import pytest
import torch
from exact import Stepped, classifier, few, images, linear, load_batch

import robustvit as rv
from robustvit.attacks.universal import fit_perturbation
from robustvit.errors import GradientAbsent
from robustvit.primitives.draws import Draws
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard

SUITE = (
    "name: mine\ntitle: Mine\ndata: digits\nmetrics: [robust_accuracy]\nscenarios:\n"
    "  - uap: {eps: 16/255, train: {digits: {split: train}}, samples: 100, epochs: 2}\n"
)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_for_one_class_of_a_linear_model_it_is_the_best_single_direction(norm: str) -> None:
    model, weight = linear()
    pixels = images(40)
    labels = torch.zeros(40, dtype=torch.int64)
    data = few(labels)
    made = fit_perturbation(
        model, load_batch(pixels, labels), Draws(0, "x", ["l"]), eps=0.05, train=data, norm=norm, samples=40, epochs=20, step=None, clip=9.0
    )  # type: ignore[arg-type]
    gained = float((made["perturbation"].flatten() * weight).sum())
    best = 0.05 * float({"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}[norm])
    assert best * 0.97 < gained <= best * 1.0001


def test_fitting_to_a_model_without_gradients_is_refused() -> None:
    labels = torch.zeros(40, dtype=torch.int64)
    data = few(labels)
    with pytest.raises(GradientAbsent, match="of 40 samples that it is fitted to"):
        fit_perturbation(
            classifier(Stepped(10)), load_batch(images(40), labels), Draws(0, "x", ["l"]), eps=0.05, train=data, norm="linf", samples=40,
            epochs=1, step=None, clip=9.0,
        )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    (place / "mine.yaml").write_text(SUITE)
    rv.run(place / "mine.yaml", ["demo"], store=place / "store", settings=rv.Settings(limit=60))
    return place


def test_it_fools_more_than_noise_of_its_size_with_one_query_an_image(store: Path) -> None:
    rows = next(iter(Store(store / "store").records()))[1]
    assert rows["linf"][rows["attacked"]].max() <= 16 / 255 + 1e-6
    assert set(rows["queries"][rows["attacked"]]) == {1}
    assert float(leaderboard(store / "store")["value"].iloc[0]) < 80.0


def test_it_is_fitted_once_and_kept(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustvit.evaluation.worker.fit", lambda *given: pytest.fail("it was fitted again"))
    summary = rv.run(store / "mine.yaml", ["demo"], store=store / "store", settings=rv.Settings(limit=90))
    assert summary.computed == 30


def test_a_damaged_artifact_is_fitted_again_with_the_same_bytes(store: Path) -> None:
    (kept,) = (store / "store" / "learned").glob("*.safetensors")
    content = kept.read_bytes()
    kept.write_bytes(content[:-4] + b"\0\1\2\3")
    rv.run(store / "mine.yaml", ["demo"], store=store / "store", settings=rv.Settings(limit=120))
    assert kept.read_bytes() == content
    kept.write_bytes(content[:-4] + b"\0\1\2\3")
    again = rv.run(store / "mine.yaml", ["demo"], store=store / "store", settings=rv.Settings(limit=120))
    assert again.computed == 0  # all rows are there, and what they were made with is made anew
    assert kept.read_bytes() == content


def test_a_failed_fit_fails_the_cell_with_its_reason(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object, **more: object) -> None:
        raise GradientAbsent("nothing to fit to")

    monkeypatch.setattr("robustvit.evaluation.worker.fit", broken)
    summary = rv.run(store / "mine.yaml", ["demo"], store=tmp_path / "store", settings=rv.Settings(limit=30))
    assert list(summary.failed.values()) == ["nothing to fit to"]


def test_perturb_fits_too() -> None:
    model, data = rv.load_model("demo"), rv.load_data("digits")
    pixels = torch.stack([model.preprocess(data[i].image) for i in range(20)])
    labels = torch.tensor([data[i].label for i in range(20)])
    moved = rv.perturb(model, pixels, labels, "uap", eps="16/255", train={"digits": {"split": "train"}}, samples=64, epochs=1)
    right = model(pixels).argmax(dim=1) == labels
    change = (moved - pixels)[right]
    assert 0 < float(change.abs().max()) <= 16 / 255 + 1e-6
