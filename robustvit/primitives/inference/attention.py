"""What a model's blocks attend to, heard or softened while it answers.

Nothing of the model is rewritten: for the length of a call a mode stands between it and torch, and meets every
`scaled_dot_product_attention` (timm's fused attention, "sdpa" of Hugging Face) and every `torch.nn.MultiheadAttention`. Modules of timm that were
built unfused are set fused for that long. Attention that a model computes by hand cannot be met, and is refused rather than passed over.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier

_SOFTMAX = (torch.softmax, Tensor.softmax, functional.softmax, torch.special.softmax)
_MOST_PREFIX = 16  # tokens before those of the picture, where the model does not tell how many they are
_INSTEAD = "What goes by attention, such as the position of a patch, must go by saliency or chance."


class Heard(NamedTuple):
    """(N, K) float32 logits, and of each block in order the attention after its softmax, (N, heads, T, T) float32: rows are queries and sum to 1."""

    logits: Tensor
    maps: list[Tensor]


class Grid(NamedTuple):
    """How T tokens lie: so many before those of the picture (class, registers, distillation), then rows x columns of them, row by row."""

    prefix: int
    rows: int
    columns: int
    class_token: bool


def heard(model: Classifier, images: Tensor) -> Heard:
    """Logits of images (N, 3, H, W) in [0, 1], and what each block attends to; both pass gradients to the images.

    The model is given whole tiles, one after another. Attention of few queries to all tokens, as in a pooling head, is no block's.
    Raises ModelError where the model does not attend between all tokens of a picture in every block, or does so by hand.
    """
    parts = [_heard(model, part) for part in torch.split(images, model.tile)]
    return Heard(
        torch.cat([part.logits for part in parts]), [torch.cat(layer) for layer in zip(*(part.maps for part in parts), strict=True)]
    )


def maps(model: Classifier, images: Tensor) -> list[Tensor]:
    """What each block attends to: `heard` without the logits."""
    return heard(model, images).maps


@torch.no_grad()
def received(model: Classifier, images: Tensor, layer: int | None) -> Tensor:
    """How much attention each token of the picture receives, (N, rows, columns) float32.

    layer: a block, counted from 0, whose attention is averaged over heads and queries; a model with fewer blocks is asked at its last but one. None:
    attention rollout (Abnar and Zuidema 2020) over all blocks, heads averaged, as the class token sees it, or the mean of all tokens where there
    is none. Raises what `heard` and `grid` do.
    """
    return torch.cat([_received(model, part, layer) for part in torch.split(images, model.tile)])


def depth(found: list[Tensor], layer: int) -> int:
    """The block that `layer` names among those heard: itself, or the last but one of a model with fewer."""
    return layer if layer < len(found) else max(0, len(found) - 2)


def rollout(found: list[Tensor], place: Grid) -> Tensor:
    """(N, T): how much of each token reaches the class token through all blocks, or all tokens on average where there is no class token."""
    same = torch.eye(found[0].shape[-1], dtype=found[0].dtype, device=found[0].device)
    total = same
    for layer in found:
        mixed = layer.mean(dim=1) + same
        total = (mixed / mixed.sum(dim=-1, keepdim=True)) @ total
    return total[:, 0] if place.class_token else total.mean(dim=1)


def grid(model: Classifier, tokens: int) -> Grid:
    """How the tokens of a model lie on its pictures.

    The prefix is what timm's `num_prefix_tokens` says, otherwise the fewest tokens whose removal leaves a grid of the picture's proportions: of as many
    as its `num_patches` says, or of whole pixels where nothing does. Raises ModelError where there is none, as where channels attend to each other.
    """
    teller = _teller(model, "num_prefix_tokens")
    cutter = None if getattr(teller, "dynamic_img_size", False) else _teller(model, "num_patches")
    for prefix in range(_MOST_PREFIX) if teller is None else [int(teller.num_prefix_tokens)]:
        rows, columns = _sides(tokens - prefix, model.size)
        if rows and (model.size[0] % rows == 0 if cutter is None else rows * columns == cutter.num_patches):
            return Grid(prefix, rows, columns, bool(prefix) if teller is None else _class_token(teller, prefix))
    height, width = model.size
    raise ModelError(f"model '{model.card.label}': its {tokens} tokens are no grid on pictures of {height}x{width} pixels. {_INSTEAD}")


def laid(model: Classifier) -> Grid:
    """How the tokens of a model lie, from one look at a blank picture. Raises what `heard` and `grid` do."""
    with torch.no_grad():
        blank = maps(model, torch.zeros(1, 3, *model.size, device=model.device))
    return grid(model, blank[0].shape[-1])


@contextlib.contextmanager
def softened(model: Classifier, temperature: float) -> Iterator[None]:
    """For the length of a block every attention of the model is softmax(QKᵀ / (T·√d) + bias).

    temperature: T > 0; above 1 attention is spread wider. A bias, as of relative positions, stays as it is. Raises ModelError where attention
    is computed by hand, and at the block's end where none was met.
    """
    mode = _Softening(model, temperature)
    with _fused(model), _named(model, f"attention softened by {temperature}"), mode:
        yield
    mode.refuse_none()


def _received(model: Classifier, images: Tensor, layer: int | None) -> Tensor:
    """As `received`, for a tile or less."""
    found = maps(model, images)
    place = grid(model, found[0].shape[-1])
    told = rollout(found, place) if layer is None else found[depth(found, layer)].mean(dim=(1, 2))
    return told[:, place.prefix :].reshape(-1, place.rows, place.columns)


def _heard(model: Classifier, images: Tensor) -> Heard:
    """As `heard`, for a tile or less."""
    padding = images.new_zeros(model.tile - len(images), *images.shape[1:])
    mode = _Listening(model, model.tile)
    with _fused(model), mode:
        logits: Tensor = model(torch.cat((images, padding)))
    mode.refuse_none()
    return Heard(logits[: len(images)], [layer[: len(images)] for layer in mode.heard()])


def _teller(model: nn.Module, name: str) -> Any:
    """The outermost module that has a whole number of that name, or None."""
    return next((one for one in model.modules() if isinstance(getattr(one, name, None), int)), None)


def _sides(tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of as many tokens in the proportions of (height, width); (0, 0) where there are none."""
    rows = round((max(tokens, 0) * size[0] / size[1]) ** 0.5)
    columns = tokens // rows if rows else 0
    fits = rows * columns == tokens and rows * size[1] == columns * size[0]
    return (rows, columns) if fits else (0, 0)


