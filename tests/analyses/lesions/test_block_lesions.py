"""Analyses of orders and of removed blocks, against the transforms; their metrics on tables made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import vits

from robustvit.analyses.lesions.block_orders import block_orders, orders_evaluated
from robustvit.analyses.lesions.removed_blocks import kept_blocks, removed_blocks
from robustvit.data.formats.arrays import ArrayDataset
from robustvit.errors import BadParameter, HostRefused, NotApplicable
from robustvit.evaluation.evaluate import evaluate
from robustvit.metrics.lesions.order_accuracy import order_accuracy, worst_order_accuracy
from robustvit.metrics.lesions.removed_blocks import removed_blocks_accuracy
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.seeded_choices import kendall_distance, listed_orders
from robustvit.primitives.pixels import pixels
from robustvit.primitives.reading import Reading
from robustvit.spec.binding import bind
from robustvit.spec.cell import Cell
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec, parse
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.estimates import resolve_metric
from robustvit.statistics.resamples import Resamples
from robustvit.transforms.depth.block_order import block_order
from robustvit.transforms.depth.remove_blocks import remove_blocks

DRAWS = Draws(0, "analysis/block_orders", tuple("abcdef"))


def test_every_order_is_judged_as_its_transform_predicts() -> None:
    model, images = vits.made(lambda: vits.vit(depth=4)), vits.images(6)
    labels = model(images).argmax(dim=1)
    found = block_orders(model, images, labels, DRAWS)
    listed = [int(flag) for flag in found["value_order_listed"][0]]
    assert sum(listed) == len(listed) == 24
    for index, order in enumerate(listed_orders(4, 25)):
        place = orders_evaluated(4, 25, 2, 0)[1].index(order)
        right = block_order(model, order="random", index=index)(images).argmax(dim=1) == labels
        assert found["value_order_right"][:, place].tolist() == right.float().tolist()
        assert float(found["value_order_distance"][0, place]) == pytest.approx(kendall_distance(order))
    assert found["value_order_right"][:, 0].tolist() == [1.0] * 6


def test_many_blocks_have_orders_at_all_distances() -> None:
    listed, orders = orders_evaluated(12, 25, 2, 0)
    distances = sorted({round(kendall_distance(order), 1) for order in orders})
    assert len(listed) == 25
    assert distances == [level / 10 for level in range(11)]
    assert len(orders) == len(set(orders)) == 2 + 11 + 25 + 18


def test_removed_blocks_are_those_of_the_transform() -> None:
    model, images = vits.made(lambda: vits.vit(depth=3)), vits.images(6)
    labels = model(images).argmax(dim=1)
    found = removed_blocks(model, images, labels, DRAWS)
    assert found["value_removed_count"][0].tolist() == [0, 1, 1, 1, 2, 2, 2]
    for place, (count, index) in enumerate([(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]):
        right = remove_blocks(model, count=count, index=index)(images).argmax(dim=1) == labels
        assert found["value_removed_right"][:, place].tolist() == right.float().tolist()


def test_shuffled_runs_are_as_many_without_removal() -> None:
    runs = kept_blocks(12, 10, shuffled=True, seed=0)
    assert [sum(len(kept) == left for kept in runs) for left in (12, 11, 1)] == [10, 10, 10]
    assert len(set(runs[:10])) == 10


def test_one_block_has_no_orders() -> None:
    with pytest.raises(HostRefused, match="it has one block, and one order"):
        block_orders(vits.made(lambda: vits.vit(depth=1)), vits.images(6), torch.zeros(6), DRAWS)


def orders() -> pd.DataFrame:
    """Two samples under the orders at distances 0, 1, 1/3, 1/3, 2/3 of three blocks; the last two are listed."""
    right = [[1, 0, 1, 0, 1], [1, 0, 1, 0, 0]]
    return pd.DataFrame({
        "sample": ["a", "b"], "value_order_right": [np.array(row, np.float32) for row in right],
        "value_order_distance": [np.array([0, 1, 1 / 3, 1 / 3, 2 / 3], np.float32)] * 2,
        "value_order_listed": [np.array([0, 0, 0, 1, 1], np.float32)] * 2,
    })  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), [
    ({}, [0.5, 0.0]), ({"order": "sequential"}, [1, 1]), ({"order": "reversed"}, [0, 0]), ({"order": "swapped"}, [0.5, 0.5]),
    ({"distance": 0.3}, [0.5, 0.5]), ({"distance": 0.7}, [1, 0]), ({"distance": 1.0}, [0, 0]),
])  # fmt: skip
def test_accuracy_is_averaged_over_the_orders_of_a_sample(given, expected) -> None:
    assert order_accuracy(orders(), **given).tolist() == expected


def test_a_distance_without_orders_is_undefined() -> None:
    with pytest.raises(NotApplicable, match=r"distance near 0\.5"):
        order_accuracy(orders(), distance=0.5)


def test_the_ends_of_the_curve_are_single_orders() -> None:
    """Of many blocks an exchange of neighbours is nearly at distance 0, and is not sequential."""
    near = np.array([0, 1, 0.06, 1 / 66, 65 / 66], np.float32)
    table = orders().assign(value_order_distance=[near] * 2)
    assert order_accuracy(table, distance=0.0).tolist() == [1, 1]
    assert order_accuracy(table, distance=1.0).tolist() == [0, 0]
    assert order_accuracy(table, distance=0.1).tolist() == [1, 1]


def test_the_worst_order_is_one_for_all_samples() -> None:
    assert worst_order_accuracy(orders()).of(np.array([[1.0, 1.0], [2.0, 0.0]])).tolist() == [0.0, 0.0]
    table = orders().assign(value_order_right=[np.array([1, 0, 1, 1, 0], np.float32), np.array([1, 0, 1, 0, 1], np.float32)])
    assert worst_order_accuracy(table).of(np.array([[1.0, 1.0], [2.0, 0.0]])).tolist() == [0.5, 0.0]


def test_the_interval_is_over_samples_and_not_over_orders() -> None:
    rng = np.random.default_rng(0)
    sample = (rng.random(200) < 0.5).astype(np.float32)
    table = pd.DataFrame({
        "sample": [f"s{i:03d}" for i in range(200)], "value_order_right": [np.full(25, one) for one in sample],
        "value_order_distance": [np.linspace(0, 1, 25, dtype=np.float32)] * 200, "value_order_listed": [np.ones(25, np.float32)] * 200,
    })  # fmt: skip
    value, low, high, n = score(resolve_metric("order_accuracy"), table, Resamples(list(table["sample"])))
    assert (value, n) == (100 * sample.mean(), 200)
    assert 12 < high - low < 16  # that of 200 independent samples, 13.9, and not of 5000


def test_accuracy_by_the_number_of_removed_blocks() -> None:
    table = pd.DataFrame({
        "value_removed_right": [np.array([1, 1, 0, 0], np.float32)] * 2, "value_removed_count": [np.array([0, 1, 1, 2], np.float32)] * 2,
    })  # fmt: skip
    assert removed_blocks_accuracy(table).tolist() == [0.5, 0.5]
    assert removed_blocks_accuracy(table, count=0).tolist() == [1, 1]
    with pytest.raises(NotApplicable, match="has 3 blocks, of which 3 cannot be removed"):
        removed_blocks_accuracy(table, count=3)


def test_labels_are_compared_through_the_reading_of_the_data() -> None:
    """Classes 0 and 1 of the data are columns 3 and 1 of the model, whatever it gives the others."""
    model = vits.made(lambda: vits.vit(depth=3))
    levels = (255 * vits.images(6).permute(0, 2, 3, 1).numpy()).astype(np.uint8)
    logits = model(pixels(levels))[:, [3, 1]]
    data = ArrayDataset(
        "some", levels.__getitem__, tuple("abcdef"), np.arange(6) % 2, ("x", "y"), (Reading("mask", 2, columns=(3, 1)),), "f"
    )
    spec = bind(lookup("analysis", "removed_blocks"), parse("removed_blocks")[0])
    cell = Cell(Spec("given"), "w", Spec("some"), "f", model.view, spec)
    rows = evaluate(cell, model, data, levels, np.arange(6)).rows.to_pandas()
    right = (logits.argmax(dim=1).numpy() == np.arange(6) % 2).astype(float)
    assert np.stack(rows["value_removed_right"].tolist())[:, 0].tolist() == right.tolist()
    assert 0 < right.sum() < 6


def test_images_of_no_class_are_refused() -> None:
    model, levels = vits.made(lambda: vits.vit(depth=3)), np.zeros((1, 32, 32, 3), np.uint8)
    data = ArrayDataset("some", levels.__getitem__, ("a",), np.array([-1]), tuple("abcde"), (Reading("all", 5),), "f")
    cell = Cell(Spec("given"), "w", Spec("some"), "f", model.view, bind(lookup("analysis", "block_orders"), parse("block_orders")[0]))
    with pytest.raises(BadParameter, match="'block_orders' compares predictions with labels, and 1 of 1 images"):
        evaluate(cell, model, data, levels, np.arange(1))
