"""Pipelines of transforms as they follow a model's address: `vit_b16+quantize(bits=8)+tome(r=13)`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from robustvit.errors import BadParameter, UnknownName
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.spec import Spec
from robustvit.spec.written.call import called, split_outside

HELP = 'Transforms follow a + in the order in which they are applied; quote the parentheses: "vit_b16+quantize(bits=8)+tome(r=13)".'
_ARROW = " → "  # between a model and its transforms, as tables and exports write them
_OF_CELLS = ("fingerprint", "class_order", "view")  # parameters that a cell adds to nested plug-ins
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


def shown_steps(steps: Iterable[Spec]) -> tuple[Spec, ...]:
    """The transforms of a cell as tables show them: the first parameter of each, where it has a value, and those not at their default.

    Of nested data sets and models the latter alone, without what a cell adds to identify them.
    """
    return tuple(_shown(step, 1) for step in steps)


def pipeline_text(steps: Iterable[Spec]) -> str:
    """`quantize(bits=8) → tome(r=13)`: the transforms of a cell as tables show them."""
    return _ARROW.join(map(str, shown_steps(steps)))


def split_name(name: str) -> tuple[str, str | None]:
    """A model's label in a store and the text of its transforms, None where the name says nothing of them.

    name: `demo`, `demo+tome(r=8)`, or as tables write it `demo → tome(r=8)` (`->` works, too). Raises UnknownName or BadParameter for
    transforms behind a + that there are not.
    """
    label, arrow, text = name.replace(" -> ", _ARROW).partition(_ARROW)
    if arrow:
        return label, text
    label, steps = split_pipeline(name)
    return label, pipeline_text(bind_pipeline(steps, f"'{name}'")) if steps else None


def _shown(spec: Spec, always: int = 0) -> Spec:
    """The Spec without parameters at their default. always: how many of the first are kept all the same."""
    known = registry.lookup(spec.kind, spec.name).params if spec.kind and spec.kind != "model" else ()
    usual = {param.name: param.default for place, param in enumerate(known) if place >= always or param.default is None}
    kept = {key: value for key, value in spec.params if key not in _OF_CELLS and (key not in usual or usual[key] != value)}
    shown = {key: _nested(value) if isinstance(value, Spec) else value for key, value in kept.items()}
    return replace(spec, params=tuple(sorted(shown.items())))


def _nested(spec: Spec) -> Spec:
    """A nested plug-in as tables show it: a model by its architecture and its weights, `vit_tiny_patch16_224#f92c9b`."""
    weights = spec.get("fingerprint")
    if spec.kind in ("data", "transform") or weights is None or not isinstance(weights, str) or spec.get("view") is not None:
        return _shown(spec)
    steps = spec.get("transforms", ())
    after = [one for one in steps if isinstance(one, Spec)] if isinstance(steps, tuple) else []
    return Spec(f"{spec.get('arch') or spec.name}#{weights[:6]}{write_pipeline(shown_steps(after))}")


def _bound(step: str | Spec, where: str) -> Spec:
    spec = step if isinstance(step, Spec) else called(step, f"{where}: transform")
    try:
        return bind(registry.lookup("transform", spec.name), spec)
    except UnknownName as error:
        hint = " A + that is part of a path is written %2B." if isinstance(step, str) else ""
        raise UnknownName(f"{where}: {error}{hint}") from error
    except BadParameter as error:
        raise BadParameter(f"{where}: {error}") from error
