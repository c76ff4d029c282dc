"""Attention heads of plain blocks whose value output is zero: made so for good, or one after another to measure what depends on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.quantisation.calibration import LoadBatch
from robustvit.primitives.surgery.hosts import plain_vit, why_no_plain_vit
from robustvit.primitives.surgery.masks import mask_weight, weight_parameter
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.sample_order import order

MEASURES = ("drop_label", "drop_answer", "js", "flip")


def head_list(module: nn.Module) -> list[tuple[int, int]]:
    """(block, head) of every attention head of a plain vision transformer, block after block."""
    return [(block, head) for block, one in enumerate(plain_vit(module).blocks) for head in range(one.attn.num_heads)]


def silence(module: nn.Module, heads: Sequence[tuple[int, int]]) -> nn.Module:
    """Masks in place the columns of output projections that some heads (block, head) write through; returns the module.

    Their value output is then as good as zero, and no other head's changes. Raises HostRefused where heads of several blocks are written by
    one projection, or normalised together before it.
    """
    blocks = plain_vit(module).blocks
    if len({id(block.attn.proj) for block in blocks}) < len(blocks):
        raise HostRefused("its blocks share output projections, so that no head is one block's own.")
    for index in sorted({block for block, _ in heads}):
        attention = blocks[index].attn
        if not isinstance(attention.norm, nn.Identity):
            raise HostRefused("its attention normalises over all heads, so that none can be taken out.")
        keep = torch.ones(attention.num_heads, dtype=torch.bool)
        keep[[head for block, head in heads if block == index]] = False
        weight = weight_parameter(attention.proj)
        mask_weight(attention.proj, keep.repeat_interleave(attention.head_dim).to(weight.device).expand(weight.shape).clone())
    return module


def check_heads(plugin: str, heads: Sequence[tuple[int, int]], module: nn.Module, label: str) -> None:
    """Raises BadParameter, naming the plug-in and the model, for a head that is not there or is named twice."""
    blocks = plain_vit(module).blocks
    for place, (block, head) in enumerate(heads):
        if not 0 <= block < len(blocks):
            raise BadParameter(f"{plugin}: model '{label}' has no block {block}; it has 0 to {len(blocks) - 1}.")
        if not 0 <= head < blocks[block].attn.num_heads:
            raise BadParameter(f"{plugin}: block {block} of '{label}' has no head {head}; it has 0 to {blocks[block].attn.num_heads - 1}.")
        if (block, head) in heads[:place]:
            raise BadParameter(f"{plugin}: head {block}:{head} is named twice.")


def removal_order(total: int, by: str, importance: Tensor | None, seed: int) -> list[int]:
    """In which order heads go, as their places in `head_list`: the most or the least important first, ties by place, or by chance."""
    if by == "random" or importance is None:
        return [int(one) for one in Draws(seed, "order of heads", ["heads"]).permutation(total)[0]]
    return [int(one) for one in importance.argsort(descending=by == "most", stable=True)]


class HeadEffects(NamedTuple):
    """(N, heads) each, of every head: what becomes of the softmax probabilities p without it, which are then q.

    drop_label: p − q of the label. drop_answer: p − q of the class predicted with all heads. js: the Jensen-Shannon divergence of p and q
    in bits, 0 to 1. flip: 1 where another class is predicted.
    """

    drop_label: Tensor
    drop_answer: Tensor
    js: Tensor
    flip: Tensor


@torch.no_grad()
def head_effects(plugin: str, model: Classifier, images: Tensor, labels: Tensor) -> HeadEffects:
    """What each head's value output does for predictions: it is set to zero, one head at a time.

    The blocks before its own are computed once for all heads, in whole tiles. Raises HostRefused for another model than timm's plain
    vision transformer.
    """
    if why := why_no_plain_vit(model.model) or (
        "computes its blocks in a way of its own" if plain_vit(model.model) is not model.model else ""
    ):
        raise HostRefused(f"'{plugin}' takes timm's plain vision transformers, and '{model.card.label}' is none: it {why}.")
    parts = []
    for some, right in zip(torch.split(images, model.tile), torch.split(labels, model.tile), strict=True):
        padded = torch.cat((some, some.new_zeros(model.tile - len(some), *some.shape[1:])))
        whole, *without = (logits[: len(some)].double().softmax(dim=1) for logits in _without_each(model, padded))
        parts.append(torch.stack([torch.stack(_effects(whole, one, right)) for one in without], dim=2))
    return HeadEffects(*torch.cat(parts, dim=1).float())


def mean_importance(
    plugin: str, model: Classifier, load_batch: LoadBatch, data: Data, samples: int, measure: str
) -> Tensor:  # fmt: skip
    """(heads,) the mean of one of MEASURES over the first `samples` of a data set in evaluation order."""
    chosen = order(data.ids)[:samples]
    total: Tensor | float = 0.0
    for start in range(0, len(chosen), model.tile):
        batch = load_batch(data, chosen[start : start + model.tile])
        total = total + getattr(head_effects(plugin, model, batch.images, batch.labels), measure).double().sum(dim=0)
    assert isinstance(total, Tensor)
    return (total / len(chosen)).float()


def _without_each(model: Classifier, images: Tensor) -> Iterator[Tensor]:
    """The logits of a whole tile of images, then those without each head, in the order of `head_list`."""
    held: list[nn.Module] = []
    copied = changed(model, lambda module: held.append(module) or module)  # type: ignore[func-returns-value]
    vit: Any = held[0]
    blocks, inputs = list(vit.blocks), dict[int, Tensor]()
    hooks = [block.register_forward_pre_hook(lambda _, given, at=at: inputs.__setitem__(at, given[0])) for at, block in enumerate(blocks)]
    yield copied(images)
    for hook in hooks:
        hook.remove()
    for at, block in enumerate(blocks):
        vit.blocks = nn.Sequential(_Known(inputs.pop(at)), *blocks[at:])
        for head in range(block.attn.num_heads):
            kept = torch.ones(block.attn.num_heads, device=images.device).index_fill_(0, torch.tensor(head, device=images.device), 0.0)
            hook = block.attn.proj.register_forward_pre_hook(_Scaled(kept.repeat_interleave(block.attn.head_dim)))
            yield copied(images)
            hook.remove()


class _Scaled:
    """A forward pre-hook that multiplies what a layer is given."""

    def __init__(self, factors: Tensor) -> None:
        self.factors = factors

    def __call__(self, layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return given[0] * self.factors.to(given[0].dtype), *given[1:]


class _Known(nn.Module):
    """Stands for blocks that have computed: returns their tokens."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, tokens: Tensor, **rest: Any) -> Tensor:
        """The known tokens, whatever it is given."""
        return self.tokens


def _effects(whole: Tensor, without: Tensor, labels: Tensor) -> HeadEffects:
    """(N,) each. whole, without: (N, K) probabilities with all heads and without one."""
    answer = whole.argmax(dim=1)
    of_label, of_answer = ((whole - without).gather(1, one[:, None])[:, 0] for one in (labels, answer))
    middle = (whole + without) / 2
    entropy = [-torch.special.xlogy(one, one).sum(dim=1) for one in (middle, whole, without)]
    js = ((entropy[0] - (entropy[1] + entropy[2]) / 2) / torch.log(torch.tensor(2.0, dtype=whole.dtype))).clamp_min(0.0)
    return HeadEffects(of_label, of_answer, js, (without.argmax(dim=1) != answer).to(whole.dtype))
