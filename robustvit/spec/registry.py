"""What robustvit can do, by kind and name; a function's signature is its schema.

A plug-in is a plain function under one of the decorators below. Built-in ones, and those that installed packages announce in the
entry-point group `robustvit`, are found by reading their source: nothing is imported before it is used. A function decorated in a script or
notebook joins when its module runs, and `package.module:function` names any decorated function directly.

Positional arguments belong to the kind (images, labels, draws, …); keyword-only arguments are the plug-in's parameters.

A name that ends in a slash is that of an adapter, `(name) -> Adapted`: it makes plug-ins of what another library calls so.
`torchattacks/PGD` is what the adapter `torchattacks/` makes of PGD, and the library is imported when that is looked up, not before.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from robustvit.errors import BadParameter, MissingExtra, UnknownName, nearest, whole_install_needed
from robustvit.spec.code_names import refuse_code
from robustvit.spec.discovery import announced_entries
from robustvit.spec.plugin import KINDS, PLURALS, SCENARIOS, Adapted, Entry, two_claim
from robustvit.spec.schema import ABSENT, Param, SourceModule, hint_of
from robustvit.spec.spec import at_place

F = TypeVar("F", bound=Callable[..., Any])

_LIVE: dict[tuple[str, str], Entry] = {}
_OF_KIND: dict[str, tuple[Any, dict[str, Entry]]] = {}  # by kind: those announced, and of these the kind's by name
_FIELDS = frozenset(Entry.__dataclass_fields__) - {"kind", "module", "function", "params", "doc", "path", "line", "live"}


def register(kind: str, **about: Any) -> Callable[[F], F]:
    """A decorator that registers a function under `kind` and returns it unchanged.

    about: fields of Entry, which says what each is; `name` defaults to the function's. Raises BadParameter for an unknown kind or field,
    for a taken name, and for `fit` without `passes`.
    """
    if kind not in KINDS:
        raise BadParameter(f"unknown kind '{kind}'.{nearest(kind, KINDS)} The kinds are {', '.join(KINDS)}.")
    for key in about:
        if key not in _FIELDS:
            raise BadParameter(f"@{kind} has no field '{key}'.{nearest(key, _FIELDS)}")
    if about.get("fit") and not about.get("passes"):
        raise BadParameter(
            f"@{kind} has `fit` and no `passes`: what is fitted cannot be timed on a few samples; name a function that counts its passes."
        )

    def decorate(function: F) -> F:
        if not function.__module__.startswith("robustvit.") and not _is_tabled(kind, function, about):
            entry = replace(_entry_of(kind, function, about), live=function)
            announced = announced_entries().get((kind, entry.name))
            known = announced or _LIVE.get((kind, entry.name), entry)
            # a function may be defined anew, as in a notebook
            if entry.function != known.function or (entry.module != known.module and entry.path != known.path):
                raise BadParameter(two_claim(known, entry))
            if announced is None:
                _LIVE[kind, entry.name] = entry
        return function

    return decorate


def _is_tabled(kind: str, function: Callable[..., Any], about: Mapping[str, Any]) -> bool:
    """Whether a function stands for the names in a table. Raises BadParameter where its module is not announced, so that none are known."""
    if not about.get("table"):
        return False
    place = (kind, function.__module__, function.__name__)
    if place not in {(entry.kind, entry.module, entry.function) for entry in announced_entries().values()}:
        raise BadParameter(f"@{kind} of '{function.__name__}' has a table, which is read of announced modules alone (entry points).")
    return True


def model(**about: Any) -> Callable[[F], F]:
    """`(…) -> Classifier`: loads a model; its keyword-only parameters are what `?key=value` sets."""
    return register("model", **about)


def dataset(**about: Any) -> Callable[[F], F]:
    """`(root: Path | None, *, …) -> Data`: opens a data set."""
    return register("data", **about)


def corruption(**about: Any) -> Callable[[F], F]:
    """`(images, draws, *, …) -> images`, all (N, 3, H, W) in [0, 1]; with `tells`, a Crafted of images and these columns."""
    return register("corruption", **about)


def attack(**about: Any) -> Callable[[F], F]:
    """`(model, images, labels, draws, *, …) -> images` inside the budget that `eps` and `norm`, or `patches` and `size`, name.

    With chain=True `(*, …) -> [{name: {parameter: value}}, …]`: attacks that follow each other, each on the samples that survive the
    earlier ones. Every link of the chain is a cell of its own, so that a chain can be stopped and resumed after any of them.

    With fit="name", the name of a function in its module, `(model, images, labels, draws, artifact, *, …)`: `artifact` is what
    `name(model, load_batch, draws, *, …) -> {name: Tensor}` made of other samples, once for all shards. Both take the same parameters;
    `load_batch(data, positions)` gives samples of a nested data set as a Batch, through the cell's view.
    """
    return register("attack", **about)


def certificate(**about: Any) -> Callable[[F], F]:
    """`(model, images, draws, *, …) -> Votes`."""
    return register("certificate", **about)


def analysis(**about: Any) -> Callable[[F], F]:
    """`(model, images, labels, draws, *, …) -> Columns`; with fit="name" as an attack, `(model, images, labels, draws, artifact, *, …)`."""
    return register("analysis", **about)


def transform(**about: Any) -> Callable[[F], F]:
    """`(model: Classifier, *, …) -> Classifier`: a new one; the argument is untouched."""
    return register("transform", **about)


def defense(**about: Any) -> Callable[[F], F]:
    """`(*, …) -> Defense`: what training adds."""
    return register("defense", **about)


def metric(**about: Any) -> Callable[[F], F]:
    """`(records, *, …) -> values`, or `(records, context, *, …)` with a MetricContext; see robustvit.statistics.estimates."""
    return register("metric", **about)


def entries(kind: str) -> dict[str, Entry]:
    """Every plug-in of a kind by name, sorted, adapters among them. Raises BadParameter for an unknown kind."""
    if kind not in KINDS:
        raise BadParameter(f"unknown kind '{kind}'.{nearest(kind, KINDS)} The kinds are {', '.join(KINDS)}.")
    if _OF_KIND.get(kind, ("",))[0] is not (announced := announced_entries()):
        _OF_KIND[kind] = (announced, dict(sorted((name, entry) for (k, name), entry in announced.items() if k == kind)))
    live = [(name, entry) for (k, name), entry in _LIVE.items() if k == kind]
    return dict(sorted([*_OF_KIND[kind][1].items(), *live])) if live else dict(_OF_KIND[kind][1])


def lookup(kind: str, name: str, where: str = "") -> Entry:
    """The plug-in called `name`, what an adapter makes of it, or the decorated function that `package.module:function` names.

    Raises UnknownName with the nearest names, MissingExtra for an adapter whose library is not installed, CodeRefused for code where none
    may be named.
    """
    found = _named((kind,), name, where)
    if found is not None:
        return found
    if ":" in name:
        return _imported(kind, name, where)
    known = entries(kind)
    elsewhere = [other for other in KINDS if other != kind and name in entries(other)]
    hint = f" That is the name of {_a(elsewhere[0])}." if elsewhere else nearest(name, known)
    raise UnknownName(f"{at_place(where)}no {kind} is called '{name}'.{hint} `robustvit list {PLURALS[kind]}` names all {len(known)}.")


def scenario_entry(name: str, where: str = "") -> Entry:
    """The corruption, attack, certificate or analysis called `name`. Raises what `lookup` does."""
    found = _named(SCENARIOS, name, where)
    if found is not None:
        return found
    if ":" in name:
        return _imported("", name, where)
    known = [other for kind in SCENARIOS for other in entries(kind)]
    raise UnknownName(
        f"{at_place(where)}no corruption, attack, certificate or analysis is called '{name}'.{nearest(name, known)} "
        f"`robustvit list corruptions` and `robustvit list attacks` name them."
    )


def _named(kinds: Sequence[str], name: str, where: str) -> Entry | None:
    """The plug-in of that name among those of some kinds, or what one of their adapters makes of it."""
    family, slash, rest = name.partition("/")
    own = _registered(kinds, name)
    if own is not None and not own.adapter:
        return own
    adapter = _registered(kinds, family + slash) if slash else None
    if adapter is None:
        return None
    try:
        return _made(adapter, rest)
    except (MissingExtra, UnknownName) as error:
        raise type(error)(f"{at_place(where)}{error}") from error


def _registered(kinds: Sequence[str], name: str) -> Entry | None:
    """The entry of exactly that name, of the last of the kinds that has one."""
    found = (_LIVE.get((kind, name)) or announced_entries().get((kind, name)) for kind in reversed(kinds))
    return next(filter(None, found), None)


@functools.cache
def _made(adapter: Entry, name: str) -> Entry:
    """What an adapter makes of a name, with the adapter's own source, licence and citation."""
    made: Adapted = adapter.load()(name)
    severity = adapter.severity if adapter.severity in {param.name for param in made.params} else ""
    return replace(adapter, name=adapter.name + name, params=made.params, doc=made.doc, severity=severity, live=made.function)


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _imported(kind: str, name: str, where: str) -> Entry:
    module, _, function = name.partition(":")
    place = at_place(where)
    for (k, _), entry in _LIVE.items():
        if f"{entry.module}:{entry.function}" == name and kind in ("", k):
            return entry  # imported before, by whoever may
    refuse_code(name, where)
    try:
        with importable_here(), whole_install_needed(f"{place}'{name}'"):
            found = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise UnknownName(f"{place}'{name}': there is no module '{error.name}' to import.") from error
    except AttributeError as error:
        raise UnknownName(f"{place}'{name}': module '{module}' has no '{function}'.") from error
    for (k, _), entry in _LIVE.items():
        if entry.live is found and kind in ("", k):
            return entry
    raise UnknownName(f"{place}'{name}' is not decorated as a {kind or 'scenario'}; put @robustvit.{kind or 'attack'}(…) on it.")


@contextlib.contextmanager
def importable_here() -> Iterator[None]:
    """Makes modules in the current directory importable for the length of a block, as `python -m` does."""
    sys.path.insert(0, here := os.getcwd())
    try:
        yield
    finally:
        sys.path.remove(here)


def _entry_of(kind: str, function: Callable[..., Any], about: dict[str, Any]) -> Entry:
    params = []
    for param in inspect.signature(function).parameters.values():
        if param.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        text = param.annotation if isinstance(param.annotation, str) else inspect.formatannotation(param.annotation)
        hint = hint_of("" if param.annotation is param.empty else text, SourceModule.of_runtime(function))
        default = ABSENT if param.default is param.empty else tuple(param.default) if isinstance(param.default, list) else param.default
        params.append(Param(param.name, hint, default))
    return Entry(
        kind=kind, module=function.__module__, function=function.__name__, params=tuple(params), doc=inspect.getdoc(function) or "",
        path=inspect.getsourcefile(function) or "", line=function.__code__.co_firstlineno, **{"name": function.__name__, **about},
    )  # fmt: skip
