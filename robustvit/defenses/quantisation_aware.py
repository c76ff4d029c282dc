"""Fine-tuning a model whose weights are on the grids of a quantiser, so that they stay there."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from robustvit.errors import BadParameter
from robustvit.primitives.defense import Defense
from robustvit.primitives.quantisation.quantised_weights import StoredForm, StoredWeights, stored_weights
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{jacob2018quantization,
  title={Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference},
  author={Jacob, Benoit and Kligys, Skirmantas and Chen, Bo and Zhu, Menglong and Tang, Matthew and Howard, Andrew and Adam, Hartwig
          and Kalenichenko, Dmitry},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
  year={2018}
}"""


@defense(
    family="compression", source="Jacob et al. 2018; straight-through: Bengio et al. 2013", url="https://arxiv.org/abs/1712.05877",
    citation=_CITATION,
    rules="Of a model after quantize, static_int8, dynamic_int8, simulated_quantisation or half_precision. Grids follow the weights, as "
    "the quantiser finds them at every step; those of activations stay as they were calibrated.",
)  # fmt: skip
def quantisation_aware() -> Defense:
    """Quantisation-aware training (Jacob et al. 2018): forward passes have rounded weights, and steps go to those before rounding.

    The gradient passes the rounding unchanged (straight-through). What is kept has the rounded weights, as the quantiser of the model
    rounds them. Masks of pruned weights hold. Raises BadParameter for a model without quantised weights.
    """
    return Defense("quantisation_aware", prepare=_rounding, export=_rounded)


class _Rounded(nn.Module):
    """A weight rounded to its grid, with the gradient of the weight itself."""

    def __init__(self, form: StoredForm) -> None:
        super().__init__()
        self.form = form

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.form.rounded(weight.detach()) - weight.detach())


def _rounding(model: nn.Module) -> nn.Module:
    found = list(stored_weights(model))
    if not found:
        raise BadParameter(
            "quantisation_aware trains a model with quantised weights, and this one has none; start from demo+quantize(bits=4)."
        )
    for layer, name, form in found:
        parametrize.register_parametrization(layer, name, _Rounded(form), unsafe=True)
    return model


def _rounded(model: nn.Module) -> nn.Module:
    """A copy whose weights are the rounded ones."""
    made = copy.deepcopy(model)
    for layer in [*made.modules()]:
        if isinstance(layer, StoredWeights) and parametrize.is_parametrized(layer):
            _bake(layer)
    return made


@torch.no_grad()
def _bake(layer: nn.Module) -> None:
    """Puts rounded weights in the place of what rounds them. torch's own way changes the class of the layer, which a copy shares."""
    kept = layer._modules.pop("parametrizations")
    layer.__class__ = type(layer).__mro__[1]  # type: ignore[assignment]
    for name, one in kept.items():  # type: ignore[union-attr, operator]
        original = one.original
        original.copy_(one())
        layer.register_parameter(name, original)
