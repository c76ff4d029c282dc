"""Norms of perturbations, projections onto balls, steepest directions and random starts in linf, l2 and l1."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from robustvit.primitives.draws import Draws

Norm = Literal["linf", "l2", "l1"]
Measure = Literal["linf", "l2", "l1", "l0", "values"]
_TINY = 1e-12  # guards the division by the norm of a perturbation, in pixel units: far below any that changes a pixel


def size(delta: Tensor, norm: Measure) -> Tensor:
    """The norm of each sample's perturbation, (N,) float64. l0 counts the pixels that differ, `values` the channels of pixels."""
    flat = delta.flatten(1)
    if norm == "linf":
        return flat.abs().amax(dim=1).double()
    if norm == "l2":
        return flat.double().square().sum(dim=1).sqrt()
    if norm == "l1":
        return flat.double().abs().sum(dim=1)
    if norm == "values":
        return (flat != 0).sum(dim=1).double()
    return (delta != 0).any(dim=1).flatten(1).sum(dim=1).double()


def project(delta: Tensor, eps: float | Tensor, norm: Norm) -> Tensor:
    """Nearest point to `delta` in the `norm` ball of radius `eps`, per sample.

    delta: (N, ...) float, pixel units (image range is [0, 1]). Returns the same shape; points inside the ball come back unchanged.
    eps: radius in pixel units, > 0, or one for each sample (N,). Write 4/255, not 4. The l1 case sorts: Duchi et al. 2008, fig. 1.
    """
    radius = per_sample(eps.to(delta), delta) if isinstance(eps, Tensor) else eps
    if norm == "linf":
        return torch.minimum(torch.maximum(delta, -radius), radius) if isinstance(radius, Tensor) else delta.clamp(-radius, radius)
    if norm == "l2":
        length = per_sample(delta.flatten(1).norm(dim=1), delta)
        return torch.where(length > radius, delta * (radius / length.clamp_min(_TINY)), delta)
    return _project_l1(delta, eps[:, None].to(delta) if isinstance(eps, Tensor) else eps)


def project_l0(delta: Tensor, count: Tensor) -> Tensor:
    """Nearest point to `delta` with at most `count` (N,) nonzero values: keeps the largest, the first of equals."""
    flat = delta.flatten(1)
    place = flat.abs().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return torch.where(place < count[:, None], flat, 0.0).view_as(delta)


def _project_l1(delta: Tensor, eps: float | Tensor) -> Tensor:
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


def project_in_box(images: Tensor, delta: Tensor, eps: float | Tensor, norm: Norm) -> Tensor:
    """`delta` projected onto the `norm` ball of radius `eps` and the box, so that images + delta stays in [0, 1].

    linf and l1: the nearest point of the intersection (in l2). l2: `delta` scaled to eps, then clipped to the box, which may be shorter
    than the nearest point. images, delta: (N, ...); eps: a number, or (N,).
    """
    radius = eps if isinstance(eps, Tensor) else torch.full((len(delta),), eps, dtype=torch.float64, device=delta.device)
    if norm == "linf":
        bound = per_sample(radius, delta).to(delta)
        return torch.minimum(torch.maximum(delta, -bound), bound).clamp(-images, 1.0 - images)
    if norm == "l2":
        length = delta.flatten(1).norm(dim=1)
        scale = (radius / length.clamp_min(_TINY)).clamp(max=1.0)
        return (delta * per_sample(scale, delta).to(delta)).clamp(-images, 1.0 - images)
    return _project_l1_in_box(images, delta, radius)


def _project_l1_in_box(images: Tensor, delta: Tensor, radius: Tensor) -> Tensor:
    """sign(δ) · min(max(|δ| − λ, 0), room) with the least λ ≥ 0 whose sum is at most eps, from the sorted breakpoints of the sum."""
    flat = delta.flatten(1).double()
    base = images.flatten(1).double()
    room = torch.where(flat > 0, 1.0 - base, base)
    magnitude = flat.abs()
    begin, stop = (magnitude - room).clamp_min(0.0), magnitude  # a coordinate shrinks while λ is between them
    knots, order = torch.cat((begin, stop), dim=1).sort(dim=1)
    slope = torch.cat((torch.ones_like(begin), -torch.ones_like(stop)), dim=1).gather(1, order).cumsum(dim=1)
    total = torch.minimum(magnitude, room).sum(dim=1, keepdim=True)
    fall = torch.cat((torch.zeros_like(total), (slope[:, :-1] * knots.diff(dim=1)).cumsum(dim=1)), dim=1)
    left = total - fall - per_sample(radius.double(), total)  # excess of the sum over eps at each knot
    last = ((left > 0).sum(dim=1, keepdim=True) - 1).clamp_min(0)
    threshold = knots.gather(1, last) + left.gather(1, last) / slope.gather(1, last).clamp_min(1.0)
    shrunk = flat.sign() * torch.minimum((magnitude - threshold).clamp_min(0.0), room)
    inside = total <= per_sample(radius.double(), total)
    return torch.where(inside, flat.sign() * torch.minimum(magnitude, room), shrunk).to(delta.dtype).view_as(delta)


