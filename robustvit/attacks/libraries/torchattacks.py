"""Attacks of torchattacks by the names of its classes: `torchattacks/PGD`."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

from torch import Tensor

from robustvit.attacks.libraries.adapter import (
    PASSES,
    RADIUS,
    Library,
    LibraryCall,
    adapted,
    choice,
    library,
    parameter,
    parameters,
    unknown,
)
from robustvit.spec.plugin import Adapted
from robustvit.spec.registry import attack
from robustvit.spec.schema import Param

_GIVEN = ("model", "seed", "verbose")  # set by the run, not by a suite
_RADII = ("eps", "max_epsilon")  # names of the radius in its classes
_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}

_CITATION = """@misc{kim2020torchattacks,
  title={Torchattacks: A PyTorch Repository for Adversarial Attacks},
  author={Kim, Hoki},
  year={2020},
  eprint={2010.01950},
  archivePrefix={arXiv}
}"""


@attack(
    name="torchattacks/",
    passes=PASSES,
    severity="eps",
    family="library",
    source="torchattacks",
    url="https://github.com/Harry24k/adversarial-attacks-pytorch",
    licence="MIT",
    citation=_CITATION,
)
def torchattacks(name: str) -> Adapted:
    """Attacks of the library torchattacks, by class: `torchattacks/PGD: {eps: 8/255, steps: 10}`.

    Parameters and defaults are those of the class; `eps` is its radius under whatever name, and `norm` (linf, l2, l1, l0) the norm that it
    names, in which the budget is checked. `n_classes` of a targeted attack is at most the number of classes of the model. The run sets
    seeds, devices and the model's mode. Raises MissingExtra without the library, UnknownName for a class that it does not have.
    """
    found = library("torchattacks")
    known = _classes(found)
    if name not in known:
        raise unknown(found, name, known)
    return adapted(found, name, _params(known[name]), functools.partial(_craft, known[name]), inspect.getdoc(known[name]) or "")


def _classes(found: Library) -> dict[str, Any]:
    """The attacks that need nothing but a model, and no other attacks or training data."""
    classes = {name: getattr(found.module, name) for name in found.module.__all__}
    return {
        name: one
        for name, one in classes.items()
        if [param.name for param in _takes(one).values() if param.default is param.empty] == ["model"]
    }


def _takes(kind: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind).parameters)


def _params(kind: Any) -> list[Param]:
    doc = inspect.getdoc(kind) or ""
    kinds = dict(re.findall(r"^\s*(\w+)\s*\((\w+)\)\s*:", doc, re.MULTILINE))
    radius = _radius(kind)
    own = parameters(kind, (*_GIVEN, "norm"), kinds)
    given = [parameter("eps", RADIUS, one.default) if one.name == radius else one for one in own]
    return given + _norm(kind, doc, needed=radius is not None)


def _radius(kind: Any) -> str | None:
    """The name of the radius among its parameters; None for an attack without one."""
    return next((name for name in _RADII if name in _takes(kind)), None)


def _norm(kind: Any, doc: str, *, needed: bool) -> list[Param]:
    """The parameter `norm`: that of the class, or the norm that its docstring names; without a default where that leaves it open."""
    line = re.search(r"Distance Measure\s*:(.*)", doc)
    named = [one.lower() for one in re.findall(r"L(?:inf|[012])\b", line[1])] if line else []
    own = _takes(kind).get("norm")
    if own is not None:
        return [parameter("norm", choice(one for one in named if one in _NORMS), str(own.default).lower())]
    if len(named) == 1:
        return [parameter("norm", choice(named), named[0])]
    return [parameter("norm", choice(_NORMS))] if needed else []


def _craft(kind: Any, call: LibraryCall) -> Tensor:
    takes, given = _takes(kind), {key: _whole(value) for key, value in call.arguments.items()}
    norm = given.pop("norm", None)
    if "eps" in given:
        given[_radius(kind) or "eps"] = given.pop("eps")
    if "n_classes" in given:
        given["n_classes"] = min(given["n_classes"], call.model.outputs)
    run = {"norm": _NORMS.get(str(norm)), "seed": call.seed, "verbose": False}
    made = kind(call.model, **given, **{key: value for key, value in run.items() if key in takes})
    made.set_device(call.images.device)
    images: Tensor = made(call.images, call.labels)
    return images


def _whole(value: Any) -> Any:
    """Converts whole floats to int, because the docstrings call some counts floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
