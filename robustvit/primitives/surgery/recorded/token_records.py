"""What a model that computes on fewer tokens did with the images of a forward pass: its costs, and which patches stayed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.recorded.forward_records import recording

_REDUCES = "counted"  # what a module sets at every forward pass that computes on fewer tokens


@contextlib.contextmanager
def recorded_costs(model: Classifier, rows: int) -> Iterator[dict[str, Tensor]]:
    """Context that fills a dict with `value_tokens` (rows, L) and `value_gmacs` (rows,) of the images that are predicted within it.

    rows: how many images go through the model, in whole tiles but for the last. Left empty for models that compute on all their tokens.
    """
    found: dict[str, Tensor] = {}
    parts: list[dict[str, Tensor]] = []
    with recording(model, _REDUCES, lambda made: parts.append({key: one.detach().clone() for key, one in made.counted.items()})):
        yield found
    found.update({f"value_{key}": torch.cat([part[key] for part in parts])[:rows].float() for key in (parts[0] if parts else ())})


@torch.no_grad()
def surviving_patches(model: Classifier, images: Tensor) -> Tensor:
    """(N, patches) bool: at which patches' places a model that computes on fewer tokens has tokens at its end.

    A token is at the place of the one into which others were merged. Raises HostRefused for a model that computes on all its tokens.
    """
    parts: list[Tensor] = []
    with recording(model, _REDUCES, lambda made: parts.append(made.patches_left.detach().clone())):
        model(images)
    if not parts:
        raise HostRefused(refusal(model))
    return torch.cat(parts)[: len(images)]


def reduces_tokens(model: Classifier) -> bool:
    """Whether a module of the model computes on fewer tokens."""
    return any(hasattr(part, _REDUCES) for part in model.modules())


def refusal(model: Classifier) -> str:
    """The message that a model computes on all its tokens."""
    return f"model '{model.card.label}' computes on all its tokens; a transform that reduces them is needed, such as tome, evit or ats."
