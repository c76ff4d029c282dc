"""Whether attribution maps tell what a prediction rests on: its probability while patches are removed in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.attribution.methods import Attribution, attribution, attribution_passes, patch_order, tiled_logits
from robustvit.primitives.attribution.recorded import patch_grid
from robustvit.primitives.attribution.removal import Removal, removing
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="explanations", severity="corruption.severity",
    source="Chefer, Gur and Wolf 2021, Transformer Interpretability Beyond Attention Visualization (positive and negative perturbation)",
    url="https://arxiv.org/abs/2012.09838", licence="MIT; no code is used", reads_labels=True, passes="faithfulness_passes",
    rules="Compare methods under one way of removal, and beside attribution: random and centre. The authors remove pixels in steps of a "
    "tenth, from 0.1 to 0.9, by the normalised value 0, and report accuracy; here whole patches are removed, from none to all of them, and "
    "it is the probability that is averaged.",
)  # fmt: skip
def faithfulness(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, attribution: Attribution = "legrad", remove: Removal = "mean",
    steps: Count = 10, corruption: Corruption | None = None, attack: Attack | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """The probability of the prediction while patches are removed in the order of an attribution map, and in the opposite order.

    attribution: of the class predicted of the intact image, its answer; see robustvit.primitives.attribution.methods. remove: what patches
    become: black; mean, the model's mean colour; blur, the image blurred by a Gaussian of a sixteenth of the short side; noise, uniform,
    from the image's draws; drop leaves their tokens out. corruption, attack: what shifts the images, one of them or neither; an attack is
    run whether or not the image is classified correctly. At each share 0, 1/steps, …, 1 the nearest number of patches is removed, a half
    rounded up, of equal values the earlier first: positive_curve, the probability of the answer where those that count most go first;
    negative_curve, where those that count least do; lists with steps + 1 entries. positive_auc and negative_auc are the areas under them
    over [0, 1] by the trapezoidal rule; positive_auc_label and negative_auc_label those of the label's probability, NaN where an image has
    none. Of clean images value_clean_NAME, of shifted ones, whose answer is their own, value_shifted_NAME. Raises HostRefused or ModelError
    for a model that the attribution or the removal does not take.
    """
    shifted = shifted_images("faithfulness", model, images, labels, draws, corruption, attack)
    return both(lambda some: _areas(model, some, labels, draws, attribution, remove, steps), images, shifted)


def faithfulness_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One of the intact image, one without patches, two for each step between, and the attribution's; twice as many where it is shifted."""
    if plugins.get("attack") is not None:
        return None
    name, steps = str(spec.get("attribution")), int(str(spec.get("steps")))
    own = attribution_passes(name)  # type: ignore[arg-type]
    sides = 1 if plugins.get("corruption") is None else 2
    return Passes(forward=sides * (2 * steps + own.forward), gradients=sides * own.gradients)


def _areas(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, name: Attribution, remove: Removal, steps: int
) -> dict[str, Tensor]:  # fmt: skip
    intact = tiled_logits(model, images)
    answers, grid = intact.argmax(dim=1), patch_grid(model)
    maps = attribution(name, model, images, answers, draws)
    with torch.no_grad():
        logits = removing(model, images, grid, remove, draws)
        bare = logits(torch.ones_like(maps, dtype=torch.bool).flatten(1))
        found = {}
        for kind, order in (("positive", patch_order(maps)), ("negative", patch_order(maps, descending=False))):
            between = [logits(_first(order, _count(step, steps, order.shape[1]))) for step in range(1, steps)]
            found[kind] = torch.stack([torch.softmax(one.double(), dim=1) for one in (intact, *between, bare)], dim=1)
    return _columns(found, answers, labels)


def _columns(found: Mapping[str, Tensor], answers: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """found: (N, steps + 1, K) probabilities by kind."""
    columns: dict[str, Tensor] = {}
    for kind, probabilities in found.items():
        curve, of_label = (_of_class(probabilities, some.clamp_min(0)) for some in (answers, labels))
        columns |= {
            f"{kind}_auc": area_under(curve).float(), f"{kind}_auc_label": area_under(of_label).where(labels >= 0, torch.nan).float(),
            f"{kind}_curve": curve.float(),
        }  # fmt: skip
    return columns


def _of_class(probabilities: Tensor, classes: Tensor) -> Tensor:
    """(N, steps + 1)."""
    return probabilities.gather(2, classes[:, None, None].expand(-1, probabilities.shape[1], 1))[..., 0]


def area_under(curves: Tensor) -> Tensor:
    """(N,) the area under (N, S + 1) values at 0, 1/S, …, 1, by the trapezoidal rule."""
    return (curves[:, :-1] + curves[:, 1:]).sum(dim=1) / (2 * (curves.shape[1] - 1))


def _count(step: int, steps: int, patches: int) -> int:
    """The nearest whole number to patches · step / steps, a half rounded up."""
    return (2 * patches * step + steps) // (2 * steps)


def _first(order: Tensor, count: int) -> Tensor:
    """(N, P) bool: the first `count` patches of each order."""
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :count], True)
