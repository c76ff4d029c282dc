"""A patch for all images, fitted over places, sizes and rotations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from exact import classifier, few, images, linear, load_batch
from torch import Tensor, nn

import robustvit as rv
from robustvit.attacks.universal_patch import Placement, Shape, fit_patch, placed, universal_patch
from robustvit.errors import BadParameter, GradientAbsent, StoreError
from robustvit.primitives.draws import Draws
from robustvit.records.store import Store

SETTINGS: dict[str, Any] = {
    "smallest": 0.3, "largest": 0.6, "rotation": 20.0, "shape": "circle", "target": None, "black": 0.1, "white": 0.9, "smoothness": 0.0,
    "samples": 40, "epochs": 8, "step": 32 / 255,
}  # fmt: skip
UNIFORMS = Draws(0, "luck", [str(i) for i in range(40)]).uniform(4)


def fitted(model: Any, labels: Tensor, side: int = 12, **changed: Any) -> Tensor:
    pixels = images(len(labels), side)
    return fit_patch(model, load_batch(pixels, labels), Draws(0, "x", ["l"]), train=few(labels, side), **{**SETTINGS, **changed})["patch"]


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_a_patch_lies_inside_and_covers_what_its_size_says(shape: Shape) -> None:
    grey = torch.full((40, 3, 60, 80), 0.5)
    for share in (0.2, 0.5):
        covered = (placed(grey, torch.ones(3, 7, 7), UNIFORMS, Placement(share, share, 30.0, shape)) != 0.5).all(dim=1)
        area = covered.flatten(1).sum(dim=1).float()
        side = 60 * share
        expected = side**2 * (torch.pi / 4 if shape == "circle" else 1.0)
        assert bool(((area - expected).abs() < 2.5 * side).all())
        assert float((area / expected).mean()) == pytest.approx(1.0, abs=0.03)


def test_places_sizes_and_rotations_are_drawn_and_pixels_not_covered_keep_their_bits() -> None:
    pixels = images(40, 60)
    patch = torch.linspace(0, 1, 3 * 9 * 9).view(3, 9, 9)
    moved = placed(pixels, patch, UNIFORMS, Placement(0.2, 0.4, 45.0, "circle"))
    covered = (moved != pixels).any(dim=1)
    assert len(set(covered.flatten(1).sum(dim=1).tolist())) > 20
    middles = torch.stack([one.nonzero().float().mean(dim=0) for one in covered])
    assert bool((middles.std(dim=0) > 8).all())
    assert torch.equal(moved[3:5], placed(pixels[3:5], patch, UNIFORMS[3:5], Placement(0.2, 0.4, 45.0, "circle")))


def test_a_patch_that_is_neither_rotated_nor_resized_is_pasted_pixel_for_pixel() -> None:
    patch = Draws(0, "patch", ["p"]).uniform(3, 8, 8)[0]
    in_the_corner = torch.tensor([[0.0, 0.5, 0.0, 0.0]])
    moved = placed(torch.zeros(1, 3, 16, 16), patch, in_the_corner, Placement(0.5, 0.5, 0.0, "square"))
    assert torch.allclose(moved[0, :, :8, :8], patch, atol=1e-5)
    assert not bool(moved[0, :, 8:].any())


def test_a_quarter_turn_rotates_the_patch() -> None:
    patch = Draws(0, "patch", ["p"]).uniform(3, 8, 8)[0]
    turned = torch.tensor([[0.0, 1.0, 0.5, 0.5]])
    moved = placed(torch.zeros(1, 3, 8, 8), patch, turned, Placement(1.0, 1.0, 90.0, "square"))
    assert torch.allclose(moved[0], patch.rot90(-1, (1, 2)), atol=1e-4) or torch.allclose(moved[0], patch.rot90(1, (1, 2)), atol=1e-4)


def test_on_a_model_of_brightness_the_patch_is_as_black_or_white_as_can_be_printed() -> None:
    class Bright(nn.Module):
        """Predicts class 1 for bright images."""

        def forward(self, pixels: Tensor) -> Tensor:
            score = 20 * (pixels.flatten(1).mean(dim=1) - 0.5)
            return torch.stack((-score, score), dim=1)

    model = classifier(Bright(), 12)
    inner = slice(2, -2)
    white = fitted(model, torch.zeros(40, dtype=torch.int64), epochs=30)
    assert torch.allclose(white[:, inner, inner], torch.tensor(0.9))
    aimed = fitted(model, torch.ones(40, dtype=torch.int64), target=0, epochs=30)
    assert torch.allclose(aimed[:, inner, inner], torch.tensor(0.1))
    assert white.shape == (3, 7, 7)


def test_smoothness_takes_the_grain_out() -> None:
    model, _ = linear(12)
    labels = model(images(40, 12)).argmax(dim=1)
    grain = [float(fitted(model, labels, smoothness=weight).diff(dim=1).abs().mean()) for weight in (0.0, 1e3)]
    assert grain[1] < 0.5 * grain[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": 2}, "the model has classes 0 to 1"),
        ({"black": 0.9, "white": 0.1}, r"black 0.9 must be below white 0.1"),
        ({"smallest": 0.7}, "smallest 0.7 not above largest 0.6"),
        ({"shape": "square", "largest": 0.9}, "a square of 0.9 of the image, rotated by 20 degrees, does not fit"),
        ({"target": 1}, "nothing but images of the target class"),
    ],
)
def test_impossible_parameters_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        fitted(linear(12)[0], torch.ones(40, dtype=torch.int64), **changed)


def test_fitting_to_a_model_without_gradients_is_refused() -> None:
    class Blind(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return (pixels.flatten(1)[:, :2] * 4).round()

    with pytest.raises(GradientAbsent, match="attack 'universal_patch': model 'exact'"):
        fitted(classifier(Blind(), 12), torch.zeros(40, dtype=torch.int64))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("universal")
    (place / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\ndata: digits\nmetrics: [fooling_rate]\nscenarios:\n  - clean\n"
        "  - universal_patch: {train: {digits: {split: train}}, samples: 128, epochs: [1, 6], largest: 0.5, smallest: 0.4, step: 16/255}\n"
    )
    rv.run(place / "mine.yaml", ["demo"], store=place / "store", limit=80)
    return place / "store"


def test_more_epochs_fool_more_and_each_image_costs_one_query(store: Path) -> None:
    board = rv.leaderboard(store)
    rate = [float(board[board["params"].str.contains(f"epochs={epochs},")]["value"].iloc[0]) for epochs in (1, 6)]
    assert rate[0] + 5 < rate[1]
    rows = next(rows for question, rows in rv.load_records(store) if question.scenario == "universal_patch")
    assert set(rows["queries"][rows["attacked"]]) == {1}
    assert rows["l0"].max() <= 32 * 32 * 0.25 * 3.15 / 4 + 40


def test_the_patch_can_be_read_from_the_store(store: Path) -> None:
    cell = next(question.cell for question, _ in rv.load_records(store) if question.scenario == "universal_patch")
    patch = Store(store).artifact_of(cell)["patch"]
    assert patch.shape == (3, 16, 16)
    assert 0.05 <= float(patch.min()) <= float(patch.max()) <= 0.95 + 1e-6
    clean = next(question.cell for question, _ in rv.load_records(store) if question.scenario == "clean")
    with pytest.raises(StoreError, match="keeps no artifact"):
        Store(store).artifact_of(clean)


def test_a_patch_that_covers_nothing_is_refused() -> None:
    model, _ = linear()
    with pytest.raises(BadParameter, match=r"smallest is 0\.1, 0\.4 pixels of 4; a patch has at least 2: take 0\.5 or more"):
        universal_patch(
            model,
            images(2),
            torch.zeros(2, dtype=torch.int64),
            Draws(0, "u", ("a", "b")),
            {"patch": torch.zeros(3, 2, 2)},
            train=None,
            smallest=0.1,
        )
