"""Models whose predictions and margins are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from robustvit.data.formats.arrays import ArrayDataset
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.reading import Reading
from robustvit.spec.spec import Spec
from robustvit.spec.view import View


class Linear(nn.Module):
    """Two classes; the logit of class 1 minus that of class 0 is w·x + b."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.tensor(bias))

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1) @ self.weight + self.bias
        return torch.stack((torch.zeros_like(score), score), dim=1)


class Stepped(nn.Module):
    """The linear model on pixels rounded to so many steps: the same predictions, and a gradient that is zero everywhere."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.inner, self.steps = linear()[0].model, steps

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.inner((pixels * self.steps).round() / self.steps)
        return logits


def classifier(module: nn.Module, side: int = 4, tile: int = 4, label: str = "exact") -> Classifier:
    """A Classifier around a module, without normalisation."""
    card = Card(label, Spec("given"), fingerprint(module), "given")
    view = View(size=(side, side), resize=None, crop="none")
    return Classifier(module, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), view=view, card=card, tile=tile)


def linear(side: int = 4) -> tuple[Classifier, Tensor]:
    """A linear Classifier on (3, side, side) images and its weight."""
    weight = Draws(0, "weight", ["w"]).normal(3 * side * side)[0]
    return classifier(Linear(weight, -0.5 * float(weight.sum())), side), weight


def needed(logits: Tensor, weight: Tensor, norm: str) -> Tensor:
    """The smallest perturbation in `norm` that flips the linear model on each sample, (N,): the margin over the weight's dual norm."""
    return (logits[:, 1] - logits[:, 0]).abs() / {"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}[norm]


def images(count: int, side: int = 4, low: float = 0.3, high: float = 0.7) -> Tensor:
    """Grey-noise images away from 0 and 1, so that small perturbations are not clipped."""
    return Draws(0, "images", [str(i) for i in range(count)]).uniform(3, side, side, low=low, high=high)


def few(labels: Tensor, side: int = 4) -> ArrayDataset:
    """Data of two classes with these labels; its images are black, see `load_batch`."""
    ids = tuple(str(i) for i in range(len(labels)))
    black = np.zeros((len(labels), side, side, 3), np.uint8)
    return ArrayDataset("few", black.__getitem__, ids, labels.numpy(), ("a", "b"), (Reading("all", 2),), "f")


def load_batch(pixels: Tensor, labels: Tensor) -> Callable[[Data, np.ndarray], Batch]:
    """The loader that the fit of a scenario is given, which returns these pixels for `few`."""
    return lambda data, positions: Batch(pixels[positions], labels[positions], tuple(data.ids[i] for i in positions))
