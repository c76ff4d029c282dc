"""Blocks that are told in which slot, counted from 0, they compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustvit.primitives.surgery.hosts import plain_vit


class SlottedBlock(nn.Module):
    """A block behind a residual projection of its tokens and the embedding of the slot in which it computes.

    slots: (blocks, width) embeddings that all blocks share. slot: its own place in the order, unless something else sets it.
    """

    def __init__(self, block: nn.Module, slot: int, slots: nn.Embedding, width: int) -> None:
        super().__init__()
        self.block, self.slot, self.slots = block, slot, slots
        joined = width + slots.embedding_dim
        self.projection = nn.Sequential(nn.LayerNorm(joined), nn.Linear(joined, width), nn.GELU())

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        slot = self.slots.weight[self.slot].expand(*tokens.shape[:2], -1).to(tokens.dtype)
        told = tokens + self.projection(torch.cat((tokens, slot), dim=-1))
        found: Tensor = self.block(told, attn_mask=attn_mask, is_causal=is_causal)
        return found


def embed_slots(module: nn.Module, width: int) -> nn.Module:
    """Tells every block of timm's plain vision transformer its slot, in place, in so many numbers; returns the module. 0: does nothing.

    Embeddings begin at zero and projections as torch draws them.
    """
    vit: Any = plain_vit(module)
    like = next(vit.parameters())
    if width:
        slots = nn.Embedding(len(vit.blocks), width).to(like)
        nn.init.zeros_(slots.weight)
        vit.blocks = nn.Sequential(*(SlottedBlock(block, slot, slots, vit.embed_dim).to(like) for slot, block in enumerate(vit.blocks)))
    return module
