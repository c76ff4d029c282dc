"""Applies the transforms that a checkpoint names to its architecture, before its tensors are loaded. Nothing from the file is executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from robustvit.errors import CheckpointMismatch, CodeRefused, ModelError, RobustvitError
from robustvit.models.misfits import compare, explained
from robustvit.primitives.checkpoint import LEARNED, check_plain
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.spec.binding import bind
from robustvit.spec.code_names import code_names, refuse_code, refusing_code
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec

MOST = 32  # transforms of one model
_NO_CODE = "A checkpoint names registered transforms alone; install the package that has it, and announce it there."
_OF_LEARNED = (LookupError, RuntimeError, ValueError, TypeError, AttributeError)
"""What a transform raises of tensors that it did not learn."""


def rebuild(host: Classifier, surgery: Sequence[Spec], tensors: Mapping[str, Tensor], file: Path) -> Classifier:
    """What the transforms make of a host, with the tensors of the file as its weights, every one of which must fit.

    Raises ModelError in one line that names the file and the transform, CodeRefused for a name of code, CheckpointMismatch.
    """
    learned = _learned(tensors)
    _check_places(learned, surgery, file)
    for place, spec in enumerate(surgery):
        host = _applied(host, spec, learned.get(place, {}), f"{file}: its transform {place + 1}, '{spec.name}'")
    _load(host, {name: tensor for name, tensor in tensors.items() if not name.startswith(LEARNED)}, file)
    return host


def _applied(host: Classifier, spec: Spec, artifact: Mapping[str, Tensor], what: str) -> Classifier:
    try:
        with refusing_code(_NO_CODE):
            for name in code_names(spec):
                refuse_code(name)
            entry = lookup("transform", spec.name)
            _check_version(entry, spec)
            bound = bind(entry, spec)
            return apply_transform(host, bound, _plugins(entry, bound), artifact)
    except CodeRefused as error:
        raise CodeRefused(f"{what}: {error}") from error
    except RobustvitError as error:
        raise ModelError(f"{what}: {error}") from error
    except _OF_LEARNED as error:
        if not artifact:
            raise
        raise ModelError(f"{what}: what it learned, as the file has it, does not fit it: {type(error).__name__}: {_line(error)}") from error


def _check_version(entry: Entry, spec: Spec) -> None:
    if (spec.kind, spec.version) != ("transform", entry.version):
        raise ModelError(f"it is of version {spec.version}, and here is version {entry.version}; save the model again with this robustvit.")


def _plugins(entry: Entry, spec: Spec) -> dict[str, Any]:
    """None for what it learned from, which it needs no more. Raises ModelError for plug-ins that it would be applied with."""
    named = [param.name for param in entry.params if param.hint.plugin and spec.get(param.name) is not None]
    if named and not entry.fit:
        raise ModelError(f"it is applied with '{named[0]}', which a checkpoint does not hold.")
    return dict.fromkeys(named)


def _learned(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The tensors that transforms learned, by the transform's place and their names; −1 for a name that has no place."""
    found: dict[int, dict[str, Tensor]] = {}
    for name in (name for name in tensors if name.startswith(LEARNED)):
        place, _, own = name.removeprefix(LEARNED).partition(".")
        found.setdefault(int(place) if place.isdecimal() and len(place) < 4 else -1, {})[own] = tensors[name]
    return found


def _check_places(learned: Mapping[int, object], surgery: Sequence[Spec], file: Path) -> None:
    """Raises ModelError for what transforms learned that are not there or learn nothing, or is missing of those that do."""
    with refusing_code(_NO_CODE):
        fitted = {place for place, spec in enumerate(surgery) if ":" not in spec.name and _fits(spec)}
    if missing := sorted(fitted - set(learned)):
        raise ModelError(f"{file}: it lacks what its transform {missing[0] + 1}, '{surgery[missing[0]].name}', learned.")
    if beyond := sorted(set(learned) - fitted):
        raise ModelError(f"{file}: it has tensors that its transform {beyond[0] + 1} learned, and that learns nothing or is not there.")


def _fits(spec: Spec) -> bool:
    try:
        return bool(lookup("transform", spec.name).fit)
    except RobustvitError:
        return False  # told where it is applied


def _load(model: Classifier, tensors: dict[str, Tensor], file: Path) -> None:
    wanted = model.model.state_dict()
    for name, tensor in wanted.items():
        check_plain(name, tensor)
    misfit = compare(wanted, tensors)
    if any(misfit):
        raise CheckpointMismatch(explained(misfit, tensors, model.model, file.name))
    odd = [name for name, tensor in tensors.items() if not wanted[name].is_floating_point() and wanted[name].dtype != tensor.dtype]
    if odd:
        found, own = (str(named[odd[0]].dtype).removeprefix("torch.") for named in (tensors, wanted))
        raise CheckpointMismatch(f"{file.name} does not fit {type(model.model).__name__}: {odd[0]} is {found}, the model's {own}.")
    model.model.load_state_dict(tensors, strict=False)


def _line(error: Exception) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]
