"""Attributions by gradients with respect to attention maps: LeGrad, and class identifiability."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.attribution.recorded import gradient_of, own_scores, recorded_outputs, recording_graph
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.attention_maps import attention_in_graph, attention_rollout
from robustvit.primitives.inference.block_features import blocks_of
from robustvit.primitives.inference.token_grid import token_grid
from robustvit.primitives.inference.token_scores import readout, token_scores
from robustvit.primitives.inference.unit_tokens import Joints, recorded_joints


def legrad(model: Classifier, images: Tensor, classes: Tensor, differentiable: bool = False) -> Tensor:
    """LeGrad (Bousselham et al. 2024), (N, rows, columns): gradients of a class's score with respect to every block's attention map.

    The tokens after block l, all of them, prefix tokens too, are averaged, and the last norm and the head make scores of them. G_l, the
    gradient of the class's score with respect to the attention map of block l, negative values set to 0, is averaged over heads and
    queries; the columns of prefix tokens are left out, and the maps of all blocks are added. The authors then rescale each map to [0, 1],
    which changes no order and is left out here. Raises HostRefused for another model than timm's plain vision transformer with a head on
    one token or the mean, ModelError where attention cannot be intercepted.
    """
    outputs: list[Tensor] = []
    total = []
    with recording_graph(differentiable):
        tiles = attention_in_graph(model, images, lambda part: recorded_outputs(blocks_of(part), outputs))
        for found, wanted in zip(tiles, torch.split(classes, model.tile), strict=True):
            _check_blocks(model, len(outputs), len(found.maps))
            layers = []
            for tokens, attention in zip(outputs, found.maps, strict=True):
                scores = token_scores(model, tokens.mean(dim=1))[: len(wanted)]  # of the whole tile, so that no row depends on others
                layers.append(gradient_of(model, own_scores(scores, wanted), attention, differentiable).relu().mean(dim=(1, 2)))
            total.append(_on_grid(model, torch.stack(layers).sum(dim=0)))
            outputs.clear()
    return torch.cat(total)


def identifiability_gradient(model: Classifier, images: Tensor, classes: Tensor, differentiable: bool = False) -> Tensor:
    """Class identifiability (Vilas et al. 2023), (N, rows, columns): by which attention the class is written into the token of the head.

    The last norm and the head make scores of what the attention of block l adds to the token that the head reads (the mean of the patches,
    where it reads that); the gradient of their cross-entropy with respect to the attention map of block l is averaged over heads, summed
    over queries and blocks, and taken with the opposite sign. Negative values, of patches that speak against the class, are then set to 0;
    the paper keeps them. Raises what `legrad` does.
    """
    record: list[Joints] = []

    @contextlib.contextmanager
    def joints(part: Classifier) -> Iterator[None]:
        with recorded_joints(part) as found:
            record.append(found)
            yield

    total = []
    with recording_graph(differentiable):
        for found, wanted in zip(attention_in_graph(model, images, joints), torch.split(classes, model.tile), strict=True):
            one = record.pop()
            _check_blocks(model, len(one.attention), len(found.maps))
            layers = []
            for before, after, attention in zip(one.given, one.attention, found.maps, strict=True):
                scores = token_scores(model, readout(model, after - before))[: len(wanted)]
                loss = functional.cross_entropy(scores, wanted, reduction="sum")
                layers.append(-gradient_of(model, loss, attention, differentiable).mean(dim=1).sum(dim=1))
            total.append(_on_grid(model, torch.stack(layers).sum(dim=0)).relu())
    return torch.cat(total)


def rollout(model: Classifier, images: Tensor, classes: Tensor, differentiable: bool = False) -> Tensor:
    """Attention rollout (Abnar and Zuidema 2020), (N, rows, columns), the same for every class; see `received_attention`."""
    if differentiable:
        return attention_rollout(model, images)
    with torch.no_grad():
        return attention_rollout(model, images)


def _on_grid(model: Classifier, columns: Tensor) -> Tensor:
    """(n, T) → (n, rows, columns)."""
    grid = token_grid(model, columns.shape[1])
    return columns[:, grid.prefix :].reshape(-1, grid.rows, grid.columns)


def _check_blocks(model: Classifier, blocks: int, attentions: int) -> None:
    if blocks != attentions:
        raise HostRefused(
            f"model '{model.card.label}' computes {attentions} attentions in {blocks} calls of its blocks; gradients with respect to "
            "attention maps are those of blocks with one attention each."
        )
