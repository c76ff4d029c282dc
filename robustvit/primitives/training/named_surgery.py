"""The transforms that a defense names as the structure that it trains."""

from __future__ import annotations

from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec, Value


def named_surgery(transform: str, **params: Value) -> tuple[Spec]:
    """The `surgery` of a defense that makes what this transform makes, bound. Raises UnknownName or BadParameter."""
    return (bind(lookup("transform", transform), Spec(transform).with_params(**params)),)
