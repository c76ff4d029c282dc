"""An anchored model that was trained on digits answers all 1,024 circular shifts alike; its twin without anchors does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vits
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import robustvit as rv
from robustvit.evaluation.evaluate import evaluate
from robustvit.evaluation.loading import load_data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.pixels import pixels
from robustvit.primitives.surgery.modules import changed
from robustvit.transforms.geometry.anchor import anchor

STEPS, SIDE = 160, 32


def digits(split: str) -> tuple[Tensor, Tensor]:
    data = load_data("digits", split=split)
    count = 960 if split == "train" else 200
    images = np.stack([data.load(index).image for index in range(count)])
    return pixels(images), torch.as_tensor(np.asarray(data.labels)[:count])


def small() -> nn.Module:
    return VisionTransformer(
        img_size=SIDE, patch_size=8, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2, num_classes=10, class_token=False, global_pool="avg"
    )


def trained(model: Classifier) -> Classifier:
    """The model after a few steps of Adam on digits."""
    images, labels = digits("train")

    def train(module: nn.Module) -> nn.Module:
        own: Any = module
        for parameter in own.parameters():
            parameter.data = parameter.data.clone()
        own.train().requires_grad_(True)
        optimizer = torch.optim.Adam(own.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(STEPS):
            rows = torch.randint(0, len(images), (64,), generator=generator)
            loss = nn.functional.cross_entropy(own((images[rows] - model.mean) / model.std), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return module.eval().requires_grad_(False)

    return changed(model, train)


@pytest.fixture(scope="module")
def twins() -> tuple[Classifier, Classifier]:
    host = vits.made(small, sharp=1.0).configure(tile=256)
    return trained(anchor(host)), trained(host)


def test_all_shifts_of_a_trained_model_have_one_prediction(twins: tuple[Classifier, Classifier]) -> None:
    images, labels = digits("test")
    anchored, twin = twins
    accuracies, consistencies, apart = [], [], []
    for model in (anchored, twin):
        with torch.no_grad():
            accuracies.append(float((model(images).argmax(dim=1) == labels).float().mean()))
            shifted = torch.cat([images[:32].roll((down, across), dims=(2, 3)) for down in range(SIDE) for across in range(SIDE)])
            logits = model(shifted).unflatten(0, (SIDE * SIDE, 32))
        consistencies.append(float((logits.argmax(dim=2) == logits[0].argmax(dim=1)).float().mean()))
        apart.append(float((logits - logits[0]).abs().max()))
    assert consistencies[0] == 1.0
    assert apart[0] < 1e-5
    assert consistencies[1] < 0.99
    assert accuracies[0] > 0.75
    assert accuracies[1] > 0.75


def test_records_count_ties(twins: tuple[Classifier, Classifier]) -> None:
    data = load_data("digits")
    images = np.stack([data.load(index).image for index in range(4)])
    images[1] = 7
    cell: Any = rv.cell  # type: ignore[attr-defined]
    found = evaluate(cell, twins[0], data, images, np.arange(4))
    assert found is not None
