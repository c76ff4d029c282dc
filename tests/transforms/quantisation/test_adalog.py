"""AdaLog of the output of GELU, and AdaLog as a whole, against formulas and searches computed one number after another."""

from __future__ import annotations

import math

import calibration_noise
import numpy as np
import pytest
import torch
import vits
from calibration_noise import DRAWS, Noise, load_batch
from timm.layers import GluMlp
from timm.layers.activations import GELUTanh
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.quantisation import logarithm_search
from robustvit.primitives.quantisation.gelu_quantisation import GELU_SHIFT, GeluQuantiser
from robustvit.primitives.quantisation.logarithm_search import Candidate, product_errors
from robustvit.spec.registry import lookup
from robustvit.transforms.low_rank import low_rank
from robustvit.transforms.quantisation.logarithmic import adalog, fit_logarithms
from robustvit.transforms.quantisation.static import fit_simulated, simulated_quantisation
from robustvit.transforms.weight_sharing import weight_sharing

SAMPLES = 20
MADE_UP = {"map_base": torch.full((3,), 25.0), "gelu_base": torch.tensor([20.0, 30.0, 40.0]), "gelu_scale": torch.tensor([9.0, 8.0, 7.0])}


def fitted(model, **more) -> dict[str, Tensor]:
    asked = {"calibration": Noise(), "bits": 4, "operands": ("maps", "gelu"), "samples": SAMPLES, "gradient": "straight-through"}
    return fit_logarithms(model, load_batch, DRAWS, **asked | more)


