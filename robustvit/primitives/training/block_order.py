"""The blocks of a vision transformer in another order than that of their names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from robustvit.errors import HostRefused
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.block_sequence import set_slots


def transformer_in(model: nn.Module, defense: str) -> Any:
    """The one module in a model whose `blocks` compute one after another.

    Raises HostRefused, in a sentence that names the defense, where there is none, or several of different widths, as in Swin.
    """
    found = [module for module in model.modules() if isinstance(getattr(module, "blocks", None), nn.Sequential)]
    if len(found) != 1:
        raise HostRefused(
            f"'{defense}' takes models with one sequence of `blocks`, and {type(model).__name__} has {len(found)}: such as plain vision "
            "transformers of timm."
        )
    return found[0]


def drawn_order(draws: Draws, count: int) -> tuple[int, ...]:
    """A uniformly random order of so many blocks, the same for all samples of a step."""
    shared = Draws(draws.seed, draws.stream, ("order of blocks",))  # no sample's own: one order for the batch, in every part of it
    return tuple(shared.permutation(count)[0].tolist())


@contextlib.contextmanager
def blocks_in_order(transformer: Any, order: Sequence[int]) -> Iterator[None]:
    """Context in which the block `order[i]` computes in slot i. Blocks that are not in `order` are left out."""
    blocks = transformer.blocks
    chosen = [blocks[index] for index in order]
    set_slots(chosen)
    transformer.blocks = nn.Sequential(*chosen)
    try:
        yield
    finally:
        transformer.blocks = blocks
        set_slots(blocks)
