"""Captures the attention maps of a model's blocks, and derives from them how much attention each token receives."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.attention_mode import AttentionMode, fused_attention
from robustvit.primitives.inference.keyed import bound_rows, padded
from robustvit.primitives.inference.token_grid import NO_TOKENS_HINT, TokenGrid, token_grid


class AttentionMaps(NamedTuple):
    """(N, K) float32 logits, and the attention map of each block in order, (N, heads, T, T) float32.

    Maps are taken after the softmax: rows are queries and sum to 1.
    """

    logits: Tensor
    maps: list[Tensor]


@contextlib.contextmanager
def refusing_hosts() -> Iterator[None]:
    """Context in which a model without such maps is one that a scenario does not take: ModelError becomes HostRefused."""
    try:
        yield
    except ModelError as error:
        raise error if isinstance(error, HostRefused) else HostRefused(str(error)) from error


def forward_with_attention(model: Classifier, images: Tensor) -> AttentionMaps:
    """Logits of images (N, 3, H, W) in [0, 1], and the attention map of each block; gradients flow from both to the images.

    The model receives whole tiles, one after another. Attention of few queries to all tokens, as in a pooling head, belongs to no block.
    The logits are not computed from these maps, which are made beside them: see `attention_in_graph` for gradients with respect to maps.
    Raises ModelError where the model does not attend between all tokens of an image in every block, or computes attention by hand.
    """
    parts = [_forward_tile(part, tile, _CaptureMode) for part, tile in _tiles(model, images)]
    return AttentionMaps(
        torch.cat([part.logits for part in parts]), [torch.cat(layer) for layer in zip(*(part.maps for part in parts), strict=True)]
    )


def attention_in_graph(
    model: Classifier, images: Tensor, beside: Callable[[Classifier], AbstractContextManager[None]] | None = None
) -> Iterator[AttentionMaps]:
    """Logits and attention maps as `forward_with_attention`, tile by tile, where each logit is computed from the very maps returned.

    `torch.autograd.grad(part.logits[:, k].sum(), part.maps)` are the gradients of class k with respect to the maps of all blocks, through
    the later blocks, too; images need not require gradients. Logits equal the fused path's up to rounding. The maps of a tile are what its
    logits are computed from, and maps joined over tiles would not be: hence a tile at a time, `model.tile` rows or the rest, in order.
    beside: a context around the pass of each tile, made of the model that computes it, such as one of hooks that record tokens, which come
    from the maps, too; there the rows after those of the images are padding.
    """
    return (_forward_tile(part, tile, _GraphMode, beside) for part, tile in _tiles(model, images))


def _tiles(model: Classifier, images: Tensor) -> Iterator[tuple[Classifier, Tensor]]:
    """At most a tile of the images after another, with the model bound to these rows."""
    rows = torch.split(torch.arange(len(images), device=images.device), model.tile)
    return ((bound_rows(model, some), images[some]) for some in rows)


@torch.no_grad()
def received_attention(model: Classifier, images: Tensor, layer: int | None) -> Tensor:
    """How much attention each patch token receives, (N, rows, columns) float32.

    layer: a block, counted from 0, whose attention is averaged over heads and queries; the last but one where a model has fewer blocks.
    None: attention rollout (Abnar and Zuidema 2020) over all blocks, heads averaged, to the class token, or to the mean of all tokens
    where there is none. Raises ModelError as `forward_with_attention` and `token_grid` do.
    """
    return torch.cat([_received_by_tile(part, tile, layer) for part, tile in _tiles(model, images)])


def attention_rollout(model: Classifier, images: Tensor) -> Tensor:
    """Attention rollout as `received_attention` with None for its layer, (N, rows, columns); gradients flow to the images."""
    return torch.cat([_received_by_tile(part, tile, None) for part, tile in _tiles(model, images)])


@torch.no_grad()
def probe_token_grid(model: Classifier) -> TokenGrid:
    """The layout of a model's tokens, from one forward pass of a blank image. Raises what `forward_with_attention` and `token_grid` do."""
    blank = torch.zeros(1, model.channels, *model.size, device=model.device)
    one = bound_rows(model, torch.zeros(1, dtype=torch.int64, device=model.device))
    return token_grid(model, forward_with_attention(one, blank).maps[0].shape[-1])


def _received_by_tile(model: Classifier, images: Tensor, layer: int | None) -> Tensor:
    """As `received_attention`, for at most a tile of images."""
    maps = forward_with_attention(model, images).maps
    grid = token_grid(model, maps[0].shape[-1])
    received = _rollout(maps, grid) if layer is None else maps[_block_index(maps, layer)].mean(dim=(1, 2))
    return received[:, grid.prefix :].reshape(-1, grid.rows, grid.columns)


def _block_index(maps: list[Tensor], layer: int) -> int:
    """The block that `layer` names: itself, or the last but one where a model has fewer blocks."""
    return layer if layer < len(maps) else max(0, len(maps) - 2)


def _rollout(maps: list[Tensor], grid: TokenGrid) -> Tensor:
    """(N, T): attention rollout from each token to the class token, or to all tokens on average where there is no class token."""
    identity = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype, device=maps[0].device)
    total = identity
    for layer in maps:
        mixed = layer.mean(dim=1) + identity
        total = (mixed / mixed.sum(dim=-1, keepdim=True)) @ total
    return total[:, 0] if grid.class_token else total.mean(dim=1)


