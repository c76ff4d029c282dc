"""Hooks that record what modules of a transformer return while an attribution computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.block_features import blocks_of
from robustvit.primitives.inference.keyed import bound_rows
from robustvit.primitives.inference.token_grid import TokenGrid, token_grid


@contextlib.contextmanager
def recorded_outputs(modules: Sequence[nn.Module], place: list[Tensor]) -> Iterator[None]:
    """Context in which `place` receives what the modules return, in the order of their calls; of a tuple its first entry."""

    def keep(_: nn.Module, given: object, made: object) -> None:
        place.append(made[0] if isinstance(made, tuple) else made)  # type: ignore[arg-type]

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def patch_grid(model: Classifier) -> TokenGrid:
    """The layout of a model's tokens, from one pass of a blank image.

    Raises HostRefused for a model without one sequence of blocks, ModelError where tokens form no grid, or one that cuts pixels.
    """
    blank = torch.zeros(1, model.channels, *model.size, device=model.device)
    found: list[Tensor] = []
    host = bound_rows(model, torch.zeros(1, dtype=torch.int64, device=model.device))
    with torch.no_grad(), recorded_outputs(blocks_of(host)[:1], found):
        host(blank)
    return grid_of(model, found)


def grid_of(model: Classifier, tokens: Sequence[Tensor]) -> TokenGrid:
    """The layout of tokens that a block returned in a pass. Raises HostRefused for another number of calls or dimensions."""
    if len(tokens) != 1 or tokens[0].dim() != 3:
        raise HostRefused(
            f"model '{model.card.label}' has a block that does not return (N, T, D) tokens once in a pass; attribution maps are those of "
            "plain vision transformers."
        )
    grid = token_grid(model, tokens[0].shape[1])
    if model.size[0] % grid.rows or model.size[1] % grid.columns:
        raise ModelError(
            f"model '{model.card.label}': its {grid.rows}x{grid.columns} tokens do not divide its {model.size[0]}x{model.size[1]} pixels "
            "evenly, so that they have no patches."
        )
    return grid


def over_patches(pixels: Tensor, grid: TokenGrid) -> Tensor:
    """The sums of (n, H, W) over the pixels of each patch, (n, rows, columns)."""
    height, width = pixels.shape[1] // grid.rows, pixels.shape[2] // grid.columns
    return pixels.reshape(len(pixels), grid.rows, height, grid.columns, width).sum(dim=(2, 4))


def to_pixels(patches: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, rows, columns) with each value at all pixels of its patch, (n, H, W)."""
    height, width = size[0] // patches.shape[1], size[1] // patches.shape[2]
    return patches.repeat_interleave(height, dim=1).repeat_interleave(width, dim=2)


@contextlib.contextmanager
def recording_graph(differentiable: bool) -> Iterator[None]:
    """Context in which gradients are recorded; differentiable: those of gradients, too, which torch's fused attention has not."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH) if differentiable else contextlib.nullcontext():
        yield


def leaf_of(images: Tensor, differentiable: bool) -> Tensor:
    """The images themselves where a map is to be differentiable in them, else a copy that has a gradient of its own."""
    return images if differentiable else images.detach().clone().requires_grad_(True)


def own_scores(logits: Tensor, classes: Tensor) -> Tensor:
    """(): the sum over rows of each one's logit of its class. Rows are independent, so each keeps its own gradient.

    A single logit z is of the second of two classes, as the logits −z/2 and z/2 are.
    """
    both = torch.cat((-logits / 2, logits / 2), dim=1) if logits.shape[1] == 1 else logits
    return both.gather(1, classes[:, None]).sum()


def gradient_of(model: Classifier, score: Tensor, wanted: Tensor, differentiable: bool) -> Tensor:
    """The gradient of a score. Raises HostRefused where there is none, because something in the model rounds or has no derivative."""
    found = None
    if score.requires_grad:
        (found,) = torch.autograd.grad(score, wanted, create_graph=differentiable, retain_graph=True, allow_unused=True)
    if found is None:
        raise HostRefused(
            f"model '{model.card.label}' has no gradient where this attribution needs one: something in it rounds or is computed without. "
            "Take rollout, which needs none, or give the model a straight-through gradient."
        )
    return found
