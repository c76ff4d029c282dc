"""Relation distillation: which tokens are alike in a teacher's last block, a student learns, whatever its width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustvit.defenses.distillation.distillation import at_size
from robustvit.errors import BadParameter, HostRefused, with_article
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative
from robustvit.primitives.training.block_order import transformer_in
from robustvit.primitives.training.on_pixels import normalised
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{zhang2022minivit,
  title={MiniViT: Compressing Vision Transformers with Weight Multiplexing},
  author={Zhang, Jinnian and Peng, Houwen and Wu, Kan and Liu, Mengchen and Xiao, Bin and Fu, Jianlong and Yuan, Lu},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2022}
}"""
_NAME = "relation_distillation"


@defense(
    family="distillation", source="Zhang et al. 2022 (MiniViT)", url="https://arxiv.org/abs/2204.07154", citation=_CITATION,
    licence="the authors' code is MIT; this is written from facts of the code",
    rules="Name the teacher. A penalty beside a loss: the authors add it to distillation of predictions (temperature 1, alpha 1, the "
    "defense distillation), on a student that shares weights between blocks (the transform weight_sharing). The paper was not "
    "at hand. Differs from their code: the "
    "last block alone, and not six of a Swin; hidden states by cross-entropy, where theirs has the squared difference of cosines times 49. "
    "A forward and a backward pass more, and a forward pass of the teacher.",
)  # fmt: skip
def relation_distillation(
    *, teacher: Classifier, attention: NonNegative = 1.0, hidden: NonNegative = 0.1, heads: Count = 1
) -> Defense:  # fmt: skip
    """Relation distillation (MiniViT, Zhang et al. 2022): cross-entropy between relations of tokens in teacher and student.

    Relations are softmax(A·Bᵀ / √d) over tokens. attention: weight of the mean over the nine pairs of queries, keys and values of the last
    block; hidden: weight of that of its output with itself. heads: of relations, into which widths are split; they are not those of the
    models. teacher: with as many patches as the student; images are resized to its size. Class and other prefix tokens take part where both
    have as many. Takes models with one sequence of blocks whose attention has a layer `qkv`, as timm's plain vision transformers.
    """
    _last_block(teacher)

    def penalty(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        with torch.no_grad():
            goal = last_states(teacher.model, normalised(teacher, at_size(batch.shown, teacher)))
        found, goal = alike(last_states(model, batch.shown), goal)
        pairs = [(i, j) for i in range(3) for j in range(3)]
        made = batch.images.new_zeros(())
        if attention:
            made = made + attention * relation_loss(found.qkv, goal.qkv, pairs, heads)
        return made + hidden * relation_loss([found.hidden], [goal.hidden], [(0, 0)], heads) if hidden else made

    return Defense(_NAME, penalty=penalty) if attention or hidden else Defense(_NAME)


class BlockStates(NamedTuple):
    """qkv: queries, keys and values of a block before they are split into heads, each (N, T, D); hidden: its output, (N, T, D).

    prefix: how many tokens, at the beginning, are of no patch.
    """

    qkv: tuple[Tensor, ...]
    hidden: Tensor
    prefix: int


def last_states(model: nn.Module, images: Tensor) -> BlockStates:
    """What the last block of a model computes, with gradients. images: as the model takes them. One forward pass.

    Raises HostRefused for models without one sequence of blocks, or whose last block has no layer `attn.qkv`.
    """
    transformer, block = _last_block(model)
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, given, output: seen.__setitem__(name, output)  # a shared layer is called by several blocks, and last by this

    handles = [block.attn.qkv.register_forward_hook(keep("qkv")), block.register_forward_hook(keep("hidden"))]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) < len(handles):
        raise HostRefused(f"'{_NAME}' takes models that call their last block as a whole, which {type(transformer).__name__} does not.")
    return BlockStates(seen["qkv"].chunk(3, dim=-1), seen["hidden"], int(getattr(transformer, "num_prefix_tokens", 0)))


def alike(student: BlockStates, teacher: BlockStates) -> tuple[BlockStates, BlockStates]:
    """Both for the same tokens: all of them where as many are of no patch, else those of patches. Raises BadParameter for other grids."""
    if student.prefix != teacher.prefix:
        student, teacher = _patches(student), _patches(teacher)
    mine, others = student.hidden.shape[1] - student.prefix, teacher.hidden.shape[1] - teacher.prefix
    if mine != others:
        raise BadParameter(f"'{_NAME}' relates the same tokens: the student has {mine} of patches, and the teacher {others}.")
    return student, teacher


def relation_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], pairs: Sequence[tuple[int, int]], heads: int) -> Tensor:
    """() the mean, over pairs, samples, heads and tokens, of the cross-entropy of the student's relations from those of the teacher.

    student, teacher: tensors (N, T, D), of any two widths that `heads` divide. Raises BadParameter for other widths.
    """
    mine, others = ([_split(one, heads) for one in of] for of in (student, teacher))
    return torch.stack([_cross_entropy(_relation(mine, *pair), _relation(others, *pair)) for pair in pairs]).mean()


def _relation(states: Sequence[Tensor], first: int, second: int) -> Tensor:
    """(N, heads, T, T): scaled products of two states, before the softmax."""
    products = states[first] @ states[second].transpose(-2, -1)
    return products / math.sqrt(states[first].shape[-1])


def _cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    return -(teacher.softmax(dim=-1) * student.log_softmax(dim=-1)).sum(dim=-1).mean()


def _split(states: Tensor, heads: int) -> Tensor:
    if states.shape[-1] % heads:
        raise BadParameter(f"'{_NAME}': a width is {states.shape[-1]}, which {heads} heads do not divide.")
    return states.reshape(*states.shape[:2], heads, -1).transpose(1, 2)


def _patches(states: BlockStates) -> BlockStates:
    return BlockStates(tuple(one[:, states.prefix :] for one in states.qkv), states.hidden[:, states.prefix :], 0)


def _last_block(model: nn.Module) -> tuple[Any, Any]:
    transformer = transformer_in(model, _NAME)
    block = transformer.blocks[-1]
    if not isinstance(getattr(getattr(block, "attn", None), "qkv", None), nn.Module):
        raise HostRefused(f"'{_NAME}' takes blocks whose attention has a layer `qkv`, and {with_article(type(block).__name__)} has none.")
    return transformer, block
