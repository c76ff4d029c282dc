"""The loss around a model's weights: known spectra, analytic Hessians, the plane by hand; and the length of circles."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from exact import classifier, images
from scipy.special import ellipe
from torch import Tensor, nn
from torch.nn import functional
from vits import images as vit_images
from vits import made, vit

from robustvit.analyses.insides.hessian import hessian, hessian_passes
from robustvit.analyses.insides.landscape import landscape, landscape_passes
from robustvit.analyses.insides.length_distortion import distortion_passes, length_distortion
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.weight_hessian import LossHessian, lanczos
from robustvit.primitives.passes import Passes
from robustvit.spec.binding import bind
from robustvit.spec.registry import scenario_entry
from robustvit.spec.spec import Spec, parse


def drawn(count: int) -> Draws:
    return Draws(0, "x", [str(row) for row in range(count)])


def bound(node: object) -> Spec:
    (spec,) = parse(node)
    return bind(scenario_entry(spec.name), spec)


def normal(number: int, size: int = 12) -> Tensor:
    return Draws(0, f"vector {number}", ["v"]).normal(size)[0].double()


def with_spectrum(values: list[float]) -> Tensor:
    size = len(values)
    turn = torch.linalg.qr(Draws(0, "turn", ["t"]).normal(size, size)[0].double()).Q
    return turn @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turn.T


@pytest.mark.parametrize("values", [
    [-9.0, 8.0, 7.0, 5.0, -4.0, 3.0, 2.0, 1.0, 0.5, 0.3, 0.2, 0.1],
    [6.0, 6.0, 6.0, -2.0, -2.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0],  # the basis is invariant after four steps
    [0.0] * 12,
])  # fmt: skip
def test_all_steps_find_the_whole_spectrum(values: list[float]) -> None:
    matrix = with_spectrum(values)
    found = lanczos(lambda vector: matrix @ vector, normal, 12)
    assert sorted(found.values.tolist()) == pytest.approx(sorted(values), abs=1e-8)
    assert found.values.abs().tolist() == sorted(found.values.abs().tolist(), reverse=True)
    assert float(found.residuals.max()) < 1e-5


def test_few_steps_find_the_ends_and_tell_how_far_they_are() -> None:
    values = [50.0, -40.0, *np.linspace(1, -1, 98).tolist()]
    turn = torch.linalg.qr(Draws(0, "turn", ["t"]).normal(100, 100)[0].double()).Q
    matrix = turn @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turn.T
    found = lanczos(lambda vector: matrix @ vector, lambda number: normal(number, 100), 12)
    assert found.values[:2].tolist() == pytest.approx(values[:2], rel=1e-6)
    for value, residual in zip(found.values.tolist(), found.residuals.tolist(), strict=True):
        assert min(abs(value - one) for one in values) <= residual + 1e-9


def softmax_hessian(pixels: Tensor, logits: Tensor) -> Tensor:
    """Of the mean cross-entropy in the weights (K, D) and biases (K,) of a linear model: the mean of (diag p − p pᵀ) ⊗ z zᵀ."""
    p = torch.softmax(logits, dim=1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    z = torch.cat((pixels, torch.ones(len(pixels), 1, dtype=torch.float64)), dim=1)
    return torch.einsum("nkl,ni,nj->kilj", inner, z, z).flatten(2).flatten(0, 1) / len(z)


def test_a_linear_model_has_its_analytic_hessian() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    model = Classifier(module, mean=0.5, std=0.5, size=2).double()
    pixels, labels = Draws(0, "pixels", [str(row) for row in range(32)]).uniform(3, 2, 2).double(), torch.arange(32) % 3
    found = hessian(model, pixels, labels, drawn(32), group=16, steps=39, eigenvalues=4, probes=400)
    for group in range(2):
        rows = slice(16 * group, 16 * group + 16)
        expected = softmax_hessian((2 * pixels[rows] - 1).flatten(1), model(pixels[rows]))
        spectrum = torch.linalg.eigvalsh(expected)
        largest = spectrum[spectrum.abs().argsort(descending=True)][:4]
        assert found["value_clean_eigenvalue"][group].tolist() == pytest.approx(largest.tolist(), rel=1e-3)
        assert float(found["value_clean_trace"][group]) == pytest.approx(float(expected.trace()), rel=0.05)
        assert float(found["value_clean_residual"][group].max()) < 1e-3


def test_decay_adds_twice_itself_to_every_eigenvalue() -> None:
    model, pixels, labels = made(vit), vit_images(8), torch.arange(8) % 5
    plain, decayed = (hessian(model, pixels, labels, drawn(8), group=8, probes=2, decay=decay) for decay in (0.0, 0.25))
    assert (decayed["value_clean_eigenvalue"] - plain["value_clean_eigenvalue"])[0, 0] == pytest.approx(0.5, abs=1e-3)
    weights = sum(one.numel() for one in model.parameters())
    assert float(decayed["value_clean_trace"] - plain["value_clean_trace"]) == pytest.approx(0.5 * weights, rel=1e-3)


def test_products_are_differences_of_gradients() -> None:
    model, pixels, labels = made(vit).double(), vit_images(8).double(), torch.arange(8) % 5
    with LossHessian(model, pixels, labels, 0.1) as curvature:
        vector = Draws(0, "v", ["v"]).normal(curvature.size)[0].double()
        found = curvature.times(vector)
    weights = [one for one in model.parameters() if one.is_floating_point()]
    assert not any(one.requires_grad for one in weights)

    def gradient(step: float) -> Tensor:
        moved = [one + step * part.view_as(one) for one, part in zip(weights, vector.split([one.numel() for one in weights]), strict=True)]  # type: ignore[no-untyped-call]
        leaves = [one.detach().requires_grad_() for one in moved]
        names = [name for name, _ in model.named_parameters()]
        loss = functional.cross_entropy(torch.func.functional_call(model, dict(zip(names, leaves, strict=True)), (pixels,)), labels)
        total = loss + 0.1 * sum(one.square().sum() for one in leaves)
        return torch.cat([one.flatten() for one in torch.autograd.grad(total, leaves)])

    assert torch.allclose(found, (gradient(1e-6) - gradient(-1e-6)) / 2e-6, rtol=1e-5, atol=1e-5)


def test_groups_and_batches_do_not_see_each_other() -> None:
    model, pixels, labels = made(vit), vit_images(16), torch.arange(16) % 5
    both = hessian(model, pixels, labels, drawn(16), group=8, probes=2, steps=6)
    alone = hessian(model, pixels[8:], labels[8:], drawn(16)[torch.arange(8, 16)], group=8, probes=2, steps=6)
    model.configure(tile=3)
    small = hessian(model, pixels, labels, drawn(16), group=8, probes=2, steps=6)
    for name, values in both.items():
        assert torch.equal(values[1:], alone[name])
        assert torch.equal(values, small[name])
        assert not torch.equal(values[0], values[1])


def test_a_loss_without_weights_and_too_few_of_them_are_told() -> None:
    class Nothing(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels.mean(dim=(2, 3))

    with pytest.raises(HostRefused, match="depends on none of its weights"):
        hessian(classifier(Nothing()), images(8), torch.zeros(8, dtype=torch.int64), drawn(8), group=8)
    with pytest.raises(BadParameter, match="finds 5 eigenvalues from at least as many steps; got steps=3"):
        hessian(made(vit), vit_images(8), torch.zeros(8, dtype=torch.int64), drawn(8), group=8, steps=3)


def test_a_landscape_is_the_loss_of_moved_weights() -> None:
    model, pixels, labels = made(vit), vit_images(6), torch.arange(6) % 5
    found = landscape(model, pixels, labels, drawn(6), points=3, reach=0.5)["value_clean_landscape"]
    assert torch.allclose(found[:, 4], functional.cross_entropy(model(pixels), labels, reduction="none"), atol=1e-6)
    before = {name: one.clone() for name, one in model.named_parameters()}
    steps: list[dict[str, Tensor]] = []
    for number in (1, 2):
        own = Draws(0, "x", [f"direction {number}"])
        steps.append({})
        for name, one in before.items():
            if one.dim() == 1 or "pos_embed" in name:
                continue
            rows = own.at(name).normal(*one.shape)[0]
            for channel in range(len(one)):
                rows[channel] *= float(one[channel].norm()) / (float(rows[channel].norm()) + 1e-7)
            steps[-1][name] = rows
    assert any("pos_embed" in name for name in before)
    for place, (first, second) in enumerate((i, j) for i in (-0.5, 0.0, 0.5) for j in (-0.5, 0.0, 0.5)):
        for name, one in model.named_parameters():
            if name in steps[0]:
                one.data.copy_(before[name] + first * steps[0][name] + second * steps[1][name])
        expected = functional.cross_entropy(model(pixels), labels, reduction="none")
        assert torch.allclose(found[:, place], expected, atol=1e-5)
    for name, one in model.named_parameters():
        one.data.copy_(before[name])
    with pytest.raises(BadParameter, match="points=4; give an odd number"):
        landscape(model, pixels, labels, drawn(6), points=4)


class Map(nn.Module):
    """A linear map of the pixels."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1) @ self.matrix.T


