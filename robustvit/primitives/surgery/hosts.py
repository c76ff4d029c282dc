"""The kinds of models that transforms take, and why a model is none of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from robustvit.errors import BadParameter, GradientAbsent, HostRefused, ModelError, nearest, with_article
from robustvit.primitives.architectures.hilo_attention import hilo_layers
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.attention_mode import AttentionMode, fused_attention
from robustvit.primitives.inference.token_dropping import PLAIN
from robustvit.primitives.lesions.block_sequence import why_no_block_sequence
from robustvit.primitives.lesions.learned_positions import why_no_learned_positions
from robustvit.primitives.structure.part_maps import PartViT
from robustvit.primitives.structure.side_network import SideTuned
from robustvit.primitives.surgery.plain_attention import PlainAttention

_PYRAMIDS = {("timm.models.twins", "Twins"), ("timm.models.swin_transformer", "SwinTransformer")}
_BLOCK = ("timm.models.vision_transformer", "Block")


def why_not_host(kind: str, model: Classifier) -> str:
    """Why a model is not of a kind of HOSTS, as a predicate ("has no attention"); "" where it is.

    Raises BadParameter for an unknown kind.
    """
    if kind not in HOSTS:
        raise BadParameter(f"hosts is '{kind}'.{nearest(kind, HOSTS)} It takes {', '.join(HOSTS)}.")
    return HOSTS[kind](model)


def check_host(transform: str, kind: str, model: Classifier) -> None:
    """Raises HostRefused, in a sentence that names both, where a transform of this kind does not take a model."""
    if why := why_not_host(kind, model):
        raise HostRefused(f"'{transform}' takes {_TAKES[kind]}, and '{model.card.label}' is none: it {why}.")


def require_gradient(transform: str, model: Classifier) -> None:
    """Raises GradientAbsent where a transform learns from gradients and the model has none."""
    if model.gradient == "absent":
        raise GradientAbsent(
            f"'{transform}' learns from gradients, and '{model.card.label}' has none: something in it rounds. Give that a straight-through "
            "gradient (gradient=straight-through), or choose a setting that needs none."
        )


@contextlib.contextmanager
def refusing(transform: str, model: Classifier) -> Iterator[None]:
    """Context in which a refusal of one of the model's layers names the transform and the model."""
    try:
        yield
    except HostRefused as error:
        raise HostRefused(f"'{transform}' does not take '{model.card.label}': {error}") from error


def plain_vit(module: nn.Module) -> Any:
    """timm's vision transformer in a module: itself, or the one in a module of ours that walks its blocks (its attribute `vit`)."""
    return getattr(module, "vit", module)


def unwalked(module: nn.Module, transform: str) -> Any:
    """The module, where it is no module of ours that walks the blocks of another one, which knows the grid and the blocks of that.

    Raises HostRefused for such a one. transform: the one to name before it.
    """
    if plain_vit(module) is not module:
        raise HostRefused(f"it walks the blocks of a network that it knows; name {transform} before the transforms that do so.")
    return module


def why_no_plain_vit(model: nn.Module) -> str:
    """Why a module is no plain vision transformer of timm, as a predicate; "" where it is one."""
    module: Any = plain_vit(model)
    if why := _why_no_transformer(module):
        return why
    other = next((block for block in module.blocks if _class_of(block) != _BLOCK), None)
    if other is not None:
        return f"has blocks of the type {type(other).__name__}"
    odd = next((block.attn for block in module.blocks if type(block.attn).__name__ not in ("Attention", PlainAttention.__name__)), None)
    return "" if odd is None else f"has attention of the type {type(odd).__name__}"


def _why_no_transformer(module: nn.Module) -> str:
    return "" if _class_of(module) in PLAIN else f"is {with_article(type(module).__name__)}, and no plain VisionTransformer of timm"


def _why_no_patches(module: nn.Module) -> str:
    embed = plain_vit(module).patch_embed
    whole = hasattr(embed, "grid_size") and hasattr(embed, "patch_size")
    return "" if whole else f"embeds images by {with_article(type(embed).__name__)}, whose tokens are no grid of patches"


