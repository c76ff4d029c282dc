"""Pipelines of transforms as they follow a model's address: `vit_b16+quantize(bits=8)+tome(r=13)`."""

from __future__ import annotations

from collections.abc import Iterable

from robustvit.errors import BadParameter, UnknownName
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.spec import Spec
from robustvit.spec.written.call import called, split_outside

HELP = 'Transforms follow a + in the order in which they are applied; quote the parentheses: "vit_b16+quantize(bits=8)+tome(r=13)".'
_PLUS = r"\+(?=[A-Za-z_])"  # a number's exponent (1e+3) is none


def split_pipeline(address: str) -> tuple[str, list[str]]:
    """A model's own address, and the transforms behind it as they are written. A + that belongs to a path is written `%2B`.

    Raises BadParameter for parentheses that are not closed.
    """
    try:
        first, *steps = split_outside(address, _PLUS)
    except ValueError as error:
        raise BadParameter(f"the address '{address}': {error}. {HELP}") from error
    return first, steps


def bind_pipeline(steps: Iterable[str | Spec], where: str) -> tuple[Spec, ...]:
    """The bound transforms of a pipeline. where: what messages begin with. Raises UnknownName or BadParameter."""
    return tuple(_bound(step, where) for step in steps)


def write_pipeline(steps: Iterable[Spec]) -> str:
    """`+quantize(bits=8)+tome(r=13)`, as it follows an address: the inverse of `split_pipeline` and `bind_pipeline`."""
    return "".join(f"+{str(step).replace(', ', ',')}" for step in steps)


def _bound(step: str | Spec, where: str) -> Spec:
    spec = step if isinstance(step, Spec) else called(step, f"{where}: transform")
    try:
        return bind(registry.lookup("transform", spec.name), spec)
    except UnknownName as error:
        hint = " A + that is part of a path is written %2B." if isinstance(step, str) else ""
        raise UnknownName(f"{where}: {error}{hint}") from error
    except BadParameter as error:
        raise BadParameter(f"{where}: {error}") from error
