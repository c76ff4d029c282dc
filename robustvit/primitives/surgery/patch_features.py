"""The final patch tokens of a vision transformer: after its last norm and whatever changes them there, before they are pooled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.quantisation.calibration import LoadBatch, run_calibration
from robustvit.primitives.surgery.hosts import why_not_host


@contextlib.contextmanager
def module_outputs(module: nn.Module) -> Iterator[list[Any]]:
    """Context with a list of what the module returns, one entry for each call."""
    found: list[Any] = []
    hook = module.register_forward_hook(lambda _, given, made: found.append(made))
    try:
        yield found
    finally:
        hook.remove()


@torch.no_grad()
def patch_features(model: Classifier, images: Tensor) -> Tensor:
    """(N, P, D): the final patch tokens of images (N, 3, H, W) in [0, 1], without a graph.

    Raises HostRefused for another model than timm's plain vision transformer, whatever its blocks have become.
    """
    vit = patch_transformer(model)
    with module_outputs(vit.norm) as found:
        model(images)
    return torch.cat(found)[: len(images), vit.num_prefix_tokens :]


def mean_patch_features(model: Classifier, load_batch: LoadBatch, draws: Draws, data: Data, samples: int) -> Tensor:
    """(P, D) float64: the mean of the final patch tokens over the first `samples` of a data set. Raises as `patch_features`."""
    vit = patch_transformer(model)
    total, count = torch.zeros((), dtype=torch.float64, device=model.device), 0

    def add(module: nn.Module, given: object, tokens: Tensor) -> None:
        nonlocal total, count
        total = total + tokens[:, vit.num_prefix_tokens :].double().sum(dim=0)
        count += len(tokens)

    hook = vit.norm.register_forward_hook(add)
    try:
        run_calibration(model, load_batch, draws, data, samples)
    finally:
        hook.remove()
    return total / count


def patch_transformer(model: Classifier) -> Any:
    """The transformer whose patch tokens these are. Raises HostRefused for a model that is no plain vision transformer of timm."""
    if why := why_not_host("blocks", model):
        raise HostRefused(f"final patch tokens are those of timm's plain vision transformers, and '{model.card.label}' is none: it {why}.")
    return model.model