def _why_no_grid(module: nn.Module) -> str:
    return "" if _class_of(module) in PLAIN | _PYRAMIDS else f"is {with_article(type(module).__name__)}"


def _class_of(module: nn.Module) -> tuple[str, str]:
    return type(module).__module__, type(module).__name__


def _why_no_attention(model: Classifier) -> str:
    mode = _Noticing(model)
    try:
        with torch.no_grad(), fused_attention(model), mode:
            model(torch.zeros(1, model.channels, *model.size, device=model.device))
        mode.check_intercepted()
    except ModelError as error:
        return str(error).removeprefix(f"model '{model.card.label}' ").rstrip(".")
    return ""


def _why_no_projections(model: Classifier) -> str:
    found = any(isinstance(getattr(part, "qkv", None), nn.Linear) and hasattr(part, "num_heads") for part in model.model.modules())
    return "" if found else "has no module that projects to queries, keys and values by one linear layer `qkv`, as timm's attention does"


class _Noticing(AttentionMode):
    """Leaves attention as it is."""

    def attend(self, *args: object, **kwargs: object) -> torch.Tensor:
        """As called."""
        return nn.functional.scaled_dot_product_attention(*args, **kwargs)  # type: ignore[arg-type]

    def attend_multi_head(self, call: object) -> object:
        """As called."""
        return nn.functional.multi_head_attention_forward(*call.args, **call.kwargs)  # type: ignore[attr-defined]


HOSTS: dict[str, Callable[[Classifier], str]] = {
    "any": lambda model: "",
    "attention": _why_no_attention,
    "windows": _why_no_projections,
    "blocks": lambda model: _why_no_transformer(model.model),
    "plain": lambda model: why_no_plain_vit(model.model),
    "patches": lambda model: _why_no_transformer(model.model) or _why_no_patches(model.model),
    "plain-patches": lambda model: why_no_plain_vit(model.model) or _why_no_patches(model.model),
    "sequence": why_no_block_sequence,
    "positions": why_no_learned_positions,
    "hilo": lambda model: "" if hilo_layers(model.model) else "has no HiLo attention",
    "grids": lambda model: _why_no_grid(model.model),
    "side": lambda model: "" if isinstance(model.model, SideTuned) else why_no_plain_vit(model.model) or _why_no_patches(model.model),
    "parts": lambda model: "" if isinstance(model.model, PartViT) else why_no_plain_vit(model.model) or _why_no_patches(model.model),
}
"""any: every model. attention: models whose attention can be intercepted. windows: blocks of timm with `qkv` and `proj`, over whole images
or windows. blocks: timm's plain vision transformer, whatever its blocks have become. plain: the same, or one of ours that walks its blocks,
where these attend between all tokens as timm's do. patches, plain-patches: the same two, where patch tokens are those of a grid. sequence:
one sequence of blocks of one width, of timm, Hugging Face or torch. positions: a learned position embedding that is added to the tokens.
hilo: HiLo attention. grids: timm's VisionTransformer, DeiT, Twins and Swin, whatever their blocks have become. side: as plain-patches, with
or without a side network. parts: as plain-patches, or one of those with parts."""
_TAKES = {
    "attention": "models whose attention can be intercepted",
    "windows": "vision transformers of timm, of whole images or of windows",
    "blocks": "timm's plain vision transformers",
    "plain": "timm's plain vision transformers",
    "patches": "timm's plain vision transformers of a grid of patches",
    "plain-patches": "timm's plain vision transformers of a grid of patches",
    "hilo": "models with HiLo attention",
    "positions": "models with a learned position embedding",
    "sequence": "transformers of one sequence of blocks of one width",
    "grids": "VisionTransformer, DeiT, Twins and SwinTransformer of timm",
    "side": "timm's plain vision transformers",
    "parts": "timm's plain vision transformers of a grid of patches",
}
