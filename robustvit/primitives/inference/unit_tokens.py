"""The tokens of a plain transformer at its joints: before the first block, after each attention and after each MLP.

They are recorded by hooks while the Classifier is called as it is, so that its normalisation and what transforms changed hold for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.block_features import blocks_of
from robustvit.primitives.inference.keyed import bound_rows, padded
from robustvit.primitives.inference.token_grid import TokenGrid, token_grid

_SECOND_NORM = {
    ("timm.models.vision_transformer", "Block"): "norm2",
    ("timm.models.beit", "Block"): "norm2",
    ("timm.models.eva", "EvaBlock"): "norm2",
    ("timm.models.deit", "Block"): "norm2",
    ("transformers.models.vit.modeling_vit", "ViTLayer"): "layernorm_after",
    ("transformers.models.deit.modeling_deit", "DeiTLayer"): "layernorm_after",
    ("transformers.models.dinov2.modeling_dinov2", "Dinov2Layer"): "norm2",
    ("torchvision.models.vision_transformer", "EncoderBlock"): "ln_2",
}
"""What the norm before the MLP is called in blocks that compute x = x + attention(norm(x)), x = x + mlp(norm(x))."""


class UnitTokens(NamedTuple):
    """The residual stream of some images, (n, T, D) each: `embedded`, before the first block, and after the attention and the MLP of each.

    logits: (n, K). Tokens are float32, float64 of a model that computes in it.
    """

    grid: TokenGrid
    logits: Tensor
    embedded: Tensor
    attention: list[Tensor]
    mlp: list[Tensor]

    @property
    def units(self) -> list[Tensor]:
        """All of them in the order in which they are computed: 1 + 2·L."""
        return [self.embedded, *(one for pair in zip(self.attention, self.mlp, strict=True) for one in pair)]


def unit_tokens(model: Classifier, images: Tensor) -> Iterator[UnitTokens]:
    """The tokens of images (N, 3, H, W) in [0, 1] at every joint, at most a tile of images after another.

    Gradients flow to the images. Raises HostRefused for a model without one sequence of blocks that add first an attention and then an MLP
    to the tokens, each of their norm, and ModelError where tokens form no grid.
    """
    _second_norms(model)
    rows = torch.split(torch.arange(len(images), device=images.device), model.tile)
    return (_of_tile(bound_rows(model, some), images[some]) for some in rows)


class Joints(NamedTuple):
    """What blocks, and their norms before the MLP, are given, and what the blocks return, in the order of their calls."""

    given: list[Tensor]
    attention: list[Tensor]
    mlp: list[Tensor]


@contextlib.contextmanager
def recorded_joints(model: Classifier) -> Iterator[Joints]:
    """Context in which the tokens of every pass are added to lists, those of padding included. Raises HostRefused as `unit_tokens`."""
    second, found = _second_norms(model), Joints([], [], [])
    with _kept(found.given, found.attention, found.mlp, blocks_of(model), second):
        yield found


def _of_tile(model: Classifier, images: Tensor) -> UnitTokens:
    padding = images.new_zeros(model.tile - len(images), *images.shape[1:])
    model = bound_rows(model, padded(len(images), model.tile, images.device))
    with recorded_joints(model) as (given, attention, mlp):
        logits: Tensor = model(torch.cat((images, padding)))
    blocks = blocks_of(model)
    if not len(given) == len(attention) == len(mlp) == len(blocks):
        raise _refused(model, f"calls its {len(blocks)} blocks {len(mlp)} times in a pass")
    if len({one.shape for one in (*given, *attention, *mlp)}) > 1 or given[0].dim() != 3:
        raise _refused(model, "computes on other tokens in some blocks than in others")
    shown = [[_exact(one)[: len(images)] for one in some] for some in (given[:1], attention, mlp)]
    return UnitTokens(token_grid(model, given[0].shape[1]), logits[: len(images)], shown[0][0], shown[1], shown[2])


@contextlib.contextmanager
def _kept(
    given: list[Tensor], attention: list[Tensor], mlp: list[Tensor], blocks: Any, second: list[str]
) -> Iterator[None]:  # fmt: skip
    """Context in which what blocks, and their second norms, are given and return is added to the lists."""

    def keep(place: list[Tensor], found: Any) -> None:
        place.append(found[0] if isinstance(found, tuple) else found)

    hooks = []
    for block, name in zip(blocks, second, strict=True):
        hooks += [
            block.register_forward_pre_hook(lambda _, args: keep(given, args)),
            getattr(block, name).register_forward_pre_hook(lambda _, args: keep(attention, args)),
            block.register_forward_hook(lambda _, args, made: keep(mlp, made)),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _second_norms(model: Classifier) -> list[str]:
    """The name of the norm before the MLP in each block."""
    blocks = blocks_of(model)
    names = [_SECOND_NORM.get((type(block).__module__, type(block).__name__), "") for block in blocks]
    odd: nn.Module | None = next((block for block, name in zip(blocks, names, strict=True) if not name), None)
    if odd is not None:
        raise _refused(model, f"has blocks of the type {type(odd).__name__}")
    return names


def _exact(tokens: Tensor) -> Tensor:
    return tokens if tokens.dtype == torch.float64 else tokens.float()


def _refused(model: Classifier, why: str) -> HostRefused:
    return HostRefused(
        f"model '{model.card.label}' {why}; tokens before and after attention and MLP are those of a plain vision transformer, such as "
        "timm's, torchvision's or Hugging Face's ViT, whose blocks compute on the same tokens and add to them."
    )
