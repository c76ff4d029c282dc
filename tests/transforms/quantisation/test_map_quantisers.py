"""Quantisers of attention maps, against formulas and searches computed one number after another."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import calibration_noise
import numpy as np
import pytest
import torch
import vits
from calibration_noise import DRAWS, Noise, load_batch
from torch import Tensor

from robustvit.primitives.quantisation.adaptive_logarithm import adaptive_codes, adaptive_levels
from robustvit.primitives.quantisation.map_quantisation import MapQuantiser
from robustvit.primitives.quantisation.map_search import map_errors
from robustvit.primitives.quantisation.uniform_quantisation import Range, round_to_grid, uniform_grid
from robustvit.transforms.quantisation.logarithmic import adalog, fit_logarithms, log2, log_codes, log_levels
from robustvit.transforms.quantisation.tangent import dopq, fit_curves, tangent_codes, tangent_levels


def maps() -> Tensor:
    """Softmax rows, some sharp."""
    scores = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(4)) * torch.tensor([1.0, 3.0, 9.0])[:, None, None]
    return scores.softmax(dim=-1)


def logarithmic(bits: int, steps: float) -> MapQuantiser:
    return MapQuantiser(log_codes, log_levels, torch.tensor(steps), bits, "none")


def adaptive(bits: int, q: float) -> MapQuantiser:
    return MapQuantiser(adaptive_codes, adaptive_levels, torch.tensor(float(q)), bits, "none")


def tangent(bits: int, a: float) -> MapQuantiser:
    return MapQuantiser(tangent_codes, tangent_levels, torch.tensor(a), bits, "none")


def by_hand(value: float, bits: int, steps: int) -> float:
    code = round(-math.log2(max(value, 1e-15)) * steps)
    return 0.0 if code >= 2**bits else 2.0 ** (-code / steps)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("steps", [1, 2])
def test_log2_rounds_the_exponent(bits, steps) -> None:
    found = logarithmic(bits, steps)(maps())
    wanted = [by_hand(value, bits, steps) for value in maps().flatten().tolist()]
    assert np.allclose(found.flatten(), wanted, rtol=1e-6)
    assert len(found.unique()) <= 2**bits + 1


def adalog_by_hand(value: float, bits: int, q: int) -> float:
    """AdaLog with whole numbers and fractions; Python's round is to even, too."""
    code = round(-math.log2(min(max(value, 1e-15), 1.0)) * 37 / q)
    if code >= 2**bits:
        return 0.0
    halvings, part = divmod(code * q, 37)
    unit = 2 ** (bits + 1) - 2
    return float(Fraction(round(2 ** (-part / 37) * unit), unit) / 2**halvings)


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("q", [10, 20, 36, 50, 138])
def test_adalog_is_the_formula_of_its_paper(bits, q) -> None:
    wanted = [adalog_by_hand(value, bits, q) for value in maps().flatten().tolist()]
    assert np.allclose(adaptive(bits, q)(maps()).flatten(), wanted, rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_adalog_of_37_is_log2_to_the_bit(bits) -> None:
    assert torch.equal(adaptive(bits, 37)(maps()), logarithmic(bits, 1)(maps()))


def relative_error(found: Tensor) -> float:
    return float((found - maps()).square().sum() / maps().square().sum())


def test_adalog_gains_nothing_from_8_bits_on_where_a_uniform_quantiser_does() -> None:
    least = {bits: min(relative_error(adaptive(bits, q)(maps())) for q in range(10, 139)) for bits in (3, 4, 6, 8, 10)}
    assert least[3] > least[4] > least[6]
    assert least[8] > 0.8 * least[6]
    assert least[10] > 0.95 * least[8]
    grid = uniform_grid(Range(torch.zeros(()), torch.ones(())), 8, symmetric=False)
    assert relative_error(round_to_grid(maps(), grid)) < 0.2 * least[8]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_tangent_without_slope_is_the_uniform_quantiser(bits) -> None:
    uniform = round_to_grid(maps(), uniform_grid(Range(torch.zeros(()), torch.ones(())), bits, symmetric=False))
    assert torch.allclose(tangent(bits, 0.0)(maps()), uniform, atol=1e-7)
    flat = MapQuantiser(tangent_codes, tangent_levels, torch.tensor(1e-6, dtype=torch.float64), bits, "none")
    assert torch.allclose(flat(maps().double()).float(), uniform, atol=1e-6)


@pytest.mark.parametrize("a", [0.0, 0.5, 1.0, 1.5])
def test_a_tangent_is_the_formula_monotone_and_idempotent(a) -> None:
    values, bits = torch.linspace(0, 1, 301), 4
    found = tangent(bits, a)(values)
    if a:
        wanted = [math.atan(round(math.tan(a * value) / math.tan(a) * 15) / 15 * math.tan(a)) / a for value in values.tolist()]
        assert np.allclose(found, wanted, atol=1e-5)
    assert bool((found.diff() >= 0).all())
    assert torch.equal(tangent(bits, a)(found), found)
    assert (float(found[0]), float(found[-1])) == (0.0, pytest.approx(1.0))


@pytest.mark.parametrize("make", [logarithmic(4, 1), adaptive(4, 21), tangent(4, 1.0)])
def test_zero_and_one_stay_and_straight_through_is_the_identity(make) -> None:
    assert make(torch.tensor([0.0, 1.0])).tolist() == [0.0, pytest.approx(1.0)]
    straight = MapQuantiser(make.codes, make.levels, make.parameter, make.bits, "straight-through")
    leaf = maps().requires_grad_()
    assert torch.equal(straight(leaf), make(maps()))
    assert bool((torch.autograd.grad(straight(leaf).sum(), leaf)[0] == 1).all())


def attended(model, pixels: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Maps and values of a block, from its projections."""
    tokens: list[Tensor] = []
    attention = model.model.blocks[block].attn
    handle = attention.register_forward_pre_hook(lambda module, given: tokens.append(given[0]))
    with torch.no_grad():
        model.configure(tile=len(pixels))(pixels)
        handle.remove()
        n, t, _ = tokens[0].shape
        query, key, value = attention.qkv(tokens[0]).view(n, t, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).double()
    return (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(dim=-1), value


def squared_change(make: MapQuantiser, attention: Tensor, value: Tensor) -> float:
    return float((((attention - make(attention)) @ value) ** 2).sum())


@pytest.mark.parametrize("bits", [3, 4])
def test_bases_and_curves_are_those_of_least_change_of_what_is_attended(bits) -> None:
    data, samples = Noise(), 20
    asked = {"calibration": data, "bits": bits, "samples": samples, "gradient": "none"}
    bases = fit_logarithms(vits.made(vits.vit), load_batch, DRAWS, operands=["maps"], **asked)["map_base"]
    curves = fit_curves(vits.made(vits.vit), load_batch, DRAWS, **asked)["curve"]
    assert bases.shape == curves.shape == (3,)
    for block in range(3):
        seen = attended(vits.made(vits.vit), calibration_noise.first(data, samples), block)
        errors = [squared_change(adaptive(bits, q), *seen) for q in range(10, 139)]
        assert errors[int(bases[block]) - 10] == pytest.approx(min(errors), rel=1e-4)
        assert min(errors) < 0.9 * errors[37 - 10]
        errors = [squared_change(tangent(bits, float(a)), *seen) for a in [*np.arange(32) * math.pi / 64, float(curves[block])]]
        assert errors[-1] == pytest.approx(min(errors), rel=1e-4)
        assert errors[-1] <= errors[0]


def test_errors_of_curves_are_those_of_what_is_attended() -> None:
    curves = torch.tensor([0.0, 0.7, 1.4])
    found = map_errors(vits.made(vits.vit), load_batch, DRAWS, Noise(), 20, curves, tangent_codes, tangent_levels, 3)
    for block in range(3):
        seen = attended(vits.made(vits.vit), calibration_noise.first(Noise(), 20), block)
        assert found[block].tolist() == pytest.approx([squared_change(tangent(3, a), *seen) for a in curves.tolist()], rel=1e-3)


@pytest.mark.parametrize(
    ("transform", "name", "values"),
    [
        (functools.partial(adalog, operands=["maps"]), "map_base", [11.0, 20.0, 60.0]),
        (dopq, "curve", [0.0, 0.7, 1.3]),
    ],
)
def test_each_block_has_its_own_and_a_model_without_calibration_no_logits(transform, name, values) -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    made = transform(host, {name: torch.tensor(values)}, calibration=Noise(), bits=3)
    assert [float(block.attn.quantisers["map"].parameter) for block in made.model.blocks] == pytest.approx(values)
    bare = transform(host, {}, calibration=Noise(), bits=3)
    assert bool(torch.isnan(bare.model(pixels)).all())
    bare.model.load_state_dict(made.model.state_dict())
    assert torch.equal(bare(pixels), made(pixels))


def test_calibration_does_not_depend_on_the_models_tile() -> None:
    asked = {"calibration": Noise(), "bits": 4, "operands": ["maps", "gelu"], "samples": 5, "gradient": "none"}
    found = [fit_logarithms(vits.made(vits.vit).configure(tile=tile), load_batch, DRAWS, **asked) for tile in (1, 7)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in ("map_base", "gelu_base", "gelu_scale"))


def test_without_a_policy_nothing_passes_back_beside_the_maps_either() -> None:
    host, leaf = vits.made(vits.vit), vits.images(2).requires_grad_()
    assert not log2(host, gradient="none")(leaf).requires_grad
    assert torch.equal(log2(host, gradient="none")(leaf), log2(host)(leaf))
    assert bool(torch.autograd.grad(log2(host)(leaf).sum(), leaf)[0].any())


def test_maps_of_the_model_are_those_quantised() -> None:
    host, pixels = vits.made(vits.vit), vits.images(4)
    made = log2(host, bits=3)
    attention, value = attended(vits.made(vits.vit), pixels, 0)
    wanted = logarithmic(3, 1)(attention.float()) @ value.float()
    tokens: list[Tensor] = []
    handle = made.model.blocks[0].attn.proj.register_forward_pre_hook(lambda module, given: tokens.append(given[0]))
    made(pixels)
    handle.remove()
    assert torch.allclose(tokens[0], wanted.transpose(1, 2).flatten(2), atol=1e-4)
