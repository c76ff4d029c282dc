"""Quantisers before the operands of attention follow each other, whoever put them there."""

from __future__ import annotations

import torch
import vits
from torch import nn

from robustvit.primitives.surgery.plain_attention import PlainAttention, quantise_operand


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values):
        return values * self.factor


def test_a_second_quantiser_follows_the_first_and_leaves_the_others() -> None:
    attention = vits.made(vits.vit).model.blocks[0].attn
    tokens = torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(0))
    before = attention(tokens)
    made = quantise_operand(quantise_operand(attention, "value", Times(3.0)), "value", Times(2.0))
    assert quantise_operand(made, "map", Times(0.5)) is made
    bias = attention.proj.bias
    assert torch.allclose(made(tokens) - bias, 3.0 * (before - bias), atol=1e-4)
    assert isinstance(made, PlainAttention)
