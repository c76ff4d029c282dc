"""A small network trained on digits, with curvature that the linear models of `exact` lack, and a Classifier that records its queries."""

from __future__ import annotations

import copy
import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

SIDE = 16
_HELD_OUT = 300
_STEPS, _ROWS, _RATE = 200, 64, 0.1
_DECIMALS = 3  # of the weights: rounding them makes the network the same wherever it is trained

Array = NDArray[np.float64]


class Digits(NamedTuple):
    """Digits printed in colours: images (N, 3, 16, 16) float64 in [0, 1] and labels (N,)."""

    images: Tensor
    labels: Tensor


@functools.cache
def digits() -> Digits:
    """All digits of scikit-learn, each in two colours of its own. The first `_HELD_OUT` train no network."""
    bunch, random = load_digits(), np.random.default_rng(0)
    shares = torch.from_numpy(bunch.images / 16.0)[:, None]
    shares = functional.interpolate(shares, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    ink, ground = (torch.from_numpy(random.uniform(*span, size=(len(shares), 3, 1, 1))) for span in ((0.55, 1.0), (0.0, 0.45)))
    return Digits((ground + shares * (ink - ground)).round(decimals=4), torch.from_numpy(bunch.target))


@functools.cache
def network(seed: int = 0) -> nn.Module:
    """Two convolutions with GELU and a linear layer, trained for about a second; float64, 10 classes, 93 % of held-out digits right."""
    images, labels = (part[_HELD_OUT:] for part in digits())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.GELU(), nn.Conv2d(8, 12, 3, 2, 1), nn.GELU(), nn.Flatten(), nn.Linear(12 * 16, 10)
        ).double()  # fmt: skip
        moving = [(parameter, torch.zeros_like(parameter)) for parameter in module.parameters()]
        for _ in range(_STEPS):
            rows = torch.randint(len(images), (_ROWS,))
            gradients = torch.autograd.grad(functional.cross_entropy(module(images[rows]), labels[rows]), list(module.parameters()))
            for (parameter, velocity), gradient in zip(moving, gradients, strict=True):  # torch.optim would take seconds to import
                parameter.data += _RATE * velocity.mul_(0.9).sub_(gradient)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.round(decimals=_DECIMALS)).requires_grad_(False)
    return module.eval()


def batch(count: int) -> Digits:
    """The first `count` held-out digits that the network classifies correctly."""
    images, labels = (part[:_HELD_OUT] for part in digits())
    right = (network()(images).argmax(dim=1) == labels).nonzero().flatten()[:count]
    assert len(right) == count
    return Digits(images[right], labels[right])


class Query(NamedTuple):
    """One call of the model: its pixels, and the gradient of the loss with respect to the logits where one was taken, else None."""

    pixels: Array
    pull: Array | None


class Recorder(Classifier):
    """A Classifier around a module that records its queries, in order. It computes one row at a time: no row depends on another."""

    def __init__(self, module: nn.Module, mean: float = 0.0, std: float = 1.0) -> None:
        card = Card("trained", Spec("given"), fingerprint(module), "given")
        view = View(size=(SIDE, SIDE), resize=None, crop="none")
        super().__init__(module, mean=(mean,) * 3, std=(std,) * 3, view=view, card=card, tile=1)
        self.queries: list[Query] = []

    def forward(self, images: Tensor) -> Tensor:
        """The logits, as a Classifier's; remembers the images."""
        logits = super().forward(images)
        position = len(self.queries)
        self.queries.append(Query(images.detach().numpy().copy(), None))
        if logits.requires_grad:
            logits.register_hook(lambda pull: self.queries.__setitem__(position, self.queries[position]._replace(pull=pull.numpy().copy())))
        return logits


class Trail:
    """Compares the recorded queries, call by call, with those that references make for each sample."""

    def __init__(self, recorder: Recorder) -> None:
        self.queries, self.at = recorder.queries, 0

    @property
    def next(self) -> Array:
        """The pixels of the next call, from which a reference may take a random start."""
        return self.queries[self.at].pixels

    def skip(self, calls: int = 1) -> None:
        """Passes over calls that are checked elsewhere."""
        self.at += calls

    def expect(self, paths: list[list[Query]], atol: float = 1e-6) -> None:
        """Asserts that the next calls are the paths of these samples side by side, each as long as it is; pulls up to a positive factor."""
        for turn in range(max(map(len, paths))):
            there, found = [path[turn] for path in paths if len(path) > turn], self.queries[self.at]
            wanted = np.stack([one.pixels for one in there])
            assert found.pixels.shape == wanted.shape, f"call {self.at}, step {turn}: {len(found.pixels)} samples for {len(wanted)}"
            apart = float(np.abs(found.pixels - wanted).max())
            assert apart <= atol, f"call {self.at}, step {turn}: pixels {apart:.3g} apart"
            assert (found.pull is None) == (there[0].pull is None), f"call {self.at}, step {turn}: gradients"
            if found.pull is not None:
                for one, other in zip(found.pull, there, strict=True):
                    assert other.pull is not None
                    assert np.allclose(one / np.abs(one).max(), other.pull / np.abs(other.pull).max(), atol=1e-6), f"call {self.at}: loss"
            self.at += 1

    def end(self) -> None:
        """Asserts that nothing more was queried."""
        assert self.at == len(self.queries), f"{len(self.queries) - self.at} queries more than expected"


def outcome(crafted: Any, paths: list[list[Query]]) -> None:
    """Asserts that the columns count the queries of the paths, and their gradients."""
    columns = crafted.columns
    assert columns["queries"].tolist() == [len(path) for path in paths]
    assert columns["gradients"].tolist() == [sum(one.pull is not None for one in path) for path in paths]


@functools.cache
def classifier() -> Classifier:
    """The network in float32 and whole tiles, as a run has it."""
    module = copy.deepcopy(network()).float()
    card = Card("trained", Spec("given"), fingerprint(module), "given")
    return Classifier(module, mean=(0.0,) * 3, std=(1.0,) * 3, view=View(size=(SIDE, SIDE), resize=None, crop="none"), card=card, tile=64)