def _forward_tile(
    model: Classifier, images: Tensor, capture: Callable[[Classifier, int, int], _CaptureMode],
    beside: Callable[[Classifier], AbstractContextManager[None]] | None = None,
) -> AttentionMaps:  # fmt: skip
    """As `forward_with_attention`, for at most a tile of images, with maps as a mode of the class `capture` makes them."""
    padding = images.new_zeros(model.tile - len(images), *images.shape[1:])
    model = bound_rows(model, padded(len(images), model.tile, images.device))
    mode = capture(model, model.tile, len(images))
    with fused_attention(model), mode, contextlib.nullcontext() if beside is None else beside(model):
        logits: Tensor = model(torch.cat((images, padding)))
    mode.check_intercepted()
    return AttentionMaps(logits[: len(images)], mode.captured())


class _CaptureMode(AttentionMode):
    """Captures the attention map of every block. rows: of the tile that the model receives. count: how many of them are images."""

    def __init__(self, model: Classifier, rows: int, count: int) -> None:
        super().__init__(model)
        self.rows, self.count = rows, count
        self.maps: list[Tensor] = []

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **rest: Any) -> Tensor:
        """The attention as called, beside its map."""
        self.check_queries(query, key.shape[-2])
        if query.shape[-2] == key.shape[-2]:
            self.capture(_map_of(query, key, value, *others, **rest))
        return functional.scaled_dot_product_attention(query, key, value, *others, **rest)

    def attend_multi_head(self, call: inspect.BoundArguments) -> Any:
        """The attention as called. Its map is the weights that the function itself can return."""
        arguments = call.arguments
        needs_weights, averaged = arguments.get("need_weights", True), arguments.get("average_attn_weights", True)
        arguments |= {"need_weights": True, "average_attn_weights": False}
        output, weights = functional.multi_head_attention_forward(*call.args, **call.kwargs)
        assert weights is not None  # need_weights is set
        self.check_queries(weights, weights.shape[-1])
        if weights.shape[-2] == weights.shape[-1]:
            output = self.multi_head_output(call, self.capture(weights), output)
        return output, (weights.mean(dim=1) if averaged else weights) if needs_weights else None

    def multi_head_output(self, call: inspect.BoundArguments, weights: Tensor, output: Tensor) -> Tensor:
        """What `multi_head_attention_forward` returns as its output: what it computed."""
        return output

    def capture(self, attention_map: Tensor) -> Tensor:
        """Adds the attention map of a block, of its images; half precision becomes float32. Returns the map to compute with."""
        kept = attention_map[: self.count]
        self.maps.append(kept if kept.dtype == torch.float64 else kept.float())
        return attention_map

    def check_queries(self, queries: Tensor, keys: int) -> None:
        """Raises ModelError unless queries are those of whole images, (rows, heads, T, …), and no more than the keys."""
        if queries.dim() != 4 or len(queries) != self.rows or queries.shape[-2] > keys:
            raise ModelError(
                f"model '{self.label}' attends within windows or parts of an image, not between all of its tokens: how much attention each "
                f"of them receives is undefined. {NO_TOKENS_HINT}"
            )

    def captured(self) -> list[Tensor]:
        """The attention maps. Raises ModelError where blocks had different tokens."""
        if len({layer.shape[-1] for layer in self.maps}) != 1:
            raise ModelError(
                f"model '{self.label}' has different tokens in some blocks, or none that attend to each other: how much attention each of "
                f"them receives is undefined. {NO_TOKENS_HINT}"
            )
        return self.maps


class _GraphMode(_CaptureMode):
    """Captures as above, and computes what each attention returns from the map that it captured."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **rest: Any) -> Tensor:
        """The attention as called, as its map times the values."""
        self.check_queries(query, key.shape[-2])
        if query.shape[-2] != key.shape[-2]:
            return functional.scaled_dot_product_attention(query, key, value, *others, **rest)
        found = self.capture(_map_of(query, key, value, *others, **rest))
        shared = found.shape[1] // value.shape[1]  # heads that have keys and values in common
        return found @ (value if shared == 1 else value.repeat_interleave(shared, dim=1))

    def multi_head_output(self, call: inspect.BoundArguments, weights: Tensor, output: Tensor) -> Tensor:
        """The output of `multi_head_attention_forward`, (T, N, D), as the weights times the projected values."""
        arguments = call.arguments
        separate, bias = arguments.get("use_separate_proj_weight", False), arguments["in_proj_bias"]
        matrix = arguments["v_proj_weight"] if separate else arguments["in_proj_weight"].chunk(3)[2]
        values = functional.linear(arguments["value"], matrix, None if bias is None else bias.chunk(3)[2])
        heads = values.reshape(*values.shape[:2], arguments["num_heads"], -1).permute(1, 2, 0, 3)
        joined = (weights @ heads).permute(2, 0, 1, 3).flatten(2)
        return functional.linear(joined, arguments["out_proj_weight"], arguments["out_proj_bias"])

    def capture(self, attention_map: Tensor) -> Tensor:
        """As above; the map to compute with is made of the one that is returned to the caller."""
        super().capture(attention_map)
        kept = self.maps[-1]
        if torch.is_grad_enabled() and not kept.requires_grad:
            kept.requires_grad_()
        return torch.cat((kept.to(attention_map.dtype), attention_map[self.count :]))


def _map_of(query: Tensor, key: Tensor, value: Tensor, *others: Any, **rest: Any) -> Tensor:
    """The map of an attention: the attention of values that are the rows of the identity matrix."""
    identity = torch.eye(key.shape[-2], dtype=value.dtype, device=value.device).expand(*key.shape[:-1], key.shape[-2])
    return functional.scaled_dot_product_attention(query, key, identity, *others, **rest)
