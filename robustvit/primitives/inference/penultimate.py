"""Penultimate features: what the last linear layer of a model makes its logits of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier


class Penultimate(NamedTuple):
    """logits: (N, K) of a Classifier; features: (N, D), the input of `head`, the linear layer whose output are the module's logits.

    features and head are None where the module has no such layer: its logits are computed by something else, are an average of two heads,
    or the module is called more than once for an image.
    """

    logits: Tensor
    features: Tensor | None = None
    head: nn.Linear | None = None


def penultimate(model: Classifier, images: Tensor) -> Penultimate:
    """The logits and penultimate features of images, (N, 3, H, W) in [0, 1], a tile at a time and without gradient."""
    parts = [_of_tile(model, tile) for tile in torch.split(images, model.tile)]
    logits, heads = torch.cat([part.logits for part in parts]), {part.head for part in parts}
    features = [part.features for part in parts if part.features is not None]
    if len(heads) > 1 or len(features) < len(parts):
        return Penultimate(logits)
    return Penultimate(logits, torch.cat(features), heads.pop())


def _of_tile(model: Classifier, images: Tensor) -> Penultimate:
    with torch.no_grad(), _recorded(model) as calls:
        logits = model(images)
    if len(calls.outputs) != 1:
        return Penultimate(logits)
    output = calls.outputs[0]
    last = [(head, given) for head, given, made in calls.linear if made.shape == output.shape and torch.equal(made, output)]
    if not last:
        return Penultimate(logits)
    head, given = last[-1]
    return Penultimate(logits, given[: len(images)], head)


class _Calls(NamedTuple):
    """outputs: of the modules in Classifiers, one for each call; linear: each call of a linear layer on rows, its input and its output."""

    outputs: list[Tensor]
    linear: list[tuple[nn.Linear, Tensor, Tensor]]


@contextlib.contextmanager
def _recorded(model: Classifier) -> Iterator[_Calls]:
    calls = _Calls([], [])
    wrapped = {id(one.model): one.model for one in model.modules() if isinstance(one, Classifier)}
    layers = [one for one in model.modules() if isinstance(one, nn.Linear)]
    hooks = [one.register_forward_hook(lambda _, given, made: calls.outputs.append(made)) for one in wrapped.values()]
    hooks += [one.register_forward_hook(lambda layer, given, made: _keep(calls, layer, given[0], made)) for one in layers]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _keep(calls: _Calls, layer: nn.Linear, given: Tensor, made: Tensor) -> None:
    if made.dim() == 2:
        calls.linear.append((layer, given, made))
