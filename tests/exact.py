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


class ConvolutionAsAttention(nn.Module):
    """A convolution of an image computed as multi-head attention between its patches, one head for each neighbour (Cordonnier et al. 2020).

    weight: (D, C, K, K) of odd K, with (K − 1)/2 at most the side of a patch. Head (dy, dx) attends only to the patch dy below and dx to
    the right, by a bias of relative positions, and its values are the part of the convolution that reads there; a sum over heads.
    sharpness: the bias of that patch over the others, of which a softmax is taken; None attends to it alone. circular: patches beyond a
    side are those of the opposite one; else they count as zeros, from a token more that all heads attend to there.
    """

    def __init__(self, weight: Tensor, patch: int, *, circular: bool, sharpness: float | None = None) -> None:
        super().__init__()
        self.weight, self.patch, self.circular, self.sharpness = weight, patch, circular, sharpness
        self.heads = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)] if weight.shape[2] > 1 else [(0, 0)]

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, D, H, W)."""
        side, grid = self.patch, (images.shape[2] // self.patch, images.shape[3] // self.patch)
        tokens = nn.functional.unfold(images, side, stride=side).transpose(1, 2)
        tokens = torch.cat((tokens, torch.zeros_like(tokens[:, :1])), dim=1)
        mixed = sum(self.attention(grid, head).to(tokens) @ (tokens @ self.value(head).T) for head in self.heads)
        assert isinstance(mixed, Tensor)
        return nn.functional.fold(mixed.transpose(1, 2), tuple(images.shape[2:]), side, stride=side)

    def attention(self, grid: tuple[int, int], head: tuple[int, int]) -> Tensor:
        """(T, T + 1): the attention map of a head between patches and the token of zeros."""
        rows, columns = torch.meshgrid(*(torch.arange(length) for length in grid), indexing="ij")
        down, across = rows + head[0], columns + head[1]
        inside = (down >= 0) & (down < grid[0]) & (across >= 0) & (across < grid[1])
        place = (down % grid[0]) * grid[1] + across % grid[1]
        wanted = place if self.circular else torch.where(inside, place, grid[0] * grid[1])
        chosen = nn.functional.one_hot(wanted.flatten(), grid[0] * grid[1] + 1).double()
        return chosen if self.sharpness is None else (self.sharpness * chosen).softmax(dim=1)

    def value(self, head: tuple[int, int]) -> Tensor:
        """(D · p², C · p²): the part of the convolution that reads from the patch of a head."""
        side, outputs, channels = self.patch, *self.weight.shape[:2]
        ones = torch.eye(channels * side * side, dtype=self.weight.dtype).view(-1, channels, side, side)
        place = torch.zeros(len(ones), channels, 3 * side, 3 * side, dtype=self.weight.dtype)
        top, left = (1 + head[0]) * side, (1 + head[1]) * side
        place[:, :, top : top + side, left : left + side] = ones
        read = nn.functional.conv2d(place, self.weight, padding="same")[:, :, side : 2 * side, side : 2 * side]
        return read.reshape(len(ones), outputs * side * side).T


def conv_as_attention(
    weight: Tensor, patch: int, head: Tensor, side: int, *, circular: bool = True, sharpness: float | None = None
) -> Classifier:  # fmt: skip
    """A Classifier of one such attention, ReLU, the mean over the image and a linear head (K, D), in float64.

    With circular patches whole-patch shifts leave its logits as they are, and so do all shifts, as for the convolution that it is.
    """
    attention = ConvolutionAsAttention(weight.double(), patch, circular=circular, sharpness=sharpness)
    linear_head = nn.Linear(head.shape[1], head.shape[0], bias=False, dtype=torch.float64)
    linear_head.weight = nn.Parameter(head.double())
    return classifier(nn.Sequential(attention, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear_head), side)
