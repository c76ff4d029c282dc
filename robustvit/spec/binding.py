"""Binds a Spec to its plug-in: parameters checked and coerced, defaults filled in, nested Specs bound."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from robustvit.errors import BadParameter, nearest
from robustvit.spec.code_names import code_names, refuse_code
from robustvit.spec.coercion import coerce
from robustvit.spec.parts import PARAMETER, check_part
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import lookup
from robustvit.spec.schema import Hint
from robustvit.spec.spec import Spec, Value, at_place, parse, show
from robustvit.spec.written.call import called


def bind(entry: Entry, spec: Spec) -> Spec:
    """The Spec checked against the plug-in's signature: values coerced, defaults filled, nested Specs bound, kind and version set.

    `"4/255"` and `"1e-3"` become numbers where a number is wanted. Every data set takes `part`, see robustvit.spec.parts. Raises
    BadParameter that names the place, the parameter, what it takes and the nearest name; UnknownName for a nested plug-in that does not
    exist.
    """
    at = at_place(spec.where)
    known = {param.name: param for param in entry.accepted}
    given = dict(spec.params)
    filled: dict[str, Value] = {}
    if entry.kind == "data" and PARAMETER in given and PARAMETER not in known:
        filled[PARAMETER] = check_part(given.pop(PARAMETER), at)
    for key in given:
        if key not in known:
            every = [*known, *([PARAMETER] if entry.kind == "data" else [])]
            takes = f"It takes {', '.join(every)}." if every else "It takes none."
            raise BadParameter(f"{at}{entry.kind} '{entry.name}' has no parameter '{key}'.{nearest(key, every)} {takes}")
    for param in entry.accepted:
        if param.name in given:
            value = coerce(given[param.name], param.hint, f"{at}{entry.kind} '{entry.name}': {param.name}")
        elif param.required:
            raise BadParameter(f"{at}{entry.kind} '{entry.name}' needs '{param.name}' ({param.hint.text}).")
        else:
            value = param.default
        filled[param.name] = _bind_nested(value, param.hint, spec.where)
    _refuse_levels(entry, filled, at)
    return Spec(spec.name, tuple(sorted(filled.items())), entry.kind, entry.version, spec.where)


def _refuse_levels(entry: Entry, filled: dict[str, Value], at: str) -> None:
    """Raises BadParameter for a radius in linf above 1: probably a level of 255, where pixels are in [0, 1]."""
    eps = filled.get("eps")
    if entry.kind in ("attack", "defense") and filled.get("norm", "linf") == "linf" and isinstance(eps, int | float | Fraction) and eps > 1:
        raise BadParameter(
            f"{at}{entry.kind} '{entry.name}': eps is {show(eps)} in linf, where pixels are in [0, 1]; write {show(eps)}/255."
        )


def _called(value: str, hint: Hint, where: str) -> Spec:
    return replace(called(value, f"{at_place(where)}{hint.plugin}"), where=where)


def _bind_nested(value: Value, hint: Hint, where: str) -> Value:
    if not hint.plugin or value is None:
        return value
    if isinstance(value, tuple):
        return tuple(_bind_nested(item, hint, where) for item in value)
    of_place = hint.plugin in ("model", "kept")  # addresses, of which only their loaders know the forms
    inner = value if isinstance(value, Spec) else parse(str(value), where)[0] if of_place else _called(str(value), hint, where)
    if of_place:
        for name in code_names(inner):
            refuse_code(name, where)
        return inner
    entry = lookup(hint.plugin, inner.name, where)
    if entry.chain:
        raise BadParameter(
            f"{at_place(where)}'{inner.name}' is a chain of attacks, which cannot be nested in another attack; name one of its links."
        )
    if entry.fit:
        raise BadParameter(
            f"{at_place(where)}{entry.kind} '{inner.name}' learns of other samples before it is used, which a nested one cannot. Name it "
            "by itself."
        )
    if entry.kind == "corruption" and entry.tells:
        raise BadParameter(
            f"{at_place(where)}corruption '{inner.name}' has columns of its own ({', '.join(entry.tells)}), which another scenario would "
            "lose; it cannot be nested. Name it by itself."
        )
    return bind(entry, inner)
