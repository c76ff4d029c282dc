"""The demo with anchors, trained on for a moment, answers all 1,024 circular shifts of digits alike; the demo itself does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.evaluation.loading import load_data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.pixels import pixels
from robustvit.primitives.surgery.modules import changed
from robustvit.transforms.geometry.anchor import anchor

STEPS, SIDE = 90, 32


def digits(split: str) -> tuple[Tensor, Tensor]:
    data = load_data("digits", split=split)
    samples = [data[index] for index in range(960 if split == "train" else 200)]
    return pixels(np.stack([one.image for one in samples])), torch.tensor([one.label for one in samples])


def trained(model: Classifier) -> Classifier:
    """The model after a few steps of Adam on digits."""
    images, labels = digits("train")

    def train(module: nn.Module) -> nn.Module:
        own: Any = module
        for parameter in own.parameters():
            parameter.data = parameter.data.clone()
        own.train().requires_grad_(True)
        optimizer = torch.optim.Adam(own.parameters(), lr=1e-3)
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
    demo = rv.load_model("demo", tile=256)
    return trained(anchor(demo)), demo


def test_all_shifts_of_a_trained_model_have_one_prediction(twins: tuple[Classifier, Classifier]) -> None:
    images, labels = digits("test")
    found = []
    for model, step in zip(twins, (1, 4), strict=True):
        places = [(down, across) for down in range(0, SIDE, step) for across in range(0, SIDE, step)]
        with torch.no_grad():
            accuracy = float((model(images).argmax(dim=1) == labels).float().mean())
            logits = model(torch.cat([images[:32].roll(shift, dims=(2, 3)) for shift in places])).unflatten(0, (len(places), 32))
        consistency = float((logits.argmax(dim=2) == logits[0].argmax(dim=1)).float().mean())
        found.append((accuracy, consistency, float((logits - logits[0]).abs().max())))
    assert found[0][0] > 0.6, found
    assert found[0][1] == 1.0
    assert found[0][2] < 1e-5
    assert found[1][0] > 0.9
    assert found[1][1] < 0.99


def test_records_say_of_each_image_how_many_anchors_were_tied(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("name: t\ntitle: T\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n")
    assert not rv.run(tmp_path / "t.yaml", ["demo", "demo+anchor"], store=tmp_path / "s", limit=5).failed
    rows = rv.load_records(tmp_path / "s").to_pandas(["sample", "value_tied"])
    anchored = rows["transforms"].fillna("").str.startswith("anchor")
    assert rows.loc[anchored, "value_tied"].tolist() == [0.0] * 5
    assert rows.loc[~anchored, "value_tied"].isna().all()
