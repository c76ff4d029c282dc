"""The structure that defenses leave a model: what a checkpoint of it names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn.utils import parametrize

from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.checkpoint import Stored, checkpoint_bytes, rounded
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import Defense
from robustvit.primitives.quantisation.quantised_weights import stored_weights
from robustvit.primitives.surgery.layer_roles import head_layers
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec
from robustvit.training.defending import TUNING
from robustvit.training.loop import fork_devices
from robustvit.training.saving import about_of, check_rebuilt


def structured(start: Classifier, defense: Defense) -> Classifier:
    """A model before training as its checkpoint will have it: prepared and exported, and named by the surgery of the defense.

    Its weights are those that the defense begins with. The very model where a defense changes no structure. Raises BadParameter where
    what is exported is not what that surgery makes, so that a checkpoint could not be loaded again.
    """
    _refuse_leaving_grids(start, defense)
    if not (defense.surgery or defense.sets("prepare") or defense.sets("export")):
        return start
    with torch.random.fork_rng(devices=fork_devices(start.device)):
        made = changed(start, lambda module: defense.export(defense.prepare(copy.deepcopy(module).requires_grad_(True))))
    made.card = replace(start.card, transforms=(*start.card.transforms, *defense.surgery))
    made.learned = (*start.learned, *({} for _ in defense.surgery))
    try:
        check_rebuilt(made, checkpoint_bytes(made.model, about_of(made), "float32", made.learned), "float32")
    except ModelError as error:
        raise BadParameter(f"what '{defense.name}' leaves of '{start.card.label}' could not be loaded again: {error}") from error
    return made


def stored_type(start: Classifier, defenses: Sequence[Spec]) -> Stored:
    """float16; float32 where a tuning freezes weights that float16 would round, so that a victim has its backbone's to the bit."""
    if not any(lookup("defense", spec.name).family == TUNING for spec in defenses):
        return "float16"
    heads = tuple(f"{one.name}." for one in head_layers(start.model))
    halves = rounded(start.model, "float16").state_dict()
    whole = all(torch.equal(one, halves[name]) for name, one in start.model.state_dict().items() if not name.startswith(heads))
    return "float16" if whole else "float32"


def _refuse_leaving_grids(start: Classifier, defense: Defense) -> None:
    """Raises BadParameter where steps would take quantised weights off their grids, which the bytes that they are said to take are of."""
    if not any(True for _ in stored_weights(start.model)):
        return
    with torch.random.fork_rng(devices=fork_devices(start.device)):
        prepared = defense.prepare(copy.deepcopy(start.model).requires_grad_(True))
    for layer, name, form in stored_weights(prepared):
        if not parametrize.is_parametrized(layer, name):
            raise BadParameter(
                f"model '{start.card.label}' has weights of {form.bits} bits, which plain steps would take off their grid; add "
                "--defense quantisation_aware."
            )
