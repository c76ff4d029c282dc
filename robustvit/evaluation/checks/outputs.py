"""Whether the outputs of a model are logits, as far as a few rows show."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

_SUM = 1e-3  # relative; how far the sums of probabilities may differ


class Outputs(NamedTuple):
    """What the outputs of a model are.

    kind: `logits`, `probabilities` (rows of one sum, none negative, whatever their scale) or `scores in [0, 1]`, such as sigmoids. reason:
    why what needs logits is not computed from them, "" for logits.
    """

    kind: str
    reason: str = ""


def outputs_of(logits: Tensor) -> Outputs:
    """What outputs (N, K) of some images are."""
    sums, low, high = logits.sum(dim=1), float(logits.min()), float(logits.max())
    if logits.shape[1] > 1 and low >= 0 and float(sums.min()) > 0 and float(sums.max() - sums.min()) <= _SUM * float(sums.max()):
        return Outputs(
            "probabilities",
            f"the model's outputs are probabilities, not logits: none is negative and every row sums to {float(sums[0]):.3g}",
        )
    if low >= 0 and high <= 1:
        return Outputs("scores in [0, 1]", f"the model's outputs are no logits: they lie in [0, 1] ({low:.2g} … {high:.2g})")
    return Outputs("logits")
