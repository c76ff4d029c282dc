"""Attention heads whose value output is zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.head_lesions import check_heads, head_list, mean_importance, removal_order, silence
from robustvit.primitives.limits import Count, Whole
from robustvit.primitives.passes import GRADIENT, Passes
from robustvit.primitives.quantisation.calibration import LoadBatch
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec


@transform(
    family="depth", source="Michel et al. 2019 (heads taken out at test time); importance as the analysis head_importance",
    url="https://arxiv.org/abs/1905.10650", licence="a published idea; no code is used", hosts="plain", no_op="count=0", fit="fit_heads",
    passes="fit_passes",
    rules="A lesion, to see what depends on heads; head_pruning makes a model smaller. Importance is measured on other samples.",
)  # fmt: skip
def lesion_heads(
    model: Classifier, artifact: Mapping[str, Tensor],
    *, count: Whole = 1, by: Literal["most", "least", "random"] = "random", heads: Sequence[str] = (), calibration: Data | None = None,
    samples: Count = 128, measure: Literal["drop_label", "drop_answer", "js", "flip"] = "js", seed: Whole = 0,
) -> Classifier:  # fmt: skip
    """Sets the value output of attention heads to zero; other heads, and attention maps, stay as they are.

    count: how many heads of the model go. by: the most or the least important first, as the mean of `measure` over the first `samples` of
    `calibration` has it, or a random order of `seed`. heads: the very heads, `block:head` from 0, in place of count and by. Gradients are
    exact. Raises BadParameter for a head that is not there, more heads than the model has, or an importance without calibration.
    """
    if not count and not heads:
        return changed(model, lambda module: module)
    every = head_list(model.model)
    if heads:
        chosen = [_pair(text) for text in heads]
        check_heads("lesion_heads", chosen, model.model, model.card.label)
    else:
        if count > len(every):
            raise BadParameter(f"lesion_heads: model '{model.card.label}' has {len(every)} heads, and not {count}.")
        chosen = [every[place] for place in removal_order(len(every), by, artifact.get("importance"), seed)[:count]]
    with refusing("lesion_heads", model):
        return changed(model, lambda module: silence(module, chosen))


def fit_heads(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, count: int, by: str, heads: Sequence[str], calibration: Data | None, samples: int, measure: str, seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    """importance, (heads,) float32: the mean of the measure; nothing where heads are named or random."""
    if heads or by == "random" or not count:
        return {}
    if calibration is None:
        raise BadParameter("lesion_heads: by most or least takes calibration, a data set of other samples than those that are judged.")
    return {"importance": mean_importance("lesion_heads", model, load_batch, calibration, samples, measure)}


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Half a pass for each head of each sample of its importance, none without one."""
    found = plugins.get("calibration")
    if found is None or spec.get("by") == "random" or spec.get("heads"):
        return Passes()
    return Passes(fit=min(int(spec.get("samples", 128)), len(found)) * (1 + len(head_list(model.model)) / 2) / GRADIENT)  # type: ignore[arg-type]


def _pair(text: str) -> tuple[int, int]:
    """`block:head` as two numbers."""
    block, colon, head = str(text).partition(":")
    if not (colon and block.isdecimal() and head.isdecimal()):
        raise BadParameter(f"lesion_heads: head '{text}' is not written block:head, as 0:1.")
    return int(block), int(head)
