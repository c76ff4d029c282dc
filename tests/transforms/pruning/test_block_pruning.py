"""Block pruning: blocks against pooling, Taylor products against a closed form, allocation against an exhaustive search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import vits
from torch import nn
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import Card
from robustvit.primitives.surgery.masks import MaskedWeight
from robustvit.spec.spec import Spec
from robustvit.spec.view import View
from robustvit.transforms.pruning.allocation import Curve, equal_slope, lower_hull
from robustvit.transforms.pruning.block import Blocks, block_pruning, block_sums, distortion_curve, fit_taylor

SIDE = 2


class Noise:
    """A data set of noise that is never opened."""

    name = fingerprint = "noise"
    ids = tuple(f"n/{i}" for i in range(70))

    def __len__(self) -> int:
        return len(self.ids)


def load_batch(data: Noise, positions: np.ndarray) -> Batch:
    images = torch.rand(70, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))[torch.from_numpy(positions)]
    return Batch(images, torch.zeros(len(positions), dtype=torch.long), tuple(data.ids[i] for i in positions))


def linear() -> Classifier:
    """logits = A (B x): two linear layers, of which the last is the head."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 7, bias=False), nn.Linear(7, 5, bias=False)).double()
    return Classifier(
        module,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        view=View((SIDE, SIDE), SIDE),
        card=Card("toy", Spec("toy"), "f", "given"),
        tile=4,
    )


SETTINGS = {"amount": 0.5, "allocation": "uniform", "layers": ()}


def test_scores_are_means_over_blocks_and_over_what_there_is_of_them_at_the_edge() -> None:
    matrix = torch.rand(7, 12, generator=torch.Generator().manual_seed(0))
    pooled = functional.avg_pool2d(matrix[None, None], 5, ceil_mode=True)[0, 0]
    assert torch.allclose(block_sums(matrix, 5) / block_sums(torch.ones(7, 12), 5), pooled)


@pytest.mark.parametrize(("amount", "block"), [(0.5, 8), (0.3, 5), (0.9, 8), (0.1, 12)])
def test_the_least_blocks_of_each_layer_are_zero_and_no_other_weight(amount, block) -> None:
    host = vits.made(vits.vit)
    made = block_pruning(host, {}, amount=amount, block=block)
    for name, layer in made.model.named_modules():
        if not isinstance(layer, MaskedWeight):
            continue
        weight = host.model.get_submodule(name).weight
        places = list(itertools.product(range(0, weight.shape[0], block), range(0, weight.shape[1], block)))
        means = [float(weight[r : r + block, c : c + block].abs().mean()) for r, c in places]
        expected = weight.clone()
        for place in sorted(range(len(places)), key=lambda i: means[i])[: len(places) - max(1, int((1 - amount) * len(places) + 1e-9))]:
            row, column = places[place]
            expected[row : row + block, column : column + block] = 0
        assert torch.equal(layer.weight, expected)


def test_a_block_of_every_layer_stays() -> None:
    made = block_pruning(vits.made(vits.vit), {}, amount=0.99, block=24)
    assert all(bool(layer.weight.any()) for layer in made.model.modules() if isinstance(layer, MaskedWeight))


def test_taylor_products_are_those_of_the_closed_form() -> None:
    model, data = linear(), Noise()
    found = fit_taylor(model, load_batch, Draws(0, "t", ["t"]), block=4, importance="taylor", calibration=data, samples=70, **SETTINGS)
    into, out = model.model[1].weight, model.model[2].weight
    images = load_batch(data, np.arange(70)).images.double().flatten(1)
    gradient = sum(2 / (5 * 70) * torch.outer(out.t() @ (out @ (into @ one)), one) for one in images)
    product = into * gradient
    assert set(found) == {"1"}
    for values, summed in zip((product.abs(), product, product**2), found["1"], strict=True):
        assert torch.allclose(summed[1, 2], values[4:, 8:].sum())
        assert torch.allclose(summed.sum(), values.sum())
    assert not into.requires_grad


def test_taylor_prunes_what_matters_least_to_the_logits() -> None:
    model = linear()
    taylor = torch.ones(3, 2, 3, dtype=torch.float64)
    taylor[0, 1, 2] = 0.1  # of an area that is smaller, by less
    made = block_pruning(model, {"1": taylor}, amount=0.1, block=4, importance="taylor", calibration=Noise())
    assert (made.model[1].weight == 0).nonzero().tolist() == [[row, column] for row in range(4, 7) for column in range(8, 12)]


def test_taylor_needs_calibration_and_l1_fits_nothing() -> None:
    draws = Draws(0, "t", ["t"])
    assert fit_taylor(linear(), load_batch, draws, block=4, importance="l1", calibration=None, samples=7, **SETTINGS) == {}
    with pytest.raises(BadParameter, match="importance taylor takes calibration"):
        fit_taylor(linear(), load_batch, draws, block=4, importance="taylor", calibration=None, samples=7, **SETTINGS)


