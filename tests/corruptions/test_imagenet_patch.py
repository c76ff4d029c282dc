"""ImageNet-Patch's patches on images: their placement, their targets, and a suite of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from patch_files import SIDE, SIZE, patch_tensor, write_patches
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

import robustvit as rv
from robustvit.errors import BadParameter
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card
from robustvit.primitives.scenario import scenario
from robustvit.results.summary import summary
from robustvit.spec.binding import bind
from robustvit.spec.registry import scenario_entry
from robustvit.spec.spec import Spec, parse
from robustvit.spec.view import View

IDS = tuple(f"i{number}" for number in range(7))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_patches(tmp_path / "imagenet-patch" / "imagenet_patch.gz")
    monkeypatch.setenv("ROBUSTVIT_DATA", str(tmp_path))
    return tmp_path


def images(count: int = len(IDS)) -> Tensor:
    return rv.Draws(0, "images", IDS[:count]).uniform(3, *SIZE)


def patched(given: Tensor, **params: Any) -> Tensor:
    return rv.perturb(None, given, None, "imagenet_patch", ids=IDS[: len(given)], patches="imagenet-patch", **params)


def uniforms(count: int = len(IDS)) -> Tensor:
    return rv.Draws(0, "corruption/imagenet_patch", IDS[:count]).at("placement").uniform(4).double()


def sampled(whole: Tensor, u: Tensor, rotation: float, translation: float, scales: tuple[float, float]) -> Tensor:
    """An image moved by torch's own affine grid, nearest pixel, in float64."""
    height, width = whole.shape[1:]
    a = math.radians(float(2 * u[0] - 1) * rotation)
    s = scales[0] + (scales[1] - scales[0]) * float(u[1])
    tx, ty = (round(float(2 * u[2 + axis] - 1) * translation * side) for axis, side in enumerate((width, height)))
    forward = [[s * math.cos(a), -s * math.sin(a), tx], [s * math.sin(a), s * math.cos(a), ty], [0, 0, 1]]
    inverse = torch.linalg.inv(torch.tensor(forward, dtype=torch.float64))
    half = torch.diag(torch.tensor([width / 2, height / 2, 1.0])).double()
    theta = (torch.linalg.inv(half) @ inverse @ half)[None, :2]
    grid = affine_grid(theta, [1, *whole.shape], align_corners=False)
    return grid_sample(whole[None].double(), grid, mode="nearest", align_corners=False)[0]


@pytest.mark.parametrize(("rotation", "translation", "scales"), [(45.0, 0.2, (0.7, 1.0)), (180.0, 0.6, (0.3, 2.5))])
def test_the_placement_is_that_of_torchs_affine_grid(files: Path, rotation: float, translation: float, scales: tuple[float, float]) -> None:
    given = images()
    found = patched(given, patch=1, rotation=rotation, translation=translation, smallest=scales[0], largest=scales[1])
    one = patch_tensor()[1]
    for row, u in enumerate(uniforms()):
        mask, moved = (sampled(what, u, rotation, translation, scales) for what in ((one > 0).float(), one))
        assert torch.equal(found[row], torch.where(mask > 0, moved.float(), given[row]))
    assert bool((found != given).flatten(1).any(dim=1).all())


def test_without_movement_the_patch_is_in_the_middle_pixel_by_pixel(files: Path) -> None:
    found = patched(images(), patch=2, rotation=0, translation=0, smallest=1, largest=1)
    one = patch_tensor()[2]
    assert torch.equal(found, torch.where(one > 0, one, images()))
    assert int((one > 0)[0].sum()) == SIDE**2


def test_an_image_has_the_same_placement_under_all_patches_and_in_any_batch(files: Path) -> None:
    places = [(patched(images(), patch=patch) != images()).any(dim=1) for patch in (0, 1)]
    assert torch.equal(*places)
    assert torch.equal(patched(images(3), patch=0), patched(images(), patch=0)[:3])
    assert len({place.numpy().tobytes() for place in places[0]}) == len(IDS)


def made(**params: Any) -> Crafted:
    bound = bind(scenario_entry("imagenet_patch"), parse({"imagenet_patch": {"patches": "imagenet-patch", **params}})[0])
    does = scenario(scenario_entry("imagenet_patch"), bound, {"patches": rv.load_data("imagenet-patch")})
    outcome = does(None, Batch(images(), torch.zeros(len(IDS)).long(), IDS), rv.Draws(0, "corruption/imagenet_patch", IDS))  # type: ignore[arg-type]
    assert outcome.images is not None
    return Crafted(outcome.images, outcome.columns)


