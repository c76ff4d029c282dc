"""The one sequence of blocks of a transformer, of timm, Hugging Face or torch: found, put into another order, or cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter, HostRefused, few
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import computed_size
from robustvit.primitives.surgery.modules import changed

_SEQUENCES = ("blocks", "layers", "layer")  # timm; transformers 5 and torch; transformers 4


class BlockSequence(NamedTuple):
    """A module and the name of its sequence of blocks."""

    owner: Any
    name: str

    @property
    def blocks(self) -> Any:
        """The sequence itself."""
        return getattr(self.owner, self.name)


def block_sequences(module: nn.Module) -> list[BlockSequence]:
    """Every sequence of blocks in a module: a transformer of one width has one, Swin one for each stage and one of stages."""
    return [BlockSequence(one, name) for one in module.modules() for name in _SEQUENCES if _is_sequence(getattr(one, name, None))]


def why_no_block_sequence(model: Classifier) -> str:
    """Why blocks of a model cannot change their places, as a predicate; "" where they can: one sequence, the same tokens in and out."""
    found = block_sequences(model.model)
    if len(found) != 1:
        return f"has {len(found) or 'no'} sequences of blocks, and not one"
    shapes = _shapes(model, found[0].blocks)
    if isinstance(shapes, str):
        return shapes
    several = list(dict.fromkeys("x".join(map(str, shape[1:])) for shape in shapes))
    if len(several) > 1:
        return f"has blocks that do not all take and return tokens of one shape, but of {few(several)}"
    return "" if len(shapes[0]) in (3, 4) else f"has blocks of {several[0]}, which are neither a sequence of tokens nor a map of them"


def block_count(model: Classifier, plugin: str) -> int:
    """How many blocks a model has. Raises HostRefused where they cannot change their places; plugin: named in the message."""
    if why := why_no_block_sequence(model):
        raise HostRefused(f"'{plugin}' takes transformers of one sequence of blocks, and '{model.card.label}' is none: it {why}.")
    return len(block_sequences(model.model)[0].blocks)


def with_blocks(model: Classifier, order: Sequence[int]) -> Classifier:
    """A new Classifier in which the block `order[i]` computes in slot i; blocks that are not in `order` are left out."""
    return changed(model, lambda module: in_order(module, order))


def in_order(module: nn.Module, order: Sequence[int]) -> nn.Module:
    """Puts the blocks of a module's one sequence into an order, in place; returns the module."""
    (sequence,) = block_sequences(module)
    chosen = [sequence.blocks[index] for index in order]
    set_slots(chosen)
    kind: Callable[..., nn.Module] = nn.Sequential if isinstance(sequence.blocks, nn.Sequential) else nn.ModuleList
    setattr(sequence.owner, sequence.name, kind(*chosen) if kind is nn.Sequential else kind(chosen))
    return module


def set_slots(blocks: Sequence[nn.Module]) -> None:
    """Tells blocks that know in which slot they compute (`slot`) that they are in these."""
    for slot, block in enumerate(blocks):
        if isinstance(getattr(block, "slot", None), int):
            block.slot = slot  # type: ignore[assignment]


def check_removed(plugin: str, count: int, depth: int, label: str) -> None:
    """Raises BadParameter unless at least one block would stay."""
    if count >= depth:
        raise BadParameter(f"{plugin}: model '{label}' has {depth} blocks, of which at most {depth - 1} can be removed, not {count}.")


def _shapes(model: Classifier, blocks: Sequence[nn.Module]) -> list[tuple[int, ...]] | str:
    """The shapes that blocks are given and return in a pass, or why they have none."""
    found: list[Any] = []

    def keep(block: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        found.extend((given[0] if given else None, output[0] if isinstance(output, tuple) else output))

    hooks = [block.register_forward_hook(keep) for block in dict.fromkeys(blocks)]
    try:
        with torch.no_grad(), model.module_context():
            model.model(model.mean.new_zeros(1, model.channels, *computed_size(model)))  # type: ignore[operator]
    finally:
        for hook in hooks:
            hook.remove()
    if len(found) != 2 * len(blocks) or not all(isinstance(one, Tensor) for one in found):
        return "does not call each of its blocks once on tokens"
    return [tuple(one.shape) for one in found]


def _is_sequence(part: Any) -> bool:
    return isinstance(part, nn.Sequential | nn.ModuleList) and len(part) > 0