def _class_token(teller: Any, prefix: int) -> bool:
    told = getattr(teller, "has_class_token", None)
    return prefix > 0 and (getattr(teller, "cls_token", True) is not None if told is None else bool(told))


@contextlib.contextmanager
def _fused(model: nn.Module) -> Iterator[None]:
    """For the length of a block timm's attention asks torch for the whole of it, which a mode can meet."""
    unfused: list[Any] = [one for one in model.modules() if getattr(one, "fused_attn", None) is False]
    for one in unfused:
        one.fused_attn = True
    try:
        yield
    finally:
        for one in unfused:
            one.fused_attn = False


@contextlib.contextmanager
def _named(model: nn.Module, manner: str) -> Iterator[None]:
    """For the length of a block every classifier in the model tells what is done to it besides what was done already."""
    before = [(one, one.manner) for one in model.modules() if isinstance(one, Classifier)]
    for one, told in before:
        one.manner = f"{told}; {manner}"
    try:
        yield
    finally:
        for one, told in before:
            one.manner = told


class _Meeting(TorchFunctionMode):
    """Meets the attention of a model while it is on. Inside `attend` and `attend_whole` it is off, and modes around it are on."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.label = model.card.label
        self.met = False

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self.met = True
            return self.attend(*args, **kwargs)
        if func is functional.multi_head_attention_forward:
            self.met = True
            return self.attend_whole(inspect.signature(func).bind(*args, **kwargs))
        if func in _SOFTMAX and _scores(*args, **kwargs):
            raise ModelError(
                f"model '{self.label}' computes attention by hand (a softmax over {_scores(*args, **kwargs)} scores), where it cannot be met: only "
                "torch's scaled_dot_product_attention and MultiheadAttention can, which most ViTs of timm use, and those of Hugging Face "
                'with attn_implementation="sdpa".'
            )
        return func(*args, **kwargs)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **rest: Any) -> Tensor:
        """What `scaled_dot_product_attention` is to return."""
        raise NotImplementedError

    def attend_whole(self, asked: inspect.BoundArguments) -> Any:
        """What `multi_head_attention_forward` is to return."""
        raise NotImplementedError

    def refuse_none(self) -> None:
        """Raises ModelError where the model has answered and no attention was met."""
        if not self.met:
            raise ModelError(
                f"model '{self.label}' has no attention that can be met: it is no vision transformer, or does not ask torch for its attention."
            )


class _Softening(_Meeting):
    """Divides queries by a temperature."""

    def __init__(self, model: Classifier, temperature: float) -> None:
        super().__init__(model)
        self.temperature = temperature

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **rest: Any) -> Tensor:
        """As asked, of softer queries."""
        return functional.scaled_dot_product_attention(query / self.temperature, key, value, *others, **rest)

    def attend_whole(self, asked: inspect.BoundArguments) -> Any:
        """Queries are linear in their projection, which is divided in their place."""
        given, width = asked.arguments, asked.arguments["embed_dim_to_check"]
        for name in ("in_proj_weight", "in_proj_bias", "q_proj_weight"):
            if given.get(name) is not None:
                given[name] = torch.cat((given[name][:width] / self.temperature, given[name][width:]))
        return functional.multi_head_attention_forward(*asked.args, **asked.kwargs)


class _Listening(_Meeting):
    """Keeps what every block attends to. rows: of the tile that the model is given."""

    def __init__(self, model: Classifier, rows: int) -> None:
        super().__init__(model)
        self.rows = rows
        self.kept: list[Tensor] = []

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **rest: Any) -> Tensor:
        """The attention itself is what comes back for values that are the rows of the identity."""
        self.refuse_parts(query, key.shape[-2])
        if query.shape[-2] == key.shape[-2]:
            ones = torch.eye(key.shape[-2], dtype=value.dtype, device=value.device).expand(*key.shape[:-1], key.shape[-2])
            self.keep(functional.scaled_dot_product_attention(query, key, ones, *others, **rest))
        return functional.scaled_dot_product_attention(query, key, value, *others, **rest)

    def attend_whole(self, asked: inspect.BoundArguments) -> Any:
        """As asked; what is kept are the weights that it can return itself."""
        given = asked.arguments
        wanted, averaged = given.get("need_weights", True), given.get("average_attn_weights", True)
        given |= {"need_weights": True, "average_attn_weights": False}
        answer, weights = functional.multi_head_attention_forward(*asked.args, **asked.kwargs)
        assert weights is not None  # they were asked for
        self.refuse_parts(weights, weights.shape[-1])
        if weights.shape[-2] == weights.shape[-1]:
            self.keep(weights)
        return answer, (weights.mean(dim=1) if averaged else weights) if wanted else None

    def keep(self, found: Tensor) -> None:
        """Keeps the attention of a block, of half precision in float32."""
        self.kept.append(found if found.dtype == torch.float64 else found.float())

    def refuse_parts(self, queries: Tensor, keys: int) -> None:
        """Raises ModelError unless queries are those of whole pictures, (rows, heads, T, …), and no more than the keys."""
        if queries.dim() != 4 or len(queries) != self.rows or queries.shape[-2] > keys:
            raise ModelError(
                f"model '{self.label}' attends within windows or parts of a picture, not between all of its tokens: what each of them receives "
                f"cannot be told. {_INSTEAD}"
            )

    def heard(self) -> list[Tensor]:
        """What was kept. Raises ModelError where blocks had different tokens."""
        if len({layer.shape[-1] for layer in self.kept}) != 1:
            raise ModelError(
                f"model '{self.label}' has not the same tokens in all blocks, or none that attend to each other: what each of them receives "
                f"cannot be told. {_INSTEAD}"
            )
        return self.kept


def _scores(input: Tensor, dim: int | None = None, *others: Any, **rest: Any) -> str:
    """The shape of what a softmax is taken over, where that may be attention: the last of three or more dimensions. Otherwise nothing."""
    last = dim in (-1, input.dim() - 1)
    return "x".join(map(str, input.shape)) if last and input.dim() >= 3 else ""