def test_the_target_recorded_is_that_of_the_patch_on_the_image(files: Path) -> None:
    assert made(patch=1).columns["value_target"].tolist() == [513.0] * len(IDS)
    drawn = made()
    single = [made(patch=patch) for patch in range(3)]
    for row in range(len(IDS)):
        (which,) = (one for one in single if torch.equal(one.images[row], drawn.images[row]))
        assert which.columns["value_target"][row] == drawn.columns["value_target"][row]
    assert len(set(drawn.columns["value_target"].tolist())) > 1


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"patch": 3}, "patch is 3; the file has 3, 0 to 2"),
        ({"smallest": 0.9, "largest": 0.5}, "smallest is 0.9, which is above largest, 0.5"),
    ],
)
def test_parameters_that_cannot_be_are_refused(files: Path, params: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadParameter, match=reason):
        patched(images(), **params)


def test_images_of_another_size_and_data_without_patches_are_refused(files: Path) -> None:
    with pytest.raises(BadParameter, match="patches are for images of 40x44, these are 32x32"):
        patched(torch.rand(2, 3, 32, 32))
    with pytest.raises(BadParameter, match="data 'digits' holds images, not patches"):
        rv.perturb(None, images(), None, "imagenet_patch", patches="digits")


def test_inside_another_corruption_whose_records_would_lose_the_target_it_is_refused(files: Path) -> None:
    inner = {"imagenet_patch": {"patches": "imagenet-patch", "patch": 0}}
    with pytest.raises(BadParameter, match=r"columns of its own \(value_target\), .* cannot be nested"):
        rv.perturb(None, images(), None, "patch_corruption", corruption=inner, count=None, size=4)


SUITE = """
name: patches
title: Patches
data: npz
scenarios: [clean, {imagenet_patch: {patches: imagenet-patch, patch: [0, 1]}}]
metrics: [top1, target_success_rate]
"""


def linear(classes: int = 1000) -> Classifier:
    """Predicts the last class up to 513 for images that are brighter than half, on average, and class 0 for others."""
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, classes))
    bright = min(513, classes - 1)
    with torch.no_grad():
        net[2].weight.zero_()
        net[2].bias.zero_()
        net[2].weight[bright], net[2].bias[bright] = 1.0, -1.5
    card = Card("linear", Spec("linear"), str(classes), "random")
    return Classifier(net, mean=(0.0,) * 3, std=(1.0,) * 3, view=View(SIZE, SIZE[0]), card=card)


def board_of(files: Path, store: str = "s", classes: int = 1000) -> Any:
    pixels = np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), dtype=np.uint8)
    np.savez(files / f"{classes}.npz", images=pixels, labels=np.arange(40) % classes, classes=np.array([f"c{i}" for i in range(classes)]))
    (files / "suite.yaml").write_text(SUITE)
    rv.run(files / "suite.yaml", [linear(classes)], f"npz:{files}/{classes}.npz", store=files / store)
    return rv.leaderboard(files / store)


def test_a_suite_reports_accuracy_under_each_patch_and_the_share_predicted_as_its_target(files: Path) -> None:
    board = board_of(files)
    rates = board[board["metric"] == "target_success_rate"].set_index("params")
    predictions = {question.params: rows for question, rows in rv.load_records(files / "s") if question.scenario == "imagenet_patch"}
    assert set(rates.index) == set(predictions)
    assert len(predictions) == 2
    for params, rows in predictions.items():
        (target,) = {"0": {804}, "1": {513}}[params.partition("patch=")[2][0]]
        assert rates.loc[params, "value"] == pytest.approx(100 * (rows["pred"] == target).mean())
        assert (rates.loc[params, "n"], rates.loc[params, "status"]) == (40, "complete")
    assert rates["value"].min() == 0
    assert 0 < rates["value"].max() < 100
    assert (board[board["metric"] == "top1"]["n"] == 40).all()
    (shown,) = summary(board).to_dict("records")
    for params, value in rates["value"].items():
        assert shown[f"imagenet_patch {str(params).split(', ')[1]} target_success_rate"].startswith(f"{value:.1f} ")
    assert "differs" not in shown  # one version of the patches, with one content


def test_the_success_rate_is_undefined_on_data_of_other_classes(files: Path) -> None:
    board = board_of(files, classes=10)
    rates = board[board["metric"] == "target_success_rate"]
    assert set(rates["status"]) == {"undefined"}
    assert set(rates["reason"]) == {"the targets are among the 1,000 classes of ImageNet-1k; the data has 10"}


def test_the_content_of_the_file_and_not_its_place_is_part_of_a_cells_identity(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(board_of(files, "a")["cell"])
    elsewhere = files / "elsewhere"
    path = write_patches(elsewhere / "imagenet-patch" / "imagenet_patch.gz")
    monkeypatch.setenv("ROBUSTVIT_DATA", str(elsewhere))
    assert set(board_of(files, "b")["cell"]) == before
    write_patches(path, (0.5 * patch_tensor(), torch.tensor([804.0, 513.0, 9.0]), {"patch_size": SIDE}))
    assert len(set(board_of(files, "c")["cell"]) & before) == 1  # clean
