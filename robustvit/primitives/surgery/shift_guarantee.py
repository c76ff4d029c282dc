"""That logits stay under circular shifts: what anchored models promise, and later transforms must leave."""

from __future__ import annotations

from torch import nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.structure.equivariance_probe import module_that_breaks


def is_anchored(module: nn.Module) -> bool:
    """Whether anything in a module chooses the phase of a map by its content, as `anchor` and `aps` do."""
    return any(getattr(part, "counts_ties", False) for part in module.modules())


def require_own_shifts(model: Classifier) -> None:
    """Raises HostRefused for a model that resizes its images, of which a shift is none of what it computes on."""
    if model.view.shown is not None:
        raise HostRefused("it resizes its images, and a circular shift before that is none behind it.")


def keep_guarantee(transform: str, host: Classifier, made: Classifier) -> None:
    """Raises HostRefused where a transform made a model of an anchored one whose logits change under circular shifts, by the same probe."""
    if made.model is host.model or not is_anchored(host.model):
        return
    if made.view.shown is not None:
        why = "it resizes images, and a circular shift before that is none behind it"
    elif named := module_that_breaks(made.model, made.channels, made.size):
        why = f"{named} then computes other numbers for a shifted image"
    else:
        return
    raise HostRefused(f"'{transform}' does not take '{host.card.label}', which is anchored so that circular shifts change nothing: {why}.")
