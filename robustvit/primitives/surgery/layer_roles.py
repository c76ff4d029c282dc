"""Layers with weights and what they do in a vision transformer, told by their names and places."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, TypeAlias

from torch import nn

from robustvit.errors import BadParameter, few, nearest
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.factored import FACTORS
from robustvit.primitives.surgery.modules import named_layers

Role: TypeAlias = Literal["qkv", "projection", "mlp", "embedding", "downsampling", "head", "norm", "other"]

_QKV = {"qkv", "q_proj", "k_proj", "v_proj", "q", "k", "v", "kv", "query", "key", "value"}
_PROJECTION = {"proj", "out_proj", "o_proj", "to_out"}
_MLP = {"mlp", "ffn", "feed_forward", "intermediate", "fc1", "fc2", "linear1", "linear2"}
_EMBEDDING = {"patch_embed", "patch_embeddings", "embeddings", "conv_proj", "stem"}
_DOWNSAMPLING = {"downsample", "reduction", "patch_merging"}
_HEAD = {"head", "head_dist", "classifier"}


class RoledLayer(NamedTuple):
    """A layer with a parameter or tensor `weight`, its dotted name and its role."""

    name: str
    layer: nn.Module
    role: Role


def weight_layers(model: Classifier, module: nn.Module) -> list[RoledLayer]:
    """Linear layers, convolutions and norms of a classifier's module, in the order of registration; a shared layer once.

    module: the classifier's own, or a copy of it. The head is what timm's `get_classifier` returns, else a layer whose name says so, else
    the last linear layer. The patch embedding is known by its name, or is a convolution of the image's channels.
    """
    return layers_with_roles(module, model.channels)


def layers_with_roles(module: nn.Module, channels: int = 3) -> list[RoledLayer]:
    """As `weight_layers`, of a module by itself. channels: of its images."""
    found = [RoledLayer(name, layer, _role(name, layer, channels)) for name, layer in named_layers(module, nn.Module) if _has_weight(layer)]
    heads = _heads(module, found)
    return [one._replace(role="head") if id(one.layer) in heads else one for one in found]


def head_layers(module: nn.Module) -> list[RoledLayer]:
    """The linear layers that make a module's logits: one, two of a distilled model, none of a headless one."""
    return [one for one in layers_with_roles(module) if one.role == "head" and isinstance(one.layer, nn.Linear)]


def chosen_layers(
    model: Classifier, module: nn.Module, layers: Sequence[str] = (), include: Sequence[str] = (), *, kinds: tuple[type[nn.Module], ...]
) -> list[RoledLayer]:  # fmt: skip
    """The layers of these kinds inside the blocks, or those that `layers` names.

    layers: names or ends of names, `*` for any text: `qkv`, `blocks.0.*`, `mlp.fc1`; () for all but norms, the patch embedding and the
    head, of which `include` adds roles. Raises BadParameter where a name is that of no layer, or no layer is left.
    """
    known = weight_layers(model, module)
    taken = [one for one in known if isinstance(one.layer, kinds) or (one.role == "norm" and "norm" in include)]
    if layers:
        for pattern in layers:
            if not any(_matches(one.name, pattern) for one in taken):
                ends = {one.name.rpartition(".")[2] for one in taken} | {one.name for one in taken}
                names = few(sorted({one.name.rpartition(".")[2] for one in taken}))
                raise BadParameter(f"no layer of '{model.card.label}' is called '{pattern}'.{nearest(pattern, ends)} There are {names}.")
        return [one for one in taken if any(_matches(one.name, pattern) for pattern in layers)]
    left = [one for one in taken if one.role not in ("norm", "embedding", "head") or one.role in include]
    if not left:
        raise BadParameter(f"'{model.card.label}' has no layer to change besides norms, its patch embedding and its head.")
    return left


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _has_weight(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d) or _is_norm(layer)


def _is_norm(layer: nn.Module) -> bool:
    return "norm" in type(layer).__name__.lower() and getattr(getattr(layer, "weight", None), "ndim", 0) == 1


def _role(name: str, layer: nn.Module, channels: int) -> Role:
    parts = [part for part in name.split(".") if part not in FACTORS]
    if _is_norm(layer):
        return "norm"
    if _EMBEDDING & set(parts) or (isinstance(layer, nn.Conv2d) and layer.in_channels == channels):
        return "embedding"
    if _DOWNSAMPLING & set(parts):
        return "downsampling"
    if parts[-1] in _QKV:
        return "qkv"
    if _MLP & set(parts):
        return "mlp"
    if parts[-1] in _PROJECTION or parts[-3:] == ["attention", "output", "dense"]:
        return "projection"
    return "mlp" if parts[-2:] == ["output", "dense"] else "other"


def _heads(module: nn.Module, found: list[RoledLayer]) -> set[int]:
    """The ids of the layers of the head."""
    own = getattr(module, "get_classifier", None)
    told = set(_parts(own())) if own is not None else set()
    shared = _shared(found)
    named = {id(one.layer) for one in found if _HEAD & set(one.name.split(".")[shared:]) and one.role != "norm"}
    linear = [id(one.layer) for one in found if isinstance(one.layer, nn.Linear)]
    return told or named or set(linear[-1:])


def _shared(found: list[RoledLayer]) -> int:
    """How many parts all names begin with, such as that of the module that a wrapper holds."""
    levels = zip(*(one.name.split(".")[:-1] for one in found), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, levels))


def _parts(heads: object) -> Iterator[int]:
    """The ids of all layers of a classifier of timm: a layer, a sequence of them, or None."""
    for head in heads if isinstance(heads, tuple | list) else (heads,):
        if isinstance(head, nn.Module):
            yield from (id(part) for part in head.modules())
