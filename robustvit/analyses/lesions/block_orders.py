"""Accuracy of a transformer whose blocks compute in other orders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.block_sequence import block_count, with_blocks
from robustvit.primitives.lesions.right_predictions import right_predictions
from robustvit.primitives.lesions.seeded_choices import kendall_distance, listed_orders, order_at_distance
from robustvit.primitives.limits import Count, Whole
from robustvit.primitives.passes import Passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

_LEVELS = 10  # of Kendall's distance, equally far apart from 0 to 1


@analysis(
    family="lesions", source="Freiberger et al. 2024 (LayerShuffle)", url="https://arxiv.org/abs/2407.04513", reads_labels=True,
    licence="the authors' code has no licence; this is written from the paper", passes="order_passes",
    rules="Every order is evaluated on the same samples, where the authors draw one for a batch: their numbers depend on its size. Compare "
    "models of one depth: a distance is of pairs of blocks.",
)  # fmt: skip
def block_orders(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, count: Count = 25, spread: Whole = 2, seed: Whole = 0
) -> dict[str, Tensor]:  # fmt: skip
    """Whether predictions are right under many orders of a transformer's blocks, the same orders for every sample.

    The orders: sequential, reversed, every exchange of two neighbours; the listed ones, all where the factorial of the depth is at most
    `count`, else `count` distinct random ones of `seed`; and, unless these are all, `spread` at each of the distances 0.1 … 0.9 from
    sequential. The distance is the share of pairs of blocks that stand the other way round (Kendall's: τ = 1 − 2 · distance). Lists of
    columns, an entry for each order: value_order_right, 1 or 0; value_order_distance; value_order_listed, 1 for the listed ones. Raises
    HostRefused for a model without one sequence of at least two blocks.
    """
    depth = _depth(model)
    listed, orders = orders_evaluated(depth, count, spread, seed)
    right = torch.stack([right_predictions(with_blocks(model, order), images, labels) for order in orders], dim=1)
    known = set(listed)
    distance, flags = ([float(of(order)) for order in orders] for of in (kendall_distance, known.__contains__))
    return {
        "value_order_right": right, "value_order_distance": right.new_tensor(distance).expand_as(right),
        "value_order_listed": right.new_tensor(flags).expand_as(right),
    }  # fmt: skip


def orders_evaluated(depth: int, count: int, spread: int, seed: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The listed orders of so many blocks, and all that the analysis evaluates, each once."""
    ascending = tuple(range(depth))
    swapped = [(*ascending[:at], at + 1, at, *ascending[at + 2 :]) for at in range(depth - 1)]
    listed, pairs = listed_orders(depth, count, seed), depth * (depth - 1) // 2
    levels = sorted({round(pairs * level / _LEVELS) for level in range(1, _LEVELS)} - {0, 1, pairs})
    between = [
        order_at_distance(depth, inversions, Draws(seed, f"order at {inversions}", [str(number)]))
        for inversions in levels
        for number in range(spread)
    ]
    complete = len(listed) == math.factorial(depth)
    return listed, list(dict.fromkeys((ascending, ascending[::-1], *swapped, *listed, *(() if complete else between))))


def order_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """One for each order."""
    given = {name: int(spec.get(name, default)) for name, default in (("count", 25), ("spread", 2), ("seed", 0))}  # type: ignore[arg-type]
    return Passes(forward=len(orders_evaluated(_depth(model), **given)[1]))


def _depth(model: Classifier) -> int:
    depth = block_count(model, "block_orders")
    if depth < 2:
        raise HostRefused(f"'block_orders' does not take '{model.card.label}': it has one block, and one order.")
    return depth
