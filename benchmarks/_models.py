"""The models of the benchmarks: the bundled demo, and small ones that are trained for a moment; images that they classify rightly."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

import robustvit as rv

MODELS = ("demo", "cnn", "vit")
_VIT = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8,embed_dim=64,depth=3,num_heads=2"


def model_of(name: str) -> rv.Classifier:
    """The demo, or a small model trained on the training split of digits."""
    demo = rv.load_model("demo")
    if name == "demo":
        return demo
    torch.manual_seed(0)
    module = _cnn() if name == "cnn" else rv.load_model(_VIT).model
    _train(module.train().requires_grad_(True), demo, passes=8 if name == "cnn" else 60)
    card = rv.Card(name, rv.Spec(name), "", "given")
    return rv.Classifier(module, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), view=demo.view, card=card, tile=64).identify()


def _cnn() -> nn.Module:
    widths = (3, 16, 32, 64)
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 10))


def _train(module: nn.Module, demo: rv.Classifier, passes: int) -> None:
    data = rv.load_data("digits", split="train")
    images, labels = pixels(demo, data, len(data)), torch.from_numpy(data.labels.copy())
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for _ in range(passes):
        for part in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images[part] * 2 - 1), labels[part]).backward()
            optimizer.step()


def pixels(model: rv.Classifier, data: rv.Data, count: int) -> Tensor:
    """The first images of a data set as the model takes them, (N, 3, H, W) in [0, 1]."""
    return torch.stack([model.preprocess(data[i].image) for i in range(count)])


def classified(model: rv.Classifier, count: int) -> rv.Batch:
    """Of the first digits those that the model classifies rightly."""
    data = rv.load_data("digits")
    images = pixels(model, data, count)
    batch = rv.Batch(images, torch.from_numpy(data.labels[:count].copy()).to(images.device), tuple(data.ids[:count]))
    return batch[robust(model, batch, images)]


def robust(model: rv.Classifier, batch: rv.Batch, images: Tensor) -> Tensor:
    """(N,) bool: which samples are classified rightly on these images."""
    with torch.no_grad():
        return model(images).argmax(dim=1) == batch.labels


class Plain(nn.Module):
    """A model as other libraries take it: pixels to logits, without tiles and without checks."""

    def __init__(self, model: rv.Classifier) -> None:
        super().__init__()
        self.inner, self.centre, self.spread = model.model, model.mean, model.std
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, K) logits."""
        logits: Tensor = self.inner((images - self.centre) / self.spread)
        return logits
