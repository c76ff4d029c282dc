"""How the tokens of a vision transformer lie on its images: prefix tokens first, then a grid of patches."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier

NO_TOKENS_HINT = "What goes by attention, such as the position of a patch, must go by saliency or chance."
_MOST_PREFIX = 16  # prefix tokens that are tried, where the model does not state their number


class TokenGrid(NamedTuple):
    """The layout of tokens: `prefix` tokens without a place (class, registers, distillation), then rows x columns of patches by row."""

    prefix: int
    rows: int
    columns: int
    class_token: bool


def token_grid(model: Classifier, tokens: int) -> TokenGrid:
    """The layout of a model's tokens on its images.

    The prefix is timm's `num_prefix_tokens` where the model has it, otherwise the fewest tokens whose removal leaves a grid of the
    image's proportions: of `num_patches` patches where the model has that, or of whole pixels. Raises ModelError where there is none, as
    where channels attend to each other.
    """
    counts_prefix = _module_with(model, "num_prefix_tokens")
    embedding = None if getattr(counts_prefix, "dynamic_img_size", False) else _module_with(model, "num_patches")
    for prefix in range(_MOST_PREFIX) if counts_prefix is None else [int(counts_prefix.num_prefix_tokens)]:
        rows, columns = _sides(tokens - prefix, model.size)
        if rows and (model.size[0] % rows == 0 if embedding is None else rows * columns == embedding.num_patches):
            return TokenGrid(prefix, rows, columns, bool(prefix) if counts_prefix is None else _has_class_token(counts_prefix, prefix))
    height, width = model.size
    raise ModelError(
        f"model '{model.card.label}': its {tokens} tokens do not form a grid on images of {height}x{width} pixels. {NO_TOKENS_HINT}"
    )


def _module_with(model: nn.Module, name: str) -> Any:
    """The outermost module that has an integer attribute of that name, or None."""
    return next((module for module in model.modules() if isinstance(getattr(module, name, None), int)), None)


def _sides(tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of as many tokens in the proportions of (height, width); (0, 0) where there are none."""
    rows = round((max(tokens, 0) * size[0] / size[1]) ** 0.5)
    columns = tokens // rows if rows else 0
    fits = rows * columns == tokens and rows * size[1] == columns * size[0]
    return (rows, columns) if fits else (0, 0)


def _has_class_token(module: Any, prefix: int) -> bool:
    stated = getattr(module, "has_class_token", None)
    return prefix > 0 and (getattr(module, "cls_token", True) is not None if stated is None else bool(stated))
