"""Attacks of Foolbox by the names of its classes: `foolbox/LinfPGD`, `foolbox/L2CarliniWagnerAttack`."""

from __future__ import annotations

import functools
import importlib
import inspect
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

_GIVEN = ("distance", "constraint", "channel_axis", "init_attack", "tensorboard")
_NORMS = ("linf", "l2", "l1", "l0")
_UNSUPPORTED = ("BinarizationRefinementAttack", "DatasetAttack", "GenAttack")  # need adversarial images, other images, a target class

_CITATION = """@article{rauber2020foolbox,
  title={Foolbox Native: Fast Adversarial Attacks to Benchmark the Robustness of Machine Learning Models in PyTorch, TensorFlow, and JAX},
  author={Rauber, Jonas and Zimmermann, Roland and Bethge, Matthias and Brendel, Wieland},
  journal={Journal of Open Source Software},
  volume={5},
  number={53},
  pages={2607},
  year={2020}
}"""


@attack(
    name="foolbox/",
    passes=PASSES,
    severity="eps",
    family="library",
    source="Foolbox; Rauber et al. 2020",
    url="https://github.com/bethgelab/foolbox",
    licence="MIT",
    citation=_CITATION,
)
def foolbox(name: str) -> Adapted:
    """Attacks of the library Foolbox, by class: `foolbox/LinfPGD: {eps: 8/255, steps: 20}`.

    Parameters and defaults are those of the class; `norm` (linf, l2, l1, l0) is its distance. A fixed-radius attack needs `eps`, and its
    images are checked before Foolbox's own clipping. A minimisation attack without `eps` is a minimum-norm attack; with `eps` Foolbox
    scales larger perturbations to that radius. Raises MissingExtra without the library, UnknownName for a class that it does not have or
    that needs more than a model and images.
    """
    found = library("foolbox", "foolbox.attacks")
    known = _classes(found)
    if name not in known:
        raise unknown(found, name, known)
    return adapted(
        found, name, _params(found, known[name]), functools.partial(_craft, found, known[name]), inspect.getdoc(known[name]) or ""
    )


def _classes(found: Library) -> dict[str, Any]:
    base = found.module.base.Attack
    named = {name: one for name, one in vars(found.module).items() if inspect.isclass(one) and issubclass(one, base)}
    return {name: one for name, one in named.items() if not inspect.isabstract(one) and one.__name__ not in _UNSUPPORTED}


def _params(found: Library, kind: Any) -> list[Param]:
    own = parameters(kind.__init__, ("self", *_GIVEN), {})
    norms = _norms(kind)
    norm = [parameter("norm", choice(norms), norms[0])] if norms else []
    if issubclass(kind, found.module.base.FixedEpsilonAttack):
        return [parameter("eps", RADIUS), *norm, *own]
    clips = set(norms) - {"l0"} and issubclass(kind, found.module.base.MinimizationAttack)
    return [*([parameter("eps", f"{RADIUS} | None", None)] if clips else []), *norm, *own]


def _norms(kind: Any) -> tuple[str, ...]:
    """The norms of an attack, its default first: those that its constructor takes, or its own; none without a distance."""
    takes = inspect.signature(kind.__init__).parameters
    if "constraint" in takes:
        return ("l2", "linf")
    if "distance" in takes:
        return ("l2", "linf", "l1")
    own = getattr(kind, "distance", None)
    if isinstance(own, property):
        own = getattr(kind(), "distance", None)
    return tuple(name for name in _NORMS if own is not None and own is getattr(importlib.import_module("foolbox.distances"), name))


def _craft(found: Library, kind: Any, call: LibraryCall) -> Tensor:
    given = dict(call.arguments)
    eps, norm = given.pop("eps", None), given.pop("norm", None)
    takes = inspect.signature(kind.__init__).parameters
    run = {"distance": getattr(importlib.import_module("foolbox.distances"), str(norm), None), "constraint": norm}
    made = kind(**given, **{key: value for key, value in run.items() if key in takes})
    wrapped = importlib.import_module("foolbox").PyTorchModel(call.model, bounds=(0, 1), device=call.images.device)
    raw, clipped, _ = made(wrapped, call.images, call.labels, epsilons=eps)
    images: Tensor = raw if issubclass(kind, found.module.base.FixedEpsilonAttack) else clipped
    return images
