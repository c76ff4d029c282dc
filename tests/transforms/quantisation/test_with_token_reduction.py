"""Quantisers and token reducers in either order are one model: maps, queries and values are quantised wherever tokens are reduced."""

from __future__ import annotations

import pytest
import torch
import vits
from calibration_noise import DRAWS, Noise, load_batch

from robustvit.primitives.classifier import Classifier
from robustvit.spec.registry import lookup
from robustvit.transforms.quantisation.dynamic import dynamic_int8
from robustvit.transforms.quantisation.logarithmic import adalog, fit_logarithms, log2
from robustvit.transforms.quantisation.static import fit_simulated, simulated_quantisation
from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.tome import tome

REDUCERS = {"tome": lambda model: tome(model, r=3), "evit": lambda model: evit(model, keep=0.5, blocks=[1])}


def simulated(model: Classifier) -> Classifier:
    defaults = {param.name: param.default for param in lookup("transform", "simulated_quantisation").params if param.name != "calibration"}
    asked = defaults | {"calibration": Noise(), "samples": 8, "attention_bits": 5, "map_bits": 4}
    ranges = fit_simulated(vits.made(vits.vit), load_batch, DRAWS, **asked)  # of the whole model, for both orders
    return simulated_quantisation(model, ranges | {f"vit.{name}": span for name, span in ranges.items()}, **asked)


def logarithmic(model: Classifier) -> Classifier:
    learned = {"map_base": torch.full((3,), 25.0), "gelu_base": torch.full((3,), 20.0), "gelu_scale": torch.full((3,), 9.0)}
    return adalog(model, learned, calibration=Noise())


QUANTISERS = {"log2": lambda model: log2(model, bits=3), "dynamic": dynamic_int8, "simulated": simulated, "adalog": logarithmic}


@pytest.mark.parametrize("reduced", REDUCERS)
@pytest.mark.parametrize("quantised", QUANTISERS.values(), ids=QUANTISERS)
def test_either_order_gives_the_same_logits(reduced, quantised) -> None:
    host, pixels = vits.made(vits.vit), vits.images(4)
    first, second = quantised(REDUCERS[reduced](host)), REDUCERS[reduced](quantised(host))
    assert torch.equal(first(pixels), second(pixels))
    assert float((first(pixels) - REDUCERS[reduced](host)(pixels)).abs().max()) > 1e-3


@pytest.mark.parametrize("reduced", REDUCERS)
def test_a_model_of_reduced_tokens_can_be_calibrated(reduced) -> None:
    asked = {"calibration": Noise(), "bits": 3, "operands": ["maps", "gelu"], "samples": 8, "gradient": "none"}
    found = fit_logarithms(REDUCERS[reduced](vits.made(vits.vit)), load_batch, DRAWS, **asked)
    assert {name: tuple(one.shape) for name, one in found.items()} == dict.fromkeys(("map_base", "gelu_base", "gelu_scale"), (3,))
    assert all(bool(((found[name] >= 10) & (found[name] <= 138)).all()) for name in ("map_base", "gelu_base"))
