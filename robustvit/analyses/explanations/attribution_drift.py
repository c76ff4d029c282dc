"""Whether attribution maps stay when images shift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Gt, Le
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.attribution.agreement import rank_correlation, top_overlap
from robustvit.primitives.attribution.methods import Attribution, attribution, attribution_passes, tiled_logits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, shifted_images
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="explanations", severity="corruption.severity",
    source="Ghorbani, Abid and Zou 2019, Interpretation of Neural Networks is Fragile (the measures)",
    url="https://arxiv.org/abs/1710.10547", licence="a published definition; no code is used", reads_labels=True, passes="drift_passes",
    rules="A map that changes with the prediction may be as right as before: metrics take the images whose prediction stays alone, unless "
    "asked otherwise. Chance has a correlation of 0, and an overlap of about top / (2 − top).",
)  # fmt: skip
def attribution_drift(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, attribution: Attribution = "legrad",
    corruption: Corruption | None = None, attack: Attack | None = None, top: Annotated[float, Gt(0), Le(1)] = 0.2,
) -> dict[str, Tensor]:  # fmt: skip
    """Agreement of the attribution maps of a clean image and of a shifted one, each of the class predicted of it.

    attribution: see robustvit.primitives.attribution.methods; `random` has draws of its own for each of the two. corruption, attack: what
    shifts the image, one of them; an attack is run whether or not the image is classified correctly, and attribution_attack changes the map
    and not the prediction. Columns: value_spearman, the rank correlation of patches, NaN where a map is constant; value_top_iou,
    intersection over union of the nearest whole number to `top` of the patches, of equal values the earlier; value_same_answer, 1 where
    the prediction is the same and 0 elsewhere. Raises BadParameter unless one of corruption and attack is given, HostRefused or ModelError
    for a model that the attribution does not take.
    """
    shifted = shifted_images("attribution_drift", model, images, labels, draws, corruption, attack)
    if shifted is None:
        raise BadParameter("attribution_drift compares clean images with shifted ones: give corruption or attack, one of the two.")
    answers, others = (tiled_logits(model, some).argmax(dim=1) for some in (images, shifted))
    clean, other = (
        _map(model, images, answers, draws.at("clean"), attribution),
        _map(model, shifted, others, draws.at("shifted"), attribution),
    )
    return {
        "value_spearman": rank_correlation(clean, other).float(), "value_top_iou": top_overlap(clean, other, top).float(),
        "value_same_answer": (answers == others).float(),
    }  # fmt: skip


def drift_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """Two predictions and two maps of an image; None with an attack, whose own count."""
    if plugins.get("attack") is not None:
        return None
    own = attribution_passes(str(spec.get("attribution")))  # type: ignore[arg-type]
    return Passes(forward=2 * (1 + own.forward), gradients=2 * own.gradients)


def _map(model: Classifier, images: Tensor, classes: Tensor, draws: Draws, name: Attribution) -> Tensor:
    return attribution(name, model, images, classes, draws)