def stretched(matrix: Tensor, **given: Any) -> Tensor:
    model = Classifier(Map(matrix), mean=0.0, std=1.0, size=2)
    return length_distortion(model, torch.full((3, 3, 2, 2), 0.5), torch.zeros(3, dtype=torch.int64), drawn(3), **given)[
        "value_clean_distortion"
    ]


def test_a_rotation_keeps_lengths_and_a_scale_multiplies_them() -> None:
    turn = torch.linalg.qr(Draws(0, "turn", ["t"]).normal(12, 12)[0].double()).Q.float()
    assert stretched(turn, points=5).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert stretched(3 * turn, radius=0.1).tolist() == pytest.approx([3.0] * 3, abs=1e-4)


def test_a_circle_becomes_an_ellipse() -> None:
    """Of a map that stretches the plane's axes by a and b, the length is 4·a·E(1 − b²/a²)."""
    draws = drawn(3)
    across, up = (draws.at(name).normal(3, 2, 2).flatten(1).double() for name in ("across", "up"))
    for row in range(3):
        first = across[row] / across[row].norm()
        second = up[row] - (up[row] @ first) * first
        second = second / second.norm()
        matrix = 3.0 * torch.outer(first, first) + 1.0 * torch.outer(second, second)
        expected = 4 * 3.0 * ellipe(1 - 1 / 9) / (2 * math.pi)
        assert float(stretched(matrix.float(), points=64)[row]) == pytest.approx(expected, rel=1e-4)


