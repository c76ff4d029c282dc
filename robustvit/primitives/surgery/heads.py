"""The head of a model, the linear layer that makes logits of features: found, replaced, or left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from torch import nn

from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.hosts import plain_vit, refusing
from robustvit.primitives.surgery.layer_roles import RoledLayer, head_layers
from robustvit.primitives.surgery.modules import changed, replace_layer

Pool: TypeAlias = Literal["own", "class", "mean"]
_POOLS = {"class": "token", "mean": "avg"}  # as timm calls them


def with_heads(module: nn.Module, make: Callable[[int], nn.Module]) -> nn.Module:
    """Puts what `make` makes for features of so many numbers in the place of every head, in place; returns the module to go on with.

    A headless model of timm gets it where its head was. Raises HostRefused for other models without a linear head.
    """
    heads = _of_one_width(module)
    if not heads and hasattr(plain_vit(module), "reset_classifier"):
        plain_vit(module).reset_classifier(1)
        heads = _of_one_width(module)
    if not heads:
        raise HostRefused("it has no linear layer that makes its logits, in whose place a head could be put.")
    for one in heads:
        layer: Any = one.layer
        replace_layer(module, one.name, make(layer.in_features).to(layer.weight))
    return module


def feature_model(model: Classifier, pool: Pool = "own") -> Classifier:
    """The model without its head: its logits are what the head is given, (N, D); of a distilled one the mean of both heads' inputs.

    pool: what the features are: `own`, as the model reads them, its class token or the mean of its patch tokens, after the last norm;
    or one of these two. Raises HostRefused where there is no linear head, or another pool is asked of anything but timm's plain vision
    transformer.
    """

    def change(module: nn.Module) -> nn.Module:
        return without_heads(model, pooled_by(module, pool))

    with refusing("a readout of features", model):
        made = changed(model, change)
    made.card = replace(made.card, headless=True, classes=())
    return made


def without_heads(model: Classifier, module: nn.Module) -> nn.Module:
    """Leaves the heads out, in place; returns the module. A headless one stays as it is."""
    heads = _of_one_width(module)
    if not heads and not model.card.headless:
        raise HostRefused("it has no linear layer that makes its logits, whose input would be its features.")
    for one in heads:
        replace_layer(module, one.name, nn.Identity())
    return module


def head_or_none(module: nn.Module) -> str | None:
    """The name of the one head of a module, put there where a headless model of timm had its own; None for none and for two."""
    heads = _of_one_width(module)
    if not heads and hasattr(plain_vit(module), "reset_classifier"):
        plain_vit(module).reset_classifier(1)
        heads = _of_one_width(module)
    return heads[0].name if len(heads) == 1 else None


def pooled_by(module: nn.Module, pool: Pool) -> nn.Module:
    """Sets which tokens timm's plain vision transformer makes its features of, in place; returns the module."""
    vit = plain_vit(module)
    if pool == "own" or (_POOLS[pool] == getattr(vit, "global_pool", "") and getattr(vit, "attn_pool", None) is None):
        return module
    if getattr(vit, "global_pool", "") not in _POOLS.values() or type(vit).__name__ != "VisionTransformer":
        raise HostRefused(f"pool={pool} is of timm's plain vision transformers alone; leave it at own.")
    if pool == "class" and not vit.has_class_token:
        raise HostRefused("it has no class token; choose pool=mean.")
    vit.global_pool = _POOLS[pool]
    return module


def refuse_headless(model: Classifier, what: str) -> None:
    """Raises ModelError where a model gives features in place of logits. what: what needs logits, the beginning of the message."""
    if model.card.headless:
        raise ModelError(
            f"{what}: model '{model.card.label}' gives features, not logits: it has no head. Read them by a transform that learns one, "
            f"'{model.card.label}+knn(data=DATA)' or '+linear(data=DATA)', or train a head: robustvit train --from … --new-head."
        )


def _of_one_width(module: nn.Module) -> list[RoledLayer]:
    """The heads. Raises HostRefused where they are given features of different widths."""
    heads = head_layers(module)
    layers: list[Any] = [one.layer for one in heads]
    widths = sorted({one.in_features for one in layers})
    if len(widths) > 1:
        raise HostRefused(f"its logits are sums of heads of {' and '.join(map(str, widths))} features, which are not one's.")
    return heads
