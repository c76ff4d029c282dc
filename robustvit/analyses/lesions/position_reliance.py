"""How much of a model's predictions depends on its position embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.learned_positions import permuted, require_learned_positions, with_positions
from robustvit.primitives.limits import Count, Whole
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="lesions", source="definition; the question of Wang et al. 2023 (DropPos)", url="https://arxiv.org/abs/2309.03576",
    licence="a published idea; no code is used", reads_labels=True, passes="reliance_passes",
    rules="At test time alone. Images of small objects in the middle say little about places: compare models on one data set.",
)  # fmt: skip
def position_reliance(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, shuffles: Count = 5, seed: Whole = 0
) -> dict[str, Tensor]:  # fmt: skip
    """Predictions with the position embeddings of the patches dropped, averaged or shuffled, beside those with them.

    Three lesions: dropped, they are zero; mean, all are their mean; shuffled, `shuffles` permutations of `seed`, the same for every sample,
    over which columns are averaged. Columns: value_position_right, 1 where the model as it is is right; and for each lesion
    value_LESION_right, a share; value_LESION_agree, the share that predicts as the model as it is; value_LESION_kl, the Kullback-Leibler
    divergence from its probabilities to those of the lesion, in nats. Raises HostRefused for a model without a learned position embedding.
    """
    whole = _log_probabilities(model, images)
    answer = whole.argmax(dim=1)
    columns = {"value_position_right": (answer == labels).float()}
    for name, models in _lesions(model, shuffles, seed).items():
        found = [_log_probabilities(one, images) for one in models]
        columns |= {
            f"value_{name}_right": _mean([(one.argmax(dim=1) == labels) for one in found]),
            f"value_{name}_agree": _mean([(one.argmax(dim=1) == answer) for one in found]),
            f"value_{name}_kl": _mean([(whole.exp() * (whole - one)).sum(dim=1).clamp_min(0.0) for one in found]),
        }
    return columns


def reliance_passes(spec: Spec, model: Classifier, plugins: object) -> Passes:
    """One as it is, two without positions, and one for each shuffle."""
    return Passes(forward=3 + product_of(spec, "shuffles"))


def _lesions(model: Classifier, shuffles: int, seed: int) -> dict[str, Iterator[Classifier]]:
    patches = require_learned_positions("position_reliance", model).patches
    orders = Draws(seed, "positions", ["all", *map(str, range(1, shuffles))]).permutation(len(patches)).to(patches.device)
    return {
        "dropped": iter([with_positions(model, torch.zeros_like(patches))]),
        "mean": iter([with_positions(model, patches.mean(dim=0).expand_as(patches))]),
        "shuffled": (with_positions(model, permuted(patches, order)) for order in orders),
    }


def _log_probabilities(model: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images).double().log_softmax(dim=1)  # type: ignore[no-any-return]


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).double().mean(dim=0).float()
