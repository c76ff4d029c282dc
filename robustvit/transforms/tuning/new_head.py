"""A new linear head, for other classes than those that a model was trained on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.surgery.heads import with_heads
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform

_STD = 0.02


@transform(
    family="tuning", source="the linear head of any transfer, as timm initialises its own", hosts="any", no_op="classes=0", head="classes",
    rules="A head to train, by `robustvit train --from MODEL --new-head`: its weights are random here, and so are predictions.",
)  # fmt: skip
def new_head(model: Classifier, *, classes: Whole) -> Classifier:
    """A new linear head of random weights in the place of a model's own, or where a headless one has none.

    classes: how many logits it makes; 0 leaves the model as it is. Weights are normal of standard deviation 0.02, the same each time, and
    biases are zero. Raises HostRefused where no linear layer makes the logits.
    """

    def layer(width: int) -> nn.Module:
        made = nn.Linear(width, classes)
        with torch.no_grad():
            nn.init.normal_(made.weight, std=_STD)
            nn.init.zeros_(made.bias)
        return made

    def change(module: nn.Module) -> nn.Module:
        with seeded():
            return with_heads(module, layer).eval() if classes else module

    with refusing("new_head", model):
        made = changed(model, change)
    if classes:
        made.card = replace(made.card, classes=(), headless=False)
    return made
