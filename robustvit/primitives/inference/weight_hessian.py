"""The Hessian of a loss in the weights of a model, as products with vectors, and the ends of its spectrum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier, temporarily

_NOTHING_LEFT = 1e-5  # the part of a product below which what is left of it, orthogonal to the basis, is rounding


class LossHessian:
    """Products with the second derivatives of the mean cross-entropy of images plus decay·|w|², w being all weights of the model.

    In evaluation mode, and in float32 or, of a model that computes in it, float64. Use it as a context: within, weights require gradients.
    Raises HostRefused for a model whose loss does not depend on its weights.
    """

    def __init__(self, model: Classifier, images: Tensor, labels: Tensor, decay: float) -> None:
        self.model, self.images, self.labels, self.decay = model, images, labels, decay
        self.weights: list[nn.Parameter] = [one for one in model.parameters() if one.is_floating_point()]
        self.size = sum(one.numel() for one in self.weights)
        self.gradients: list[Tensor] = []
        self._required: list[bool] = []

    def __enter__(self) -> LossHessian:
        self._required = [one.requires_grad for one in self.weights]
        for one in self.weights:
            one.requires_grad_(True)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), self.model.in_float32(), temporarily(self.model, "tile", self._rows):
            loss = functional.cross_entropy(self.model(self.images), self.labels)
            loss = loss + self.decay * sum(one.square().sum() for one in self.weights)
            if not loss.requires_grad:
                self.__exit__()
                raise HostRefused(f"the loss of model '{self.model.card.label}' depends on none of its weights: there is no Hessian.")
            self.gradients = list(torch.autograd.grad(loss, self.weights, create_graph=True, materialize_grads=True))
        return self

    def __exit__(self, *raised: Any) -> None:
        for one, required in zip(self.weights, self._required, strict=True):
            one.requires_grad_(required)
        self.gradients = []

    def _rows(self, tile: Any) -> int:
        return len(self.images)

    def times(self, vector: Tensor) -> Tensor:
        """(P,): the product with a vector (P,), the weights one after another in the order of the model's parameters."""
        parts = [
            part.view_as(one) for part, one in zip(torch.split(vector, [one.numel() for one in self.weights]), self.weights, strict=True)
        ]
        curved = [(gradient, part) for gradient, part in zip(self.gradients, parts, strict=True) if gradient.requires_grad]
        if not curved:
            return torch.zeros_like(vector)
        gradients, directions = zip(*curved, strict=True)
        found = torch.autograd.grad(gradients, self.weights, directions, retain_graph=True, materialize_grads=True)
        return torch.cat([one.reshape(-1) for one in found])


class Spectrum(NamedTuple):
    """Ritz values (k,) float64, the largest in magnitude first, and the norm of the residual of each, at most so far from an eigenvalue."""

    values: Tensor
    residuals: Tensor


def lanczos(times: Callable[[Tensor], Tensor], start: Callable[[int], Tensor], steps: int) -> Spectrum:
    """The ends of the spectrum of a symmetric matrix from `steps` of its products, by Lanczos' method with full reorthogonalisation.

    start: vectors (P,) by number; the first begins the basis, others go on where it is invariant. At most P steps are done.
    """
    first = start(0)
    steps = min(steps, len(first))
    basis, diagonal, beside = [first / first.norm()], list[float](), list[float]()
    for step in range(steps):
        rest = times(basis[-1])
        size = float(rest.norm())
        diagonal.append(float(rest.double() @ basis[-1].double()))
        rest = _orthogonal(rest, basis)
        beside.append(float(rest.norm()))
        if step + 1 < steps:
            if beside[-1] <= _NOTHING_LEFT * size:
                beside[-1], rest = 0.0, _orthogonal(start(step + 1), basis)
            basis.append(rest / rest.norm())
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside[:-1], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(matrix + torch.diag(off, 1) + torch.diag(off, -1))
    residuals = beside[-1] * vectors[-1].abs()
    order = values.abs().argsort(descending=True, stable=True)
    return Spectrum(values[order], residuals[order])


def _orthogonal(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """What is left of a vector beside the basis; twice, because once leaves rounding."""
    for _ in range(2):
        for one in basis:
            vector = vector - (vector @ one) * one
    return vector
