"""LayerShuffle: the blocks of a vision transformer are trained in a random order."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import NonNegative
from robustvit.primitives.structure.slot_embedding import embed_slots
from robustvit.primitives.training.block_order import blocks_in_order, drawn_order, transformer_in
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@article{freiberger2024layershuffle,
  title={LayerShuffle: Enhancing Robustness in Vision Transformers by Randomizing Layer Execution Order},
  author={Freiberger, Matthias and Kun, Peter and L{\\o}vlie, Anders Sundnes and Risi, Sebastian},
  journal={arXiv preprint arXiv:2407.04513},
  year={2024}
}"""


@defense(
    family="structure", source="Freiberger et al. 2024", url="https://arxiv.org/abs/2407.04513", citation=_CITATION,
    licence="the authors' code has no licence; this is written from the paper and facts of the code",
    rules="Report accuracy in order beside that under random orders, over many of them: the first falls. One order a step, whatever the "
    "number of processes. Adversarial images of another defense are made in the order of names.",
)  # fmt: skip
def layershuffle(
    *, kind: Literal["plain", "position", "predict"] = "plain", width: Annotated[int, Ge(1)] = 32, weight: NonNegative = 1.0
) -> Defense:  # fmt: skip
    """LayerShuffle (Freiberger et al. 2024): cross-entropy with the blocks in a uniformly random order, a new one every step.

    kind: plain, nothing more; position, each block is told the slot in which it computes (the transform `slot_embedding`, which the
    checkpoint names); predict, after each block a linear head predicts its slot from the mean token, and is not kept. width: of the
    embedding of a slot. weight: of the cross-entropy of predicted slots, a mean over blocks and images. Takes plain vision transformers.
    """
    if kind == "position":
        return Defense(
            "layershuffle", prepare=lambda model: embed_slots(plain_host(model, "layershuffle"), width), loss=shuffled_loss,
            surgery=named_surgery("slot_embedding", width=width),
        )  # fmt: skip
    if kind == "predict":
        return Defense(
            "layershuffle", prepare=_with_heads, export=_without_heads,
            loss=lambda model, batch, draws: _predicting_loss(model, batch, draws, weight),
        )  # fmt: skip
    return Defense("layershuffle", prepare=lambda model: plain_host(model, "layershuffle"), loss=shuffled_loss)


def shuffled_loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
    """The mean cross-entropy with the blocks in an order that is drawn, ()."""
    transformer = transformer_in(model, "layershuffle")
    with blocks_in_order(transformer, drawn_order(draws, len(transformer.blocks))):
        return functional.cross_entropy(model(batch.shown), batch.targets)


def _predicting_loss(model: nn.Module, batch: Batch, draws: Draws, weight: float) -> Tensor:
    transformer = transformer_in(model, "layershuffle")
    order = drawn_order(draws, len(transformer.blocks))
    with _outputs_of(transformer.blocks) as outputs, blocks_in_order(transformer, order):
        loss = functional.cross_entropy(model(batch.shown), batch.targets)
    return loss + weight * slot_loss([outputs[index] for index in order], [transformer.slot_heads[index] for index in order])


def slot_loss(outputs: Sequence[Tensor], heads: Sequence[nn.Module]) -> Tensor:
    """The mean cross-entropy of the slots that heads predict from the mean tokens, (). outputs: (N, T, D), in the order of slots."""
    logits = torch.stack([head(tokens.mean(dim=1)) for tokens, head in zip(outputs, heads, strict=True)])
    slots = torch.arange(len(logits), device=logits.device)[:, None].expand(logits.shape[:2])
    return functional.cross_entropy(logits.flatten(0, 1), slots.flatten())


@contextlib.contextmanager
def _outputs_of(blocks: Sequence[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Context in which the last output of each block is kept, by the index of the block."""
    kept: dict[int, Tensor] = {}

    def keep(index: int) -> Any:
        return lambda block, given, made: kept.__setitem__(index, made)

    hooks = [block.register_forward_hook(keep(index)) for index, block in enumerate(blocks)]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _with_heads(model: nn.Module) -> nn.Module:
    vit: Any = plain_host(model, "layershuffle")
    width, count = vit.embed_dim, len(vit.blocks)
    heads = [nn.Sequential(nn.LayerNorm(width), nn.Linear(width, count)) for _ in vit.blocks]
    vit.slot_heads = nn.ModuleList(heads).to(next(vit.parameters()))
    return model


def _without_heads(model: nn.Module) -> nn.Module:
    """A copy without the heads: training may go on with the model itself."""
    made = copy.deepcopy(model)
    del made.slot_heads
    return made
