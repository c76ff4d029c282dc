"""Position embeddings taken away or exchanged, against tensors written by hand and against moving the patches themselves."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import vits
from torch import Tensor

from robustvit.analyses.lesions.position_reliance import position_reliance
from robustvit.errors import HostRefused, ModelError
from robustvit.metrics.lesions.position_metrics import position_agreement, position_divergence
from robustvit.metrics.lesions.position_metrics import position_reliance as accuracy_lost
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import chance, keyed_by
from robustvit.transforms.structure.position_lesion import position_lesion

DRAWS = Draws(0, "x", tuple("abcdef"))
HOSTS = ["plain", "registers", "distilled", "average-pooled"]


def host(make: str = "plain") -> Classifier:
    """A host whose positions matter."""
    model = vits.made(vits.HOSTS[make], sharp=6.0)
    with torch.no_grad():
        model.model.pos_embed.normal_(generator=torch.Generator().manual_seed(5))
    return model


def with_patches(model: Classifier, change: Any) -> Classifier:
    """A copy whose embeddings of the 16 patches, the last ones, are changed."""
    made = copy.deepcopy(model)
    made.model.pos_embed.data[:, -16:] = change(made.model.pos_embed.data[:, -16:])
    return made


@pytest.mark.parametrize("make", HOSTS)
def test_lesions_are_of_the_patches_alone(make: str) -> None:
    model, pixels = host(make), vits.images(5)
    order = Draws(3, "positions", ["all"]).permutation(16)[0]
    for given, change in (
        ({"lesion": "dropped"}, lambda old: 0 * old), ({"lesion": "mean"}, lambda old: old.mean(dim=1, keepdim=True)),
        ({"lesion": "shuffled", "seed": 3}, lambda old: old[:, order]),
    ):  # fmt: skip
        made = position_lesion(model, **given)
        assert torch.allclose(made(pixels), with_patches(model, change)(pixels), atol=1e-5)
        assert not torch.allclose(made(pixels), model(pixels), rtol=0, atol=1e-3)


def moved(pixels: Tensor, order: Tensor) -> Tensor:
    """The images whose patch i is where patch order[i] was: its content keeps its embedding of before."""
    patches = pixels.unfold(2, 8, 8).unfold(3, 8, 8).reshape(len(pixels), 3, 16, 8, 8)
    out = torch.empty_like(patches)
    out[:, :, order] = patches
    return out.view(len(pixels), 3, 4, 4, 8, 8).permute(0, 1, 2, 4, 3, 5).reshape(pixels.shape)


def test_shuffled_positions_are_patches_moved_the_other_way() -> None:
    model, pixels = host(), vits.images(5)
    order = Draws(0, "positions", ["all"]).permutation(16)[0]
    assert torch.allclose(position_lesion(model)(pixels), model(moved(pixels, order)), atol=1e-4)


@pytest.mark.parametrize("make", HOSTS)
def test_each_sample_has_a_permutation_of_its_own_draws(make: str) -> None:
    model, pixels = position_lesion(host(make), each="sample").configure(tile=4), vits.images(6)
    logits = keyed_by(model, DRAWS)(pixels)
    orders = chance(DRAWS).at("order of positions").permutation(16)
    for row, order in enumerate(orders):
        assert torch.allclose(logits[row], host(make)(moved(pixels[row : row + 1], order))[0], atol=1e-4)
    some = torch.tensor([4, 1])
    assert torch.equal(keyed_by(model, DRAWS[some])(pixels[some]), logits[some])
    with pytest.raises(ModelError, match="bind it to samples first"):
        model(pixels)


def test_the_model_of_hugging_face_is_taken() -> None:
    model, pixels = vits.made(vits.HuggingFace), vits.images(4)
    embeddings = model.model.inner.vit.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.normal_()
    expected = copy.deepcopy(model)
    expected.model.inner.vit.embeddings.position_embeddings.data[:, 1:] = 0.0
    assert torch.allclose(position_lesion(model, lesion="dropped")(pixels), expected(pixels), atol=1e-5)
    both = [position_lesion(model, each="sample").bound(Draws(0, "model", tuple("abcd"))) for _ in range(2)]
    assert torch.equal(both[0](pixels), both[1](pixels))


@pytest.mark.parametrize("make", ["swin", "eva", "cnn"])
def test_models_without_positions_are_refused_by_name(make: str) -> None:
    model = vits.made(vits.HOSTS[make])
    for call in (position_lesion, lambda one: position_reliance(one, vits.images(6), torch.zeros(6), DRAWS)):
        with pytest.raises(HostRefused, match="takes models with a learned position embedding, and 'toy' is none: it has no learned"):
            call(model)


def test_reliance_is_what_the_transforms_predict() -> None:
    model, pixels = host(), vits.images(6)
    labels = model(pixels).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 5
    found = position_reliance(model, pixels, labels, DRAWS, shuffles=1)
    assert found["value_position_right"].tolist() == [0, 1, 1, 1, 1, 1]
    for lesion in ("dropped", "mean", "shuffled"):
        logits = position_lesion(model, lesion=lesion)(pixels)
        assert found[f"value_{lesion}_right"].tolist() == (logits.argmax(dim=1) == labels).float().tolist()
        assert found[f"value_{lesion}_agree"].tolist() == (logits.argmax(dim=1) == model(pixels).argmax(dim=1)).float().tolist()
        divergence = torch.distributions.kl_divergence(*(torch.distributions.Categorical(logits=one) for one in (model(pixels), logits)))
        assert torch.allclose(found[f"value_{lesion}_kl"], divergence, atol=1e-4)


def test_shuffles_are_averaged_and_a_model_without_use_of_positions_relies_on_none() -> None:
    model, pixels, labels = host(), vits.images(6), torch.zeros(6, dtype=torch.int64)
    shares = position_reliance(model, pixels, labels, DRAWS, shuffles=4)["value_shuffled_right"] * 4
    assert torch.equal(shares, shares.round())
    flat = with_patches(model, lambda old: old.mean(dim=1, keepdim=True))
    found = position_reliance(flat, pixels, labels, DRAWS)
    assert found["value_shuffled_agree"].tolist() == [1.0] * 6
    assert float(found["value_shuffled_kl"].max()) < 1e-6


def test_metrics_of_positions() -> None:
    table = pd.DataFrame({
        "value_position_right": [1.0, 1.0, 0.0], "value_mean_right": [1.0, 0.0, 0.0], "value_mean_agree": [1.0, 0.0, 1.0],
        "value_mean_kl": [0.1, 2.0, 0.3],
    })  # fmt: skip
    assert accuracy_lost(table, lesion="mean").tolist() == [0, 1, 0]
    assert position_agreement(table, lesion="mean").tolist() == [1, 0, 1]
    assert np.allclose(position_divergence(table, lesion="mean"), [0.1, 2.0, 0.3])