class Product(nn.Module):
    """The product of two coordinates of the pixels, about grey."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(first), nn.Parameter(second)

    def forward(self, pixels: Tensor) -> Tensor:
        moved = pixels.flatten(1) - 0.5
        both = (moved @ self.first) * (moved @ self.second)
        return torch.stack((both, 0 * both), dim=1)


def test_the_derivative_is_along_the_circle_and_at_its_points() -> None:
    """On a circle of radius r the product of its two coordinates is r² sin 2θ / 2, whose length is 4r²: over 2πr it is 2r / π."""
    draws = drawn(1)
    across, up = (draws.at(name).normal(3, 2, 2).flatten().double() for name in ("across", "up"))
    first = across / across.norm()
    second = up - (up @ first) * first
    model = Classifier(Product(first.float(), (second / second.norm()).float()), mean=0.0, std=1.0, size=2)
    grey = torch.full((1, 3, 2, 2), 0.5)
    found = length_distortion(model, grey, torch.zeros(1, dtype=torch.int64), draws, radius=0.3, points=200)["value_clean_distortion"]
    assert float(found) == pytest.approx(2 * 0.3 / math.pi, rel=1e-3)


def test_a_curved_model_is_measured_on_the_circle() -> None:
    """Finite differences along the polygon."""
    model, pixels = made(vit), vit_images(2)
    found = length_distortion(model, pixels, torch.zeros(2, dtype=torch.int64), drawn(2), radius=0.2, points=400)["value_clean_distortion"]
    draws = drawn(2)
    across, up = (draws.at(name).normal(3, 32, 32) for name in ("across", "up"))
    across = across / across.flatten(1).norm(dim=1)[:, None, None, None]
    up = up - (up * across).sum(dim=(1, 2, 3), keepdim=True) * across
    up = up / up.flatten(1).norm(dim=1)[:, None, None, None]
    angles = [2 * math.pi * k / 400 for k in range(401)]
    with model.unbounded_pixels():
        outputs = [model.double()(pixels.double() + 0.2 * (math.cos(a) * across + math.sin(a) * up).double()) for a in angles]
    length = sum((after - before).norm(dim=1) for before, after in itertools.pairwise(outputs))
    assert found.tolist() == pytest.approx((length / (2 * math.pi * 0.2)).tolist(), rel=1e-3)  # type: ignore[union-attr]


def test_passes_are_declared() -> None:
    model = made(vit)
    assert hessian_passes(bound({"hessian": {"steps": 10, "probes": 2}}), model, {}) == Passes(forward=8.0 * 12 + 12.0)
    assert landscape_passes(bound({"landscape": {"points": 5}}), model, {"corruption": object()}) == Passes(forward=50.0)
    assert distortion_passes(bound({"length_distortion": {"points": 10}}), model, {}) == Passes(forward=43.0)
