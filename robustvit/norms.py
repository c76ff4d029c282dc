"""Balls around an image: measuring, projecting, stepping, starting, once for each norm."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from robustvit.draws import Draws

Norm = Literal["linf", "l2", "l1"]
_TINY = 1e-12  # guards the division by a zero norm; far below the smallest gradient norm float32 can resolve


def size(delta: Tensor, norm: Norm | Literal["l0"]) -> Tensor:
    """The norm of each sample's perturbation, (N,) float64. l0 counts the pixels (not channels) that differ."""
    flat = delta.flatten(1)
    if norm == "linf":
        return flat.abs().amax(dim=1).double()
    if norm == "l2":
        return flat.double().square().sum(dim=1).sqrt()
    if norm == "l1":
        return flat.double().abs().sum(dim=1)
    return (delta != 0).any(dim=1).flatten(1).sum(dim=1).double()


def project(delta: Tensor, eps: float, norm: Norm) -> Tensor:
    """Nearest point to `delta` in the `norm` ball of radius `eps`, per sample.

    delta: (N, ...) float, pixel units (image range is [0, 1]). Returns the same shape; points inside the ball come back unchanged.
    eps: radius in pixel units, > 0. Write 4/255, not 4. The l1 case sorts: Duchi et al. 2008, fig. 1.
    """
    if norm == "linf":
        return delta.clamp(-eps, eps)
    if norm == "l2":
        length = _per_sample(delta.flatten(1).norm(dim=1), delta)
        return torch.where(length > eps, delta * (eps / length.clamp_min(_TINY)), delta)
    return _project_l1(delta, eps)


def _project_l1(delta: Tensor, eps: float) -> Tensor:
    flat = delta.flatten(1)
    magnitude = flat.abs()
    sorted_, _ = magnitude.sort(dim=1, descending=True)
    excess = sorted_.cumsum(dim=1) - eps
    rank = torch.arange(1, flat.shape[1] + 1, device=delta.device)
    last = ((sorted_ * rank > excess).sum(dim=1, keepdim=True) - 1).clamp_min(0)
    threshold = excess.gather(1, last) / (last + 1)
    shrunk = flat.sign() * (magnitude - threshold).clamp_min(0)
    inside = magnitude.sum(dim=1, keepdim=True) <= eps
    return torch.where(inside, flat, shrunk).view_as(delta)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The unit-`norm` direction along which the gradient grows fastest, per sample; zero where the gradient is zero.

    l1 moves the single coordinate with the largest gradient.
    """
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return gradient / _per_sample(gradient.flatten(1).norm(dim=1), gradient).clamp_min(_TINY)
    flat = gradient.flatten(1)
    best = flat.abs().argmax(dim=1, keepdim=True)
    return torch.zeros_like(flat).scatter_(1, best, flat.gather(1, best).sign()).view_as(gradient)


def random_start(images: Tensor, eps: float, norm: Norm, draws: Draws) -> Tensor:
    """A random perturbation in the ball, shaped like `images`: uniform for linf and l2, a uniform direction and radius for l1."""
    shape = images.shape[1:]
    if norm == "linf":
        return draws.uniform(*shape, low=-eps, high=eps).to(images)
    direction = draws.normal(*shape).to(images)
    radius = draws.at("radius").uniform(1).to(images).view(-1, *[1] * len(shape))
    if norm == "l2":
        length = _per_sample(direction.flatten(1).norm(dim=1), images).clamp_min(_TINY)
        return project(direction / length * (eps * radius ** (1.0 / direction[0].numel())), eps, norm)
    total = _per_sample(direction.flatten(1).abs().sum(dim=1), images).clamp_min(_TINY)
    return project(direction / total * (eps * radius), eps, norm)


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))
