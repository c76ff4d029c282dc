"""The search for a quantiser of attention maps that changes the attended values least."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.quantisation.calibration import LoadBatch, run_calibration
from robustvit.primitives.quantisation.map_quantisation import Codes, Levels, quantised_map
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.modules import changed
from robustvit.primitives.surgery.plain_attention import quantise_operand


def least_error_parameters(
    model: Classifier, load_batch: LoadBatch, draws: Draws, data: Data, samples: int,
    candidates: Tensor, codes: Codes, levels: Levels, bits: int,
) -> Tensor:  # fmt: skip
    """For each block of a plain vision transformer the candidate for which Σ‖(A − A_q)V‖² over samples is smallest; of equals the first.

    A: the attention map of each head, as the model has it; V: its values, quantised where the model quantises them. candidates: (C,)
    parameters of the scheme. Returns (blocks,). All candidates are compared on the maps of the unquantised map in every earlier block.
    """
    errors = map_errors(model, load_batch, draws, data, samples, candidates, codes, levels, bits)
    return candidates.cpu()[errors.argmin(dim=1).cpu()]


def map_errors(
    model: Classifier, load_batch: LoadBatch, draws: Draws, data: Data, samples: int,
    candidates: Tensor, codes: Codes, levels: Levels, bits: int,
) -> Tensor:  # fmt: skip
    """Σ‖(A − A_q)V‖² over samples, heads, tokens and channels: (blocks, C) float64."""
    recorders: list[_Errors] = []

    def change(module: nn.Module) -> nn.Module:
        for block in plain_vit(module).blocks:
            value = LastValue()
            recorders.append(_Errors(value, candidates, codes, levels, bits))
            block.attn = quantise_operand(quantise_operand(block.attn, "value", value), "map", recorders[-1])
        return module

    run_calibration(changed(model, change), load_batch, draws, data, samples)
    return torch.stack([recorder.errors for recorder in recorders])


class LastValue(nn.Module):
    """Passes values on, and keeps the last."""

    last: Tensor

    def forward(self, values: Tensor) -> Tensor:
        """The values, unchanged."""
        self.last = values
        return values

    def kept(self) -> Tensor:
        """The last values."""
        return self.last


class _Errors(nn.Module):
    """Passes maps on, and adds up what quantising them would change, for every candidate."""

    def __init__(self, value: LastValue, candidates: Tensor, codes: Codes, levels: Levels, bits: int) -> None:
        super().__init__()
        self.value, self.candidates, self.codes, self.levels, self.bits = value, candidates, codes, levels, bits
        self.errors = torch.zeros(len(candidates), dtype=torch.float64, device=candidates.device)

    def forward(self, maps: Tensor) -> Tensor:
        size = 1 if maps.device.type == "cpu" else len(maps)  # what a CPU reads for all candidates is in its cache
        for part, values in zip(torch.split(maps, size), torch.split(self.value.last, size), strict=True):
            for index, candidate in enumerate(self.candidates):
                lost = part - quantised_map(part, self.codes, self.levels, candidate.to(maps.dtype), self.bits)
                self.errors[index] += (lost @ values).square().sum(dtype=torch.float64)
        return maps
