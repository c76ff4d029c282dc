"""AutoAttack by its authors' code, a whole version or a single attack: `pyautoattack/standard`, `pyautoattack/apgd-ce`."""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from robustvit.attacks.apgd import CITATION
from robustvit.attacks.libraries.adapter import PASSES, RADIUS, LibraryCall, adapted, choice, library, parameter, parameters, unknown
from robustvit.errors import ModelError
from robustvit.spec.plugin import Adapted
from robustvit.spec.registry import attack
from robustvit.spec.schema import Param

_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_GIVEN = ("predict", "norm", "eps", "seed", "loss_fn", "targeted", "topk", "verbose", "device", "is_tf_model", "logger")
_VERSIONS = {
    "standard": "apgd-ce, apgd-t, fab-t and square, each on the samples that are still robust after those before, as published.",
    "plus": "apgd-ce, apgd-dlr, fab, square, apgd-t and fab-t with five restarts of the untargeted ones.",
    "rand": "apgd-ce and apgd-dlr with 20 gradients averaged, for models with randomness of their own.",
}


class _Part(NamedTuple):
    """One attack of AutoAttack.

    home, kind: its module and class. fixed: the arguments that select the attack. defaults: those that AutoAttack sets and the class does
    not. classes: the number of classes that its loss compares.
    """

    home: str
    kind: str
    fixed: dict[str, Any]
    defaults: dict[str, Any]
    classes: int
    doc: str


_PARTS = {
    "apgd-ce": _Part("autopgd_base", "APGDAttack", {"loss": "ce"}, {}, 2, "APGD on the cross-entropy."),
    "apgd-dlr": _Part("autopgd_base", "APGDAttack", {"loss": "dlr"}, {}, 3, "APGD on the difference of logits ratio."),
    "apgd-t": _Part("autopgd_base", "APGDAttack_targeted", {}, {}, 4, "APGD on the targeted difference of logits ratio."),
    "fab": _Part("fab_pt", "FABAttack_PT", {"targeted": False}, {}, 2, "FAB towards the nearest class."),
    "fab-t": _Part("fab_pt", "FABAttack_PT", {"targeted": True}, {}, 2, "FAB towards one class after another."),
    "square": _Part("square", "SquareAttack", {}, {"resc_schedule": False}, 2, "Square: random search, without gradients."),
}


@attack(
    name="pyautoattack/",
    passes=PASSES,
    severity="eps",
    family="library",
    source="pyautoattack; Croce and Hein 2020",
    url="https://github.com/fra31/auto-attack",
    licence="MIT",
    citation=CITATION,
)
def pyautoattack(name: str) -> Adapted:
    """AutoAttack of the library pyautoattack, its authors' code: `pyautoattack/standard: {eps: 8/255}`.

    Its versions standard, plus and rand, or one of its attacks: apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square. A single attack has the
    parameters of its class, with the values that AutoAttack standard gives them in linf and l2 (in l1 it takes n_restarts = 5 and
    use_largereps = true for apgd-ce). Targeted attacks have no more target classes than the model allows. Raises MissingExtra without the
    library, UnknownName for another name.
    """
    found = library("pyautoattack")
    ball = [parameter("eps", RADIUS), parameter("norm", choice(_NORMS), "linf")]
    if name in _VERSIONS:
        return adapted(found, name, ball, functools.partial(_whole, found.module.AutoAttack, name), _VERSIONS[name])
    if name not in _PARTS:
        raise unknown(found, name, (*_VERSIONS, *_PARTS))
    part = _PARTS[name]
    kind = getattr(importlib.import_module(f"pyautoattack.{part.home}"), part.kind)
    return adapted(found, name, ball + _own(kind, part), functools.partial(_single, name, kind), part.doc)


def _own(kind: Any, part: _Part) -> list[Param]:
    """The parameters of an attack's class."""
    skipped = {*_GIVEN, *part.fixed} | ({"n_target_classes"} if part.fixed.get("targeted") is False else set())
    return [replace(one, default=part.defaults.get(one.name, one.default)) for one in parameters(kind, skipped, {})]


def _single(name: str, kind: Any, call: LibraryCall) -> Tensor:
    """The images of one attack."""
    part = _PARTS[name]
    _require(name, part.classes, call)
    given = dict(call.arguments) | part.fixed | {"norm": _NORMS[call.arguments["norm"]]}
    if "n_target_classes" in given:
        given["n_target_classes"] = min(given["n_target_classes"], call.model.outputs - 1)
    made = kind(call.model, **given, seed=call.seed, device=call.images.device, verbose=False)
    images: Tensor = made.perturb(call.images, call.labels)
    return images


def _whole(kind: Any, version: str, call: LibraryCall) -> Tensor:
    """The images of a version of AutoAttack."""
    _require(version, _PARTS["apgd-dlr" if version == "rand" else "apgd-t"].classes, call)
    norm, device = _NORMS[call.arguments["norm"]], call.images.device
    made = kind(call.model, eps=call.arguments["eps"], norm=norm, seed=call.seed, version=version, device=device)
    for attack_ in (made.apgd_targeted, made.fab):
        attack_.n_target_classes = min(attack_.n_target_classes, call.model.outputs - 1)
    images: Tensor = made.run_standard_evaluation(call.images, call.labels, batch_size=len(call.images))[0]
    return images


def _require(name: str, classes: int, call: LibraryCall) -> None:
    if call.model.outputs < classes:
        raise ModelError(
            f"attack 'pyautoattack/{name}' compares {classes} classes or more; model '{call.model.label}' has "
            f"{call.model.outputs}. apgd-ce, fab, fab-t and square need only two."
        )