def by_hand(value: float, bits: int, q: float, scale: float) -> float:
    """What AdaLog makes of an output of GELU."""
    share = min(max((value + GELU_SHIFT) / scale, 1e-15), 1.0)
    code = round(-math.log2(share) * 37 / q)
    unit = 2 ** (bits + 1) - 2
    level = 0.0 if code >= 2**bits else 2.0 ** -(code * q // 37) * round(2 ** (-(code * q % 37) / 37) * unit) / unit
    return level * scale - GELU_SHIFT


def quantiser(bits: int, q: float, scale: float, gradient: str = "straight-through") -> GeluQuantiser:
    return GeluQuantiser(torch.tensor(q, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64), bits, gradient)


def test_the_shift_is_the_least_value_of_gelu() -> None:
    values = torch.linspace(-0.7518, -0.7517, 100_001, dtype=torch.float64)
    assert -float(functional.gelu(values).min()) == pytest.approx(GELU_SHIFT, abs=1e-15)
    assert float(functional.gelu(torch.linspace(-9, 9, 100_001, dtype=torch.float64)).min()) >= -GELU_SHIFT
    at = -0.7517915246935645
    assert 0.5 * math.erfc(-at / math.sqrt(2)) + at * math.exp(-at * at / 2) / math.sqrt(2 * math.pi) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("bits", [2, 4, 6])
@pytest.mark.parametrize(("q", "scale"), [(10, 2.0), (21, 0.7), (37, 1.0), (138, 5.0)])
def test_outputs_of_gelu_are_quantised_by_the_formula(bits, q, scale) -> None:
    values = functional.gelu(3 * torch.randn(400, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    wanted = [by_hand(value, bits, q, scale) for value in values.tolist()]
    assert np.allclose(quantiser(bits, q, scale)(values), wanted, atol=1e-12)
    assert len(quantiser(bits, q, scale)(values).unique()) <= 2**bits + 1


def test_the_gradient_is_straight_but_for_what_is_clipped_to_the_scale() -> None:
    leaf = torch.tensor([-GELU_SHIFT, -0.1, 0.0, 0.5, 0.82, 0.84, 3.0], requires_grad=True)
    found = quantiser(4, 20, 1.0)(leaf)
    assert torch.autograd.grad(found.sum(), leaf)[0].tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert float(found[-1].detach()) == pytest.approx(1 - GELU_SHIFT)
    assert torch.equal(quantiser(4, 20, 1.0, "none")(leaf), found)
    assert not quantiser(4, 20, 1.0, "none")(leaf).requires_grad


@pytest.mark.parametrize("cached", [40, 80, 1000])
def test_errors_are_those_of_the_product_with_the_quantised_values(cached, monkeypatch) -> None:
    monkeypatch.setattr(logarithm_search, "_CACHED", cached)
    values = functional.gelu(2 * torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    matrix = torch.randn(8, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    candidates = [Candidate(20.0, 3.0), Candidate(37.0, 1.0), Candidate(60.0, 0.5)]
    found = product_errors(values, matrix, candidates, 3, GELU_SHIFT)
    for one, error in zip(candidates, found.tolist(), strict=True):
        rounded = torch.tensor([by_hand(value, 3, *one) for value in values.flatten().tolist()], dtype=torch.float64).view_as(values)
        assert error == pytest.approx(float(((rounded - values) @ matrix).square().sum()), rel=1e-9)


def outputs_of_gelu() -> list[Tensor]:
    """The input of fc2 in every block, for the calibration samples."""
    host, found = vits.made(vits.vit), []
    for block in host.model.blocks:
        block.mlp.fc2.register_forward_pre_hook(lambda module, given: found.append(given[0].double()))
    host.configure(tile=SAMPLES)(calibration_noise.first(Noise(), SAMPLES))
    return found


@pytest.mark.parametrize("bits", [3, 4])
def test_base_and_scale_change_the_output_of_fc2_by_hardly_more_than_the_least_of_all(bits) -> None:
    host = vits.made(vits.vit)
    found = fitted(host, bits=bits, operands=["gelu"])
    assert set(found) == {"gelu_base", "gelu_scale"}
    for at, values in enumerate(outputs_of_gelu()):
        weight = host.model.blocks[at].mlp.fc2.weight.detach().double()

        def error(q: float, scale: float, values=values, weight=weight) -> float:
            return float(((quantiser(bits, q, scale)(values) - values) @ weight.T).square().sum())

        positive = values[values > 0].sort().values
        scales = GELU_SHIFT + torch.linspace(float(positive[int(0.9 * len(positive))]), float(positive[-1]), 6)
        errors = {(q, float(scale)): error(q, float(scale)) for q in range(10, 139) for scale in scales}
        own = error(float(found["gelu_base"][at]), float(found["gelu_scale"][at]))
        assert own <= 1.01 * min(errors.values())
        assert own < 0.7 * min(value for (q, _), value in errors.items() if q == 37)


def test_each_mlp_has_its_own_and_a_model_without_calibration_no_logits() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    made, bare = (adalog(host, artifact, calibration=Noise(), bits=3) for artifact in (MADE_UP, {}))
    assert [(float(block.mlp.fc2.inputs.base), float(block.mlp.fc2.inputs.scale)) for block in made.model.blocks] == [
        (20, 9), (30, 8), (40, 7),
    ]  # fmt: skip
    assert bool(torch.isnan(bare.model(pixels)).all())
    bare.model.load_state_dict(made.model.state_dict())
    assert torch.equal(bare(pixels), made(pixels))


@pytest.mark.parametrize("operands", [["maps"], ["gelu"], ["maps", "gelu"]])
def test_operands_say_what_is_quantised(operands) -> None:
    made = adalog(vits.made(vits.vit), MADE_UP, calibration=Noise(), operands=operands)
    for block in made.model.blocks:
        assert ("maps" in operands) == hasattr(block.attn, "quantisers")
        assert ("gelu" in operands) == hasattr(block.mlp.fc2, "inputs")
    with pytest.raises(BadParameter, match=r"operands is \[\]; it takes \[maps\], \[gelu\] or \[maps, gelu\]"):
        adalog(vits.made(vits.vit), MADE_UP, calibration=Noise(), operands=[])


@pytest.mark.parametrize("operands", [["maps"], ["gelu"]])
def test_without_a_policy_nothing_passes_back(operands) -> None:
    host, leaf = vits.made(vits.vit), vits.images(2).requires_grad_()
    hard, straight = (
        adalog(host, MADE_UP, calibration=Noise(), operands=operands, gradient=gradient) for gradient in ("none", "straight-through")
    )
    assert not hard(leaf).requires_grad
    assert torch.equal(hard(leaf), straight(leaf))
    assert bool(torch.autograd.grad(straight(leaf).sum(), leaf)[0].any())


@pytest.mark.parametrize(("more", "reason"), [
    ({"act_layer": nn.ReLU}, "activation function ReLU"), ({"mlp_layer": GluMlp}, "of the type GluMlp"),
    ({"scale_mlp_norm": True}, "a LayerNorm after GELU"),
])  # fmt: skip
def test_mlps_without_gelu_are_refused_and_their_maps_are_not(more, reason) -> None:
    host = vits.made(lambda: vits.vit(**more))
    for refused in (lambda: fitted(host), lambda: adalog(host, MADE_UP, calibration=Noise())):
        with pytest.raises(HostRefused, match=f"'adalog' quantises the output of GELU in every MLP, and 'toy' has one.*{reason}"):
            refused()
    assert adalog(host, MADE_UP, calibration=Noise(), operands=["maps"]).gradient == "straight-through"


def test_gelu_by_tanh_is_gelu() -> None:
    host = vits.made(lambda: vits.vit(act_layer=GELUTanh))
    assert bool(torch.isfinite(adalog(host, fitted(host), calibration=Noise())(vits.images(2))).all())


def test_a_layer_that_blocks_share_has_one_quantiser() -> None:
    shared = weight_sharing(vits.made(vits.vit), repeat=2)
    found = fitted(shared)
    assert [len(found[name]) for name in ("map_base", "gelu_base", "gelu_scale")] == [3, 2, 2]
    blocks = adalog(shared, found, calibration=Noise()).model.blocks
    assert isinstance(blocks[0].mlp.fc2.inputs, GeluQuantiser)
    assert blocks[0].mlp.fc2 is blocks[1].mlp.fc2


def test_what_low_rank_factors_are_given_is_quantised_once() -> None:
    small = low_rank(vits.made(vits.vit), rank_share=0.3)
    made = adalog(small, fitted(small), calibration=Noise())
    assert isinstance(made.model.blocks[0].mlp.fc2.inputs, GeluQuantiser)
    assert float((made(vits.images(2)) - small(vits.images(2))).abs().max()) > 1e-3


def whole(model, ranges: dict[str, Tensor], **more):
    """All that AdaLog quantises uniformly."""
    return simulated_quantisation(model, ranges, **uniform(**more))


def uniform(**more) -> dict:
    params = lookup("transform", "simulated_quantisation").params
    defaults = {param.name: param.default for param in params if param.name != "calibration"}
    bits = dict.fromkeys(("weight_bits", "activation_bits", "attention_bits"), 4)
    rest = {"samples": SAMPLES, "activation_scale": "mse", "layernorm": "mean", "float_inputs": ["mlp.fc2"]}
    return defaults | bits | rest | {"calibration": Noise()} | more


def test_adalog_as_a_whole_is_the_same_model_in_either_order() -> None:
    host, pixels = vits.made(vits.vit), vits.images(4)
    ranges = fit_simulated(host, load_batch, DRAWS, **uniform())
    assert not any("fc2" in name or "map" in name for name in ranges)
    logarithms = fitted(whole(host, ranges))
    first = adalog(whole(host, ranges), logarithms, calibration=Noise())
    second = whole(adalog(host, logarithms, calibration=Noise()), ranges)
    assert torch.equal(first(pixels), second(pixels))
    for made in (first, second):
        assert isinstance(made.model.blocks[0].mlp.fc2.inputs, GeluQuantiser)
        assert len(made.model.blocks[0].mlp.fc2.weight[0].unique()) <= 15


def test_either_order_can_be_learned() -> None:
    host, pixels = vits.made(vits.vit), vits.images(4)
    logarithmic = adalog(host, fitted(host), calibration=Noise())
    made = whole(logarithmic, fit_simulated(logarithmic, load_batch, DRAWS, **uniform()))
    assert bool(torch.isfinite(made(pixels)).all())
    assert made.gradient == "straight-through"
