"""Applies the transforms that a checkpoint names to its architecture, before its tensors are loaded. Nothing from the file is executed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from robustvit.errors import BadParameter, CheckpointMismatch, CodeRefused, ModelError, RobustvitError, few, with_article
from robustvit.models.misfits import compare, differences
from robustvit.primitives.checkpoint import LEARNED, About, check_plain
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


def rebuild(host: Classifier, about: About, tensors: Mapping[str, Tensor], file: Path) -> Classifier:
    """What the transforms of a header make of a host, with the tensors of the file as its weights, every one of which must fit.

    Raises ModelError in one line that names the file and the transform, CodeRefused for a name of code, CheckpointMismatch.
    """
    learned = _learned(about, {name.removeprefix(LEARNED): one for name, one in tensors.items() if name.startswith(LEARNED)}, file)
    for place, spec in enumerate(about.surgery):
        host = _applied(host, spec, learned[place], f"{file}: its transform {place + 1}, '{spec.name}'")
    _load(host, {name: tensor for name, tensor in tensors.items() if not name.startswith(LEARNED)}, file)
    return host


def _learned(about: About, tensors: Mapping[str, Tensor], file: Path) -> list[dict[str, Tensor]]:
    """What each transform learned. Raises ModelError where it is not what the header says."""
    if missing := sorted(set(about.learned) - set(tensors)):
        raise ModelError(f"{file}: it lacks {len(missing)} tensors that its transforms learned ({few(missing)}).")
    if beyond := sorted(set(tensors) - set(about.learned)):
        raise ModelError(f"{file}: it has {len(beyond)} learned tensors that its header does not name ({few(beyond)}).")
    found: list[dict[str, Tensor]] = [{} for _ in about.surgery]
    for name in about.learned:
        place, _, own = name.partition(".")
        if place not in map(str, range(len(found))):
            raise ModelError(f"{file}: its tensor '{name}' was learned by a transform that is not there; it has {len(found)}.")
        found[int(place)][own] = tensors[name]
    return found


def _applied(host: Classifier, spec: Spec, artifact: Mapping[str, Tensor], what: str) -> Classifier:
    try:
        with refusing_code(_NO_CODE):
            return _made(host, spec, artifact)
    except CodeRefused as error:
        raise CodeRefused(f"{what}: {error}") from error
    except RobustvitError as error:
        raise ModelError(f"{what}: {error}") from error


def _made(host: Classifier, spec: Spec, artifact: Mapping[str, Tensor]) -> Classifier:
    for name in code_names(spec):
        refuse_code(name)
    entry = lookup("transform", spec.name)
    bound = _bound(entry, spec)
    if artifact and not entry.fit:
        raise ModelError(f"it learns nothing, and the file has what it learned ({few(list(artifact))}).")
    try:
        return apply_transform(host, bound, dict.fromkeys(_nested(entry, bound)), artifact)
    except _OF_LEARNED as error:
        if not entry.fit:
            raise
        raise ModelError(f"what it learned, as the file has it, does not fit it: {type(error).__name__}: {_line(error)}") from error


def _bound(entry: Entry, spec: Spec) -> Spec:
    """The Spec with its parameters checked; what it nests, which names what it once learned of, is left as it is.

    Raises ModelError for another version, and for plug-ins without which it cannot be applied; BadParameter for wrong parameters.
    """
    if spec.version != entry.version:
        raise ModelError(f"it is of version {spec.version}, and here is version {entry.version}; save the model again with this robustvit.")
    if not entry.fit and (nested := _nested(entry, spec)):
        raise ModelError(f"it is applied with '{nested[0]}', which a checkpoint does not hold.")
    plugins = {param.name: spec.get(param.name) for param in entry.params if param.hint.plugin}
    own = replace(entry, params=tuple(param for param in entry.params if param.name not in plugins))
    return bind(own, replace(spec, params=tuple((key, value) for key, value in spec.params if key not in plugins))).with_params(**plugins)


def _nested(entry: Entry, spec: Spec) -> list[str]:
    """The plug-in parameters that are given. Raises BadParameter for one that is no name with arguments."""
    found = {param.name: spec.get(param.name) for param in entry.params if param.hint.plugin}
    for name, value in found.items():
        if value is not None and not isinstance(value, Spec):
            raise BadParameter(f"{name} is {with_article(type(value).__name__)}; it takes a name with its arguments.")
    return [name for name, value in found.items() if value is not None]


def _load(model: Classifier, tensors: dict[str, Tensor], file: Path) -> None:
    with contextlib.suppress(RuntimeError):  # told below; layers whose sizes depended on weights have those of the file from now on
        model.model.load_state_dict(tensors, strict=False)
    wanted = model.model.state_dict()
    for name, tensor in wanted.items():
        check_plain(name, tensor)
    misfit = compare(wanted, tensors)
    if any(misfit):
        raise CheckpointMismatch(differences(misfit, tensors, model.model, file.name))
    odd = [name for name, tensor in tensors.items() if not wanted[name].is_floating_point() and wanted[name].dtype != tensor.dtype]
    if odd:
        found, own = (str(named[odd[0]].dtype).removeprefix("torch.") for named in (tensors, wanted))
        raise CheckpointMismatch(f"{file.name} does not fit {type(model.model).__name__}: {odd[0]} is {found}, the model's {own}.")
    model.model.load_state_dict(tensors, strict=False)


def _line(error: Exception) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]
