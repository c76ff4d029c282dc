"""Attacks of torchattacks by the names of its classes: `torchattacks/PGD`."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

from torch import Tensor

from robustvit.attacks.libraries.adapter import RADIUS, Asked, Library, adapted, choice, library, parameter, parameters, unknown
from robustvit.spec.plugin import Adapted
from robustvit.spec.registry import attack
from robustvit.spec.schema import Param

_GIVEN = ("model", "seed", "verbose")  # what a run knows better than a suite
_RADII = ("eps", "max_epsilon")  # what its classes call the radius
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
    severity="eps",
    family="library",
    source="torchattacks",
    url="https://github.com/Harry24k/adversarial-attacks-pytorch",
    licence="MIT",
    citation=_CITATION,
)
def torchattacks(name: str) -> Adapted:
    """Attacks of the library torchattacks, by class: `torchattacks/PGD: {eps: 8/255, steps: 10}`.

    Parameters and defaults are those of the class; `eps` is its radius whatever it calls it, and `norm` (linf, l2, l1, l0) the norm that
    it names, in which the budget is checked. `n_classes`, which a targeted attack counts, is never more than the model has. Seeds, devices
    and the model's mode are the run's affair. Raises MissingExtra without the library, UnknownName for a class that it does not have.
    """
    found = library("torchattacks")
    known = _classes(found)
    if name not in known:
        raise unknown(found, name, known)
    return adapted(found, name, _params(known[name]), functools.partial(_craft, known[name]), inspect.getdoc(known[name]) or "")


def _classes(found: Library) -> dict[str, Any]:
    """The attacks that need nothing but a model: not those made of other attacks or of training data."""
    classes = {name: getattr(found.module, name) for name in found.module.__all__}
    return {
        name: one
        for name, one in classes.items()
        if [param.name for param in _takes(one).values() if param.default is param.empty] == ["model"]
    }


def _takes(kind: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind).parameters)


def _params(kind: Any) -> list[Param]:
    told = inspect.getdoc(kind) or ""
    kinds = dict(re.findall(r"^\s*(\w+)\s*\((\w+)\)\s*:", told, re.MULTILINE))
    radius = _radius(kind)
    own = parameters(kind, (*_GIVEN, "norm"), kinds)
    given = [parameter("eps", RADIUS, one.default) if one.name == radius else one for one in own]
    return given + _norm(kind, told, needed=radius is not None)


def _radius(kind: Any) -> str | None:
    """The name of the parameter that is the radius; None of an attack without one."""
    return next((name for name in _RADII if name in _takes(kind)), None)


def _norm(kind: Any, told: str, *, needed: bool) -> list[Param]:
    """The parameter `norm`: what the class takes for it, or the norm that its docstring names; to be given where that leaves it open."""
    line = re.search(r"Distance Measure\s*:(.*)", told)
    named = [one.lower() for one in re.findall(r"L(?:inf|[012])\b", line[1])] if line else []
    own = _takes(kind).get("norm")
    if own is not None:
        return [parameter("norm", choice(one for one in named if one in _NORMS), str(own.default).lower())]
    if len(named) == 1:
        return [parameter("norm", choice(named), named[0])]
    return [parameter("norm", choice(_NORMS))] if needed else []


def _craft(kind: Any, asked: Asked) -> Tensor:
    takes, given = _takes(kind), {key: _whole(value) for key, value in asked.arguments.items()}
    norm = given.pop("norm", None)
    if "eps" in given:
        given[_radius(kind) or "eps"] = given.pop("eps")
    if "n_classes" in given:
        given["n_classes"] = min(given["n_classes"], asked.model.outputs)
    run = {"norm": _NORMS.get(str(norm)), "seed": asked.seed, "verbose": False}
    made = kind(asked.model, **given, **{key: value for key, value in run.items() if key in takes})
    made.set_device(asked.images.device)
    images: Tensor = made(asked.images, asked.labels)
    return images


def _whole(value: Any) -> Any:
    """A whole number as such: the docstrings call some counts floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