def blocks(seed: int, *, gradients: bool) -> Blocks:
    generator = torch.Generator().manual_seed(seed)
    weight, gradient = torch.randn(8, 12, generator=generator).double(), torch.randn(8, 12, generator=generator).double()
    product = weight * gradient
    return Blocks(
        block_sums(product.abs() if gradients else weight.abs(), 4), block_sums(torch.ones_like(weight), 4), block_sums(weight**2, 4),
        *((block_sums(product, 4), block_sums(product**2, 4)) if gradients else ()),
    )  # fmt: skip


def test_distortion_with_gradients_is_that_of_the_quadratic_form() -> None:
    generator = torch.Generator().manual_seed(5)
    weight, gradient = torch.randn(8, 12, generator=generator).double(), torch.randn(8, 12, generator=generator).double()
    found, curve, most = blocks(5, gradients=True), distortion_curve(blocks(5, gradients=True), range(6)), 0.0
    for count, removed, distortion in zip(range(6), curve.removed, curve.distortion, strict=True):
        change = torch.zeros(8, 12).double()
        for place in found.scores.flatten().argsort()[:count].tolist():
            row, column = 4 * (place // 3), 4 * (place % 3)
            change[row : row + 4, column : column + 4] = -weight[row : row + 4, column : column + 4]
        flat, slopes = change.flatten(), gradient.flatten()
        quadratic = flat @ (torch.outer(slopes, slopes) + 1e-7 * torch.eye(96).double()) @ flat
        most = max(most, float(((flat * slopes) ** 2).mean() + 0.5 * quadratic))
        assert removed == 16 * count
        assert distortion == pytest.approx(most, rel=1e-9)


def test_distortion_without_gradients_is_the_share_of_squared_weights_that_is_removed() -> None:
    found = blocks(6, gradients=False)
    least = float(found.weights.flatten()[found.scores.argmin()] / found.weights.sum())
    assert distortion_curve(found, [0, 1, 6]).distortion == pytest.approx([0.0, least, 1.0])


def test_distortion_never_falls() -> None:
    """The products of the first block cancel those of the second."""
    sums = torch.tensor([[2.0, -2.0, 5.0]])
    found = Blocks(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3), torch.ones(1, 3), sums, torch.zeros(1, 3))
    assert distortion_curve(found, [0, 1, 2, 3]).distortion == pytest.approx([0.0, 2.0, 2.0, 12.5], abs=1e-5)


@pytest.mark.parametrize("amount", [0.0, 0.2, 0.5, 0.77, 1.0])
def test_no_other_allocation_that_removes_as_much_costs_less(amount) -> None:
    generator = np.random.default_rng(0)
    curves = [Curve(np.arange(7) * size, np.cumsum([0, *np.sort(generator.random(6))]).tolist()) for size in (1.0, 2.0, 3.0)]
    found = equal_slope(curves, amount)

    def total(levels: tuple[int, ...]) -> tuple[float, float]:
        return tuple(sum(getattr(curve, part)[level] for curve, level in zip(curves, levels, strict=True)) for part in Curve._fields)  # type: ignore[return-value]

    removed, distortion = total(tuple(found))
    everything = 6 * (1 + 2 + 3)
    assert removed <= amount * everything + 1e-9
    assert removed > amount * everything - 3.0 - 1e-9
    assert distortion <= min(total(levels)[1] for levels in itertools.product(range(7), repeat=3) if total(levels)[0] >= removed) + 1e-12


def test_a_curve_that_bulges_is_followed_along_its_hull() -> None:
    assert lower_hull(Curve([0, 1, 1, 2, 3], [0, 5, 6, 2, 9])) == [0, 3, 4]


def test_equal_slopes_spare_the_layer_whose_blocks_matter_alike_and_keep_the_budget() -> None:
    host = vits.made(vits.vit)
    host.model.blocks[1].mlp.fc1.weight.fill_(1.0)
    made = block_pruning(host, {}, amount=0.2, block=4, allocation="equal-slope")
    masked = {name: layer for name, layer in made.model.named_modules() if isinstance(layer, MaskedWeight)}
    zeros = {name: int((layer.weight == 0).sum()) for name, layer in masked.items()}
    assert zeros["blocks.1.mlp.fc1"] == 0
    assert min(zeros["blocks.0.mlp.fc1"], zeros["blocks.2.mlp.fc1"]) > 0
    assert 0.17 < sum(zeros.values()) / sum(layer.weight.numel() for layer in masked.values()) <= 0.2


def test_taylor_through_a_whole_model_is_finite_and_differs_from_l1() -> None:
    host = vits.made(vits.vit)

    def load(data: Noise, positions: np.ndarray) -> Batch:
        return Batch(vits.images(70)[positions], torch.zeros(len(positions), dtype=torch.long), tuple(data.ids[i] for i in positions))

    taylor = fit_taylor(host, load, Draws(0, "t", ["t"]), block=8, importance="taylor", calibration=Noise(), samples=8, **SETTINGS)
    assert all(bool(torch.isfinite(one).all()) for one in taylor.values())
    made = [block_pruning(host, taylor, block=8, importance=how, calibration=Noise()) for how in ("l1", "taylor")]
    assert not torch.equal(*(one.model.blocks[0].attn.qkv.weight for one in made))
    assert math.isfinite(float(made[1](vits.images(2)).sum()))
