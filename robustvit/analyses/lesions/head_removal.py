"""Accuracy of a vision transformer without some of its attention heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.head_lesions import head_list, mean_importance, removal_order, silence
from robustvit.primitives.lesions.right_predictions import right_predictions
from robustvit.primitives.limits import Count, Whole
from robustvit.primitives.passes import GRADIENT, Passes
from robustvit.primitives.quantisation.calibration import LoadBatch
from robustvit.primitives.surgery.hosts import refusing, why_no_plain_vit
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

Removal = Literal["most", "least", "random"]
Measure = Literal["drop_label", "drop_answer", "js", "flip"]


@analysis(
    family="lesions", source="Michel et al. 2019, Are Sixteen Heads Really Better than One? (the curve); importance as head_importance",
    url="https://arxiv.org/abs/1905.10650", licence="a published idea; no code is used", reads_labels=True, fit="fit_order",
    passes="removal_passes",
    rules="Give calibration other samples than those that are measured. Importance is measured once, with all heads there, where Michel et "
    "al. take gradients of gates.",
)  # fmt: skip
def head_removal(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, by: Removal = "random", calibration: Data | None = None, samples: Count = 128, measure: Measure = "js", steps: Count = 8,
    orders: Count = 5, seed: Whole = 0,
) -> dict[str, Tensor]:  # fmt: skip
    """Whether predictions are right without 0, 1/steps, 2/steps, …, all of the attention heads, whose value output is zero.

    by: the most or the least important first, as the mean of `measure` over the first `samples` of `calibration` has it (see
    head_importance); or `orders` random orders of `seed`, over which the share is averaged. Lists of columns, an entry for each step:
    value_heads_right, 1 or 0, or a share; value_heads_share, of all heads that are gone. Raises HostRefused for another model than timm's
    plain vision transformer, BadParameter for an importance without calibration.
    """
    if why := why_no_plain_vit(model.model):
        raise HostRefused(f"'head_removal' takes timm's plain vision transformers, and '{model.card.label}' is none: it {why}.")
    heads = head_list(model.model)
    counts = [round(len(heads) * step / steps) for step in range(steps + 1)]
    right = []
    for turn in range(orders if by == "random" else 1):
        places = removal_order(len(heads), by, artifact.get("importance"), seed + turn)
        runs = [_without(model, [heads[place] for place in places[:count]]) for count in counts]
        right.append(torch.stack([right_predictions(one, images, labels) for one in runs], dim=1))
    found = torch.stack(right).mean(dim=0)
    return {"value_heads_right": found, "value_heads_share": found.new_tensor([count / len(heads) for count in counts]).expand_as(found)}


def fit_order(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, by: str, calibration: Data | None, samples: int, measure: str, steps: int, orders: int, seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    """importance, (heads,) float32: the mean of the measure; nothing for random orders."""
    if by == "random":
        return {}
    if calibration is None:
        raise BadParameter("head_removal: by most or least takes calibration, a data set of other samples than those that are judged.")
    return {"importance": mean_importance("head_removal", model, load_batch, calibration, samples, measure)}


def removal_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """One for each step of each order, and once those of the importance."""
    random, found, heads = spec.get("by") == "random", plugins.get("calibration"), head_list(model.model)
    runs = (int(spec.get("steps", 8)) + 1) * (int(spec.get("orders", 5)) if random else 1)  # type: ignore[arg-type]
    measured = 0 if random or found is None else min(int(spec.get("samples", 128)), len(found))  # type: ignore[arg-type]
    return Passes(forward=runs, fit=measured * (1 + len(heads) / 2) / GRADIENT)


def _without(model: Classifier, heads: list[tuple[int, int]]) -> Classifier:
    if not heads:
        return model
    with refusing("head_removal", model):
        return changed(model, lambda module: silence(module, heads))
