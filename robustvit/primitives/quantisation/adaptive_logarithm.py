"""AdaLog's scheme: codes are rounded logarithms to a base 2^(q/37), and what they stand for are halved values of a table."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.primitives.quantisation.map_quantisation import negative_log2

PARTS = 37  # AdaLog's r: a base is 2^(q/37)
FINEST, COARSEST = 10, 138  # AdaLog's smallest and largest q


def adaptive_codes(values: Tensor, base: Tensor, bits: int) -> Tensor:
    """round(−log₂ x · 37 / q), 2^bits for all that is below the last level."""
    return (negative_log2(values) * (PARTS / base)).round().clamp(max=2**bits)


def adaptive_levels(base: Tensor, bits: int) -> Tensor:
    """2^(−⌊kq/37⌋) · T[kq mod 37] for the code k, T[j] = 2^(−j/37) in multiples of 1/(2^(bits+1) − 2), and 0. → (2^bits + 1,)."""
    exponents = torch.arange(2**bits, device=base.device, dtype=base.dtype) * base
    halvings = (exponents / PARTS).floor()
    unit = 2 ** (bits + 1) - 2
    fractions = (torch.exp2(-(exponents - halvings * PARTS) / PARTS) * unit).round() / unit
    return torch.cat((fractions * torch.exp2(-halvings), base.new_zeros(1)))
