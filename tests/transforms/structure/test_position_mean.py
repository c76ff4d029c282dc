"""The pattern of positions is subtracted exactly where it was planted, and logits of pooled tokens do not see it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import UpsampledClassifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.surgery.patch_features import patch_features
from robustvit.spec.view import View
from robustvit.transforms.structure.position_mean import PositionsSubtracted, fit_positions, position_mean


class Colours:
    """Images of one colour each, whose patches differ by their positions alone."""

    name, ids = "colours", tuple(map(str, range(20)))
    labels = np.zeros(20, int)

    def __len__(self) -> int:
        return 20


def load_colours(data: Colours, positions: np.ndarray) -> Batch:
    levels = torch.rand(20, 3, 1, 1, generator=torch.Generator().manual_seed(4))[positions]
    return Batch(levels.expand(-1, -1, vits.SIDE, vits.SIDE), torch.zeros(len(positions)).long(), tuple(map(str, positions)))


def planted(**more: Any) -> Classifier:
    """Patch features are a projection of each patch, and a map of positions added to it."""

    def make() -> nn.Module:
        module: Any = vits.vit(depth=1, **more)
        for last in (module.blocks[0].attn.proj, module.blocks[0].mlp.fc2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        nn.init.normal_(module.pos_embed)
        module.norm = nn.Identity()
        whole: nn.Module = module
        return whole

    return vits.made(make, sharp=1.0)


def subtracted(model: Classifier, samples: int = 8, strength: float = 1.0) -> Classifier:
    given: dict[str, Any] = {"calibration": Colours(), "samples": samples, "strength": strength}
    artifact = fit_positions(model, load_colours, Draws(0, "transform", ["fit"]), **given)  # type: ignore[arg-type]
    return position_mean(model, artifact, **given)


def pattern(model: Classifier) -> Tensor:
    """(P, D): the planted map less its mean."""
    vit: Any = model.model
    places = vit.pos_embed[0, vit.num_prefix_tokens :]
    return places - places.mean(dim=0)


@pytest.mark.parametrize("more", [{}, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}])
@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_a_planted_pattern_is_subtracted_exactly(more, strength) -> None:
    model = planted(**more)
    images = vits.images(6)
    found = patch_features(subtracted(model, strength=strength), images)
    assert torch.allclose(found, patch_features(model, images) - strength * pattern(model), atol=1e-5)


def test_other_tokens_stay() -> None:
    tokens = torch.rand(2, 7, 3)
    found = PositionsSubtracted(nn.Identity(), torch.ones(5, 3), 2)(tokens)
    assert torch.equal(found[:, :2], tokens[:, :2])
    assert torch.equal(found[:, 2:], tokens[:, 2:] - 1)
    with pytest.raises(ModelError, match="takes all 5 patch tokens of an image, not 4"):
        PositionsSubtracted(nn.Identity(), torch.ones(5, 3), 2)(tokens[:, :6])


@pytest.mark.parametrize(("pool", "same"), [("token", True), ("avg", True), ("max", False)])
def test_logits_change_only_where_pooling_sees_positions(pool, same) -> None:
    model = planted(global_pool=pool)
    before, after = model(vits.images(6)), subtracted(model)(vits.images(6))
    assert torch.allclose(before, after, atol=1e-5) is same


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(HostRefused, match="has learned of 4 patches, and images of 32x32 pixels have 16"):
        position_mean(planted(), {"positions": torch.zeros(4, 24)}, calibration=Colours(), samples=8)  # type: ignore[arg-type]


def test_patches_are_counted_on_the_images_that_the_model_computes_on() -> None:
    model = UpsampledClassifier(planted(), View((16, 16), None, shown=(32, 32)))
    images = torch.rand(2, 3, 16, 16)
    made = position_mean(model, {"positions": pattern(model)}, calibration=Colours(), samples=8)  # type: ignore[arg-type]
    assert torch.allclose(patch_features(made, images), patch_features(model, images) - pattern(model), atol=1e-5)


def test_it_is_learned_and_kept_by_address(tmp_path) -> None:
    model = rv.load_model("demo+position_mean(calibration=digits,samples=12)")
    rv.save_checkpoint(model, tmp_path / "a.safetensors")
    again = rv.load_model(f"file:{tmp_path / 'a.safetensors'}")
    assert torch.equal(patch_features(again, vits.images(2)), patch_features(model, vits.images(2)))