def bounds(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The lowest and highest pixels of the linf ball around images, clipped to [0, 1], each shaped like the images."""
    return (images - eps).clamp_(min=0.0), (images + eps).clamp_(max=1.0)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The direction of steepest ascent of unit `norm` for a gradient, per sample; zero where the gradient is zero.

    l1 moves the single coordinate with the largest gradient. The gradient's scale does not matter, see `unit`.
    """
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return unit(gradient)
    flat = gradient.flatten(1)
    best = flat.abs().argmax(dim=1, keepdim=True)
    return torch.zeros_like(flat).scatter_(1, best, flat.gather(1, best).sign()).view_as(gradient)


def unit(vectors: Tensor) -> Tensor:
    """Each sample's vector divided by its l2 norm; zero only where all of the vector is.

    Any scale that the numbers can hold gives the same direction: they are divided by the largest first, so that no square underflows.
    """
    scaled = rescaled(vectors)
    length = scaled.flatten(1).norm(dim=1)
    return scaled / per_sample(length.where(length > 0, 1.0), vectors)


def rescaled(vectors: Tensor) -> Tensor:
    """Each sample's vector divided by its largest absolute value; zero only where all of the vector is."""
    return vectors / per_sample(nonzero_scale(vectors), vectors)


def divided_by_mean(vectors: Tensor) -> Tensor:
    """Each sample's vector divided by the mean of its absolute values, whatever their scale; zero only where all of the vector is."""
    scaled = rescaled(vectors)
    mean = scaled.flatten(1).abs().mean(dim=1)
    return scaled / per_sample(mean.where(mean > 0, 1.0), vectors)


def nonzero_scale(vectors: Tensor) -> Tensor:
    """The largest absolute value of each sample's vector, (N,), and 1 where all of it is zero."""
    largest = vectors.flatten(1).abs().amax(dim=1)
    return largest.where(largest > 0, 1.0)


def boundary_distance(gap: Tensor, gradient: Tensor, norm: Measure) -> Tensor:
    """The distance in `norm` at which a function of value `gap` (N,) and this gradient is zero to first order, (N,).

    inf where there is no gradient. That is |gap| over the gradient's dual norm. l0 and `values` count as l1: one value moves.
    """
    scale = nonzero_scale(gradient)
    dual = {"linf": 1.0, "l2": 2.0}.get(norm, math.inf)
    length = (gradient / per_sample(scale, gradient)).flatten(1).norm(p=dual, dim=1)
    return torch.where(length > 0, (gap / scale).abs() / length.where(length > 0, 1.0), torch.inf)


def random_start(images: Tensor, eps: float, norm: Norm, draws: Draws) -> Tensor:
    """A random perturbation in the ball, shaped like `images`: uniform for linf and l2, a uniform direction and radius for l1."""
    shape = images.shape[1:]
    if norm == "linf":
        return draws.uniform(*shape, low=-eps, high=eps).to(images)
    direction = draws.normal(*shape).to(images)
    radius = draws.at("radius").uniform(1).to(images).view(-1, *[1] * len(shape))
    if norm == "l2":
        length = per_sample(direction.flatten(1).norm(dim=1), images).clamp_min(_TINY)
        return project(direction / length * (eps * radius ** (1.0 / direction[0].numel())), eps, norm)
    total = per_sample(direction.flatten(1).abs().sum(dim=1), images).clamp_min(_TINY)
    return project(direction / total * (eps * radius), eps, norm)


def surface_start(images: Tensor, eps: float, norm: Norm, draws: Draws) -> Tensor:
    """A random perturbation on the surface of the ball, as APGD starts from; not clipped to the box in linf and l2.

    Uniform noise scaled to a largest value of eps (linf), a random direction of length eps (l2), or the projection of normal noise (l1).
    """
    shape = images.shape[1:]
    if norm == "linf":
        noise = draws.uniform(*shape, low=-1.0, high=1.0).to(images)
        return eps * noise / per_sample(noise.flatten(1).abs().amax(dim=1), noise).clamp_min(_TINY)
    noise = draws.normal(*shape).to(images)
    if norm == "l2":
        return eps * noise / per_sample(noise.flatten(1).norm(dim=1), noise).clamp_min(_TINY)
    return project_in_box(images, noise, eps, "l1")


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """`values` (N,) as (N, 1, …), to broadcast over tensors shaped like `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))
