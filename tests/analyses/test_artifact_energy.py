"""The share that position explains, against sums written out and closed forms, and the metric over a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.analyses.artifact_energy import artifact_energy, fit_mean
from robustvit.data.formats.arrays import array_dataset
from robustvit.errors import HostRefused
from robustvit.metrics.patch_features import artifact_energy as energy
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import UpsampledClassifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.surgery.patch_features import patch_features
from robustvit.spec.sample_order import order
from robustvit.spec.view import View

IDS = tuple("abcdef")
SEEN = 200


def planted(spread: float = 1.0) -> Classifier:
    """Patch features are a projection of each patch, and a map of positions added to it."""

    def make() -> nn.Module:
        module: Any = vits.vit(depth=1, class_token=False, global_pool="avg")
        for last in (module.blocks[0].attn.proj, module.blocks[0].mlp.fc2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        nn.init.normal_(module.pos_embed, std=spread)
        whole: nn.Module = module
        return whole

    return vits.made(make, sharp=1.0)


def noise() -> Data:
    levels = np.random.default_rng(0).integers(0, 256, (SEEN, vits.SIDE, vits.SIDE, 3), np.uint8)
    return array_dataset("noise", levels, np.zeros(SEEN, int), ids=[f"n{i}" for i in range(SEEN)], classes=["a"])


def load(data: Data, positions: np.ndarray) -> Batch:
    images = torch.stack([torch.tensor(data[int(i)].image).permute(2, 0, 1) / 255 for i in positions])
    return Batch(images, torch.zeros(len(positions)).long(), tuple(data.ids[int(i)] for i in positions))


def measured(model: Classifier, mean: Tensor, images: Tensor, roll: bool = False) -> dict[str, Tensor]:
    draws = Draws(0, "analysis", IDS[: len(images)])
    return artifact_energy(model, images, torch.zeros(len(images)), draws, {"mean": mean}, calibration=noise(), roll=roll)


def test_the_columns_are_sums_over_positions_and_channels() -> None:
    model, mean = vits.made(vits.vit, 1.0), torch.randn(16, 24, dtype=torch.float64)
    found, features = measured(model, mean, vits.images(6)), patch_features(model, vits.images(6)).double().numpy()
    for row in range(6):
        varying = features[row] - features[row].mean(axis=0)
        rest = varying - (mean.numpy() - mean.numpy().mean(axis=0))
        assert float(found["value_patch_variance"][row]) == pytest.approx((varying**2).sum() / 16, rel=1e-5)
        assert float(found["value_position_residual"][row]) == pytest.approx((rest**2).sum() / 16, rel=1e-5)
        assert float(found["value_artifact_energy"][row]) == pytest.approx(1 - (rest**2).sum() / (varying**2).sum(), abs=1e-5)


def test_the_fitted_map_is_the_mean_over_the_first_samples() -> None:
    model, data = vits.made(vits.vit, 1.0), noise()
    found = fit_mean(model, load, Draws(0, "fit", ["fit"]), calibration=data, samples=20, roll=False)["mean"]
    assert torch.allclose(found, patch_features(model, load(data, order(data.ids)[:20]).images).double().mean(dim=0), atol=1e-6)


def test_a_planted_map_explains_its_closed_form_out_of_sample() -> None:
    """Patches of independent noise: ‖G‖²/P of the variance is the map's, and (1 − 1/P)·tr Σ that of the patches."""
    model = planted(0.5)
    vit: Any = model.model
    places = (vit.pos_embed - vit.pos_embed.mean(dim=1, keepdim=True))[0].double()
    weight = vit.patch_embed.proj.weight.double() / torch.tensor((0.5, 0.25, 0.2)).view(1, 3, 1, 1)
    patches = float(weight.square().sum()) / 12 * (1 - 1 / 16)
    expected = 1 - patches * (1 + 1 / SEEN) / (patches + float(places.square().sum()) / 16)
    mean = fit_mean(model, load, Draws(0, "fit", ["fit"]), calibration=noise(), samples=SEEN, roll=False)["mean"]
    found = [measured(model, mean, torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(9 + i))) for i in range(10)]
    residual, variance = (torch.cat([one[name] for one in found]).sum() for name in ("value_position_residual", "value_patch_variance"))
    assert 0.3 < expected < 0.9
    assert float(1 - residual / variance) == pytest.approx(expected, abs=0.02)


def test_a_map_that_does_not_fit_is_worse_than_nothing() -> None:
    model = planted()
    vit: Any = model.model
    assert bool((measured(model, -vit.pos_embed[0].double(), vits.images(6))["value_artifact_energy"] < 0).all())


def test_equal_features_everywhere_have_no_share() -> None:
    found = measured(planted(0.0), torch.zeros(16, 24), torch.full((2, 3, 32, 32), 0.5))
    assert bool(found["value_artifact_energy"].isnan().all())


def test_rolled_images_leave_what_the_model_adds() -> None:
    """All images are one: without a roll position explains everything, with one no more than the planted map."""
    image = vits.images(1)
    levels = (image.repeat(200, 1, 1, 1) * 255).byte().permute(0, 2, 3, 1).numpy()
    data = array_dataset("one", levels, np.zeros(200, int), ids=[f"o{i}" for i in range(200)], classes=["a"])

    def share(spread: float, roll: bool) -> float:
        model = planted(spread)
        mean = fit_mean(model, load, Draws(0, "fit", ["fit"]), calibration=data, samples=200, roll=roll)["mean"]
        return float(measured(model, mean, load(data, np.arange(6)).images, roll)["value_artifact_energy"].mean())

    assert share(0.0, False) > 0.999
    assert abs(share(0.0, True)) < 0.2
    assert share(20.0, True) > 0.95


def test_other_models_are_refused() -> None:
    with pytest.raises(HostRefused, match=r"final patch tokens are those of timm's plain vision transformers, and 'toy' is none"):
        measured(vits.made(vits.HOSTS["swin"]), torch.zeros(16, 24), vits.images(1))


def test_images_that_the_model_resizes_are_not_rolled() -> None:
    model = UpsampledClassifier(planted(), View((16, 16), None, shown=(32, 32)))
    images = torch.rand(2, 3, 16, 16)
    assert bool((measured(model, torch.zeros(16, 24), images)["value_artifact_energy"] == 0).all())
    with pytest.raises(HostRefused, match="roll=true moves images by whole patches, and 'toy' resizes them before it"):
        measured(model, torch.zeros(16, 24), images, roll=True)


def test_the_metric_is_a_ratio_of_sums() -> None:
    records = pd.DataFrame({"sample": list("abc"), "value_position_residual": [1.0, 2.0, 9.0], "value_patch_variance": [2.0, 4.0, 2.0]})
    share = energy(records)
    assert share.of(np.array([[1, 1, 1], [2, 0, 0]])).tolist() == [1 - 12 / 8, 0.5]


def test_it_is_a_row_of_a_board(tmp_path) -> None:
    suite = tmp_path / "energy.yaml"
    suite.write_text(
        "name: energy\ntitle: energy\ndata: digits\nscenarios:\n  - artifact_energy: {calibration: {digits: {split: train}}, samples: 64}\n"
        "metrics: [artifact_energy]\n"
    )
    rv.run(str(suite), models=["demo"], store=tmp_path / "store", limit=32)
    board = rv.leaderboard(tmp_path / "store")
    row = board[board["metric"] == "artifact_energy"].iloc[0]
    assert 0 < row["value"] < 100
    assert row["low"] <= row["value"] <= row["high"]
