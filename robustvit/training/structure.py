"""The structure that defenses leave a model: what a checkpoint of it names."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.checkpoint import checkpoint_bytes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import Defense
from robustvit.primitives.surgery.modules import changed
from robustvit.training.loop import fork_devices
from robustvit.training.saving import about_of, check_rebuilt


def structured(start: Classifier, defense: Defense) -> Classifier:
    """A model before training as its checkpoint will have it: prepared and exported, and named by the surgery of the defense.

    Its weights are those that the defense begins with. The very model where a defense changes no structure. Raises BadParameter where
    what is exported is not what that surgery makes, so that a checkpoint could not be loaded again.
    """
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
