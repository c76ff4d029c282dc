"""The search for AdaLog's bases and scales: those that change what follows attention maps and GELU least."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.quantisation.adaptive_logarithm import COARSEST, FINEST, PARTS, adaptive_levels
from robustvit.primitives.quantisation.gelu_quantisation import GELU_SHIFT, gelu_readers
from robustvit.primitives.quantisation.map_quantisation import LEAST
from robustvit.primitives.quantisation.map_search import LastValue
from robustvit.primitives.quantisation.progressive_search import Axis, Point, ProgressiveSearch
from robustvit.primitives.quantisation.quantised_inputs import append_quantiser
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.modules import changed
from robustvit.primitives.surgery.plain_attention import quantise_operand

Operand: TypeAlias = Literal["maps", "gelu"]

STEPS = 6  # as in AdaLog
_SPARSE = 11  # but for the last step, one row in so many is compared; prime to the usual widths of a grid of patches
_BASES = Axis(COARSEST - FINEST + 1, 8)
_SCALES = Axis(113, 16)  # from the first to the last of a range
_CACHED = 2**17  # values that a CPU compares at a time
_QUANTILE = 0.9  # of positive values: where the range of scales begins, as in AdaLog


class Candidate(NamedTuple):
    """A base 2^(q/37) and a scale."""

    base: float
    scale: float


def least_error_logarithms(
    transform: str, model: Classifier, operands: Sequence[Operand], bits: int, run: Callable[[Classifier], None]
) -> dict[Operand, list[Candidate]]:
    """For the map of every block and for the output of GELU in every MLP the base and scale of least error, see `search_logarithms`.

    maps: Σ‖(A − A_q)V‖² over samples, heads, tokens and channels, V as the model has it, quantised where it is. gelu: the squared change of
    the output of fc2, with its weights as the model has them. run: runs a model over the calibration samples.
    """
    recorders: dict[Operand, list[LogarithmRecorder]] = {"maps": [], "gelu": []}

    def change(module: nn.Module) -> nn.Module:
        for block in plain_vit(module).blocks if "maps" in operands else ():
            value = LastValue()
            recorders["maps"].append(LogarithmRecorder(value.kept, bits))
            block.attn = quantise_operand(quantise_operand(block.attn, "value", value), "map", recorders["maps"][-1])
        for layer in gelu_readers(transform, model, module) if "gelu" in operands else ():
            recorders["gelu"].append(LogarithmRecorder(layer.weight.detach().t, bits, shift=GELU_SHIFT, searched=True))
            append_quantiser(layer, recorders["gelu"][-1])
        return module

    recording = changed(model, change)
    search_logarithms(lambda: run(recording), [one for found in recorders.values() for one in found])
    return {operand: [one.candidate(one.points[int(one.errors.argmin())]) for one in found] for operand, found in recorders.items()}


def search_logarithms(run: Callable[[], None], recorders: Sequence[LogarithmRecorder]) -> None:
    """Leaves every recorder in a model with the errors of its 16 best candidates; `run` shows them the calibration samples, once for
    each step, and once before where scales are searched.

    Five steps of a `ProgressiveSearch` compare candidates on every eleventh row of each map and of each image's tokens, and the sixth the
    best 16 on all rows. All recorders are searched at once: on the values that the model has while none of them quantises.
    """
    if any(one.searched for one in recorders):
        run()
    for _ in range(STEPS - 1):
        for one in recorders:
            one.ask(one.search.pending, _SPARSE)
        run()
        for one in recorders:
            one.search.record(one.errors.tolist())
    for one in recorders:
        one.ask(sorted(one.search.best()), 1)
    run()


class LogarithmRecorder(nn.Module):
    """Passes values on, and adds up what quantising them would change of their product with a matrix, for some candidates.

    matrix: of the values (N, …, T, D), (N, …, D, out) or (D, out). shift: added to values before they are scaled. searched: whether a scale
    is searched, from the 90th percentile of the positive values to the largest; else it is 1.
    """

    def __init__(self, matrix: Callable[[], Tensor], bits: int, *, shift: float = 0.0, searched: bool = False) -> None:
        super().__init__()
        self.matrix, self.bits, self.shift, self.searched = matrix, bits, shift, searched
        self.low, self.high = math.inf, shift
        self.search = ProgressiveSearch(_BASES, *([_SCALES] if searched else []))
        self.ask([], 1)

    def ask(self, points: Sequence[Point], stride: int) -> None:
        """Begins to compare points of the search's lattice, on each `stride`-th row."""
        self.points, self.stride = list(points), stride
        self.errors = torch.zeros(len(self.points), dtype=torch.float64)

    def candidate(self, point: Point) -> Candidate:
        """The base and scale at a point of the lattice."""
        low = min(self.low, self.high)
        scale = low + (self.high - low) * point[1] / (_SCALES.size - 1) if self.searched else 1.0
        return Candidate(float(FINEST + point[0]), scale)

    def forward(self, values: Tensor) -> Tensor:
        """The values, unchanged."""
        if self.points:
            rows = values.detach()[..., :: self.stride, :]
            errors = product_errors(rows, self.matrix(), [self.candidate(point) for point in self.points], self.bits, self.shift)
            self.errors += errors.cpu()
        elif self.searched:
            self._see(values.detach().flatten())
        return values

    def _see(self, values: Tensor) -> None:
        """Widens the range of scales, so that it holds that of all batches."""
        positive = values[values > 0]
        if len(positive):
            least = positive.kthvalue(max(1, round(_QUANTILE * len(positive)))).values
            self.low = min(self.low, float(least) + self.shift)
            self.high = max(self.high, float(positive.max()) + self.shift)


def product_errors(values: Tensor, matrix: Tensor, candidates: Sequence[Candidate], bits: int, shift: float) -> Tensor:
    """Σ‖(x − x_q) M‖² for every candidate, (C,) float64. values, matrix, shift: see `LogarithmRecorder`.

    Logarithms are taken once; on a CPU a few images after another, so that all that is read is in its cache.
    """
    errors = torch.zeros(len(candidates), dtype=torch.float64, device=values.device)
    tables = [one.scale * adaptive_levels(values.new_tensor(one.base), bits) for one in candidates]
    size = max(1, _CACHED // values[0].numel()) if values.device.type == "cpu" else len(values)
    for at in range(0, len(values), size):
        shifted = values[at : at + size] + shift
        logarithms = -shifted.clamp(min=LEAST).log2().nan_to_num_()
        part = matrix if matrix.dim() == 2 else matrix[at : at + size]
        codes, places = torch.empty_like(logarithms), torch.empty_like(logarithms, dtype=torch.int32)
        for index, (one, table) in enumerate(zip(candidates, tables, strict=True)):
            torch.add(logarithms, math.log2(one.scale), out=codes)
            places.copy_(codes.mul_(PARTS / one.base).round_().clamp_(0, 2**bits))
            lost = table.index_select(0, places.view(-1)).view_as(shifted).sub_(shifted)
            errors[index] += (lost @ part).square_().sum(dtype=torch.float64)
    return errors
