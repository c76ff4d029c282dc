"""Uniform quantisation: grids of equal steps, the ranges that they cover, and values rounded to them."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, TypeAlias

import torch
from annotated_types import Gt, Le
from torch import Tensor

from robustvit.errors import BadParameter

Granularity: TypeAlias = Literal["tensor", "channel", "group"]
RangeRule: TypeAlias = Literal["minmax", "percentile", "mse"]
RoundingGradient: TypeAlias = Literal["straight-through", "none"]
Percentile = Annotated[float, Gt(50), Le(100)]

POLICY_OF = {"straight-through": "straight-through", "none": "absent"}
"""The gradient policy of a model whose values are rounded, by RoundingGradient."""
FLOAT_BITS = 32  # not quantised
_MOST_BITS = 16
_CANDIDATES = 41  # ranges that a search compares, as shares of the whole range
_NARROWEST = 0.2  # the smallest of those shares


class Grid(NamedTuple):
    """The values scale·(code − zero) for whole codes from `lowest` to `highest`; scale and zero broadcast to what is quantised."""

    scale: Tensor
    zero: Tensor
    lowest: int
    highest: int


class Range(NamedTuple):
    """The smallest and the largest value that a grid is made for."""

    low: Tensor
    high: Tensor


def check_bits(transform: str, bits: int, name: str = "bits") -> None:
    """Raises BadParameter, naming transform and parameter, unless `bits` is 2 to 16, or 32, which leaves values as they are."""
    if not (2 <= bits <= _MOST_BITS or bits == FLOAT_BITS):
        raise BadParameter(
            f"transform '{transform}': {name} is {bits}; it takes 2 to {_MOST_BITS}, or {FLOAT_BITS} for values that are not quantised."
        )


def uniform_grid(span: Range, bits: int, symmetric: bool) -> Grid:
    """The grid of 2^bits codes over a range, which is extended to include zero, so that zero is one of its values.

    symmetric: codes −(2^(bits−1) − 1) … 2^(bits−1) − 1 around zero, one fewer than there are; else 0 … 2^bits − 1 with the zero-point
    round(−low / scale). A range without extent has a step of 1: its zeros stay zeros.
    """
    low, high = span.low.clamp(max=0.0), span.high.clamp(min=0.0)
    most = 2 ** (bits - 1) - 1
    step = torch.maximum(-low, high) / most if symmetric else (high - low) / (2**bits - 1)
    scale = torch.where(step == 0, torch.ones_like(step), step)
    if symmetric:
        return Grid(scale, torch.zeros_like(scale), -most, most)
    return Grid(scale, (-low / scale).round(), 0, 2**bits - 1)


def round_to_grid(values: Tensor, grid: Grid) -> Tensor:
    """The values of the grid that are nearest, ties to even codes; those outside its range become its ends."""
    codes = (values / grid.scale).round() + grid.zero
    return (codes.clamp(grid.lowest, grid.highest) - grid.zero) * grid.scale


def quantised(values: Tensor, grid: Grid, gradient: RoundingGradient) -> Tensor:
    """`round_to_grid` with a gradient policy, computed in float32 at least.

    gradient: straight-through passes the gradient as it is where a value is inside the grid's range, and none where it is clipped; none
    cuts the graph, as rounding has no derivative but zero.
    """
    exact = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    found = round_to_grid(exact.detach(), grid)
    if gradient == "none":
        return found.to(values.dtype)
    inside = exact.clamp((grid.lowest - grid.zero) * grid.scale, (grid.highest - grid.zero) * grid.scale)
    return straight_through(found, inside).to(values.dtype)


def straight_through(found: Tensor, values: Tensor) -> Tensor:
    """`found` to the bit, with the gradient of `values`."""
    return found.detach() + (values - values.detach())


def range_of(rows: Tensor, rule: RangeRule, bits: int, *, symmetric: bool, percentile: float = 100.0) -> Range:
    """The range of each row that a grid of so many bits is made for. rows: (R, n) → two (R,).

    minmax: from the least to the largest value. percentile: from the (100 − p)-th to the p-th percentile, or symmetrically the p-th of
    absolute values; linear between order statistics. mse: the share of `minmax` for which the squared error of `round_to_grid` is smallest.
    """
    if rule == "percentile":
        ordered = (rows.abs() if symmetric else rows).sort(dim=1).values
        high = _order_statistic(ordered, percentile / 100.0)
        return Range(-high if symmetric else _order_statistic(ordered, 1.0 - percentile / 100.0), high)
    whole = Range(rows.amin(dim=1), rows.amax(dim=1))
    return least_error_range(rows, torch.ones_like(rows), whole, bits, symmetric) if rule == "mse" else whole


def least_error_range(values: Tensor, weights: Tensor, whole: Range, bits: int, symmetric: bool) -> Range:
    """Of 41 shares of a range, 1 down to 0.2, the one for which the weighted squared error is smallest; of equals the widest.

    values, weights: (R, n), such as the centres and counts of a histogram. whole: (R,) each.
    """
    best, error = whole, torch.full_like(whole.low, torch.inf)
    for share in torch.linspace(1.0, _NARROWEST, _CANDIDATES).tolist():
        span = Range(whole.low * share, whole.high * share)
        grid = uniform_grid(Range(span.low[:, None], span.high[:, None]), bits, symmetric)
        found = (weights * (values - round_to_grid(values, grid)).square()).sum(dim=1)
        better = found < error
        best = Range(torch.where(better, span.low, best.low), torch.where(better, span.high, best.high))
        error = torch.where(better, found, error)
    return best


def _order_statistic(ordered: Tensor, share: float) -> Tensor:
    """The quantile of each row of ascending values, linear between the two that are nearest."""
    at = share * (ordered.shape[1] - 1)
    below = min(int(at), ordered.shape[1] - 1)
    above = min(below + 1, ordered.shape[1] - 1)
    return ordered[:, below] + (at - below) * (ordered[:, above] - ordered[:, below])
