"""Scores by which out-of-distribution images may be told from others: thirteen of one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from robustvit.analyses.ood_fitted import FEATURE_FITS, FEATURE_SCORES, Rows, Training, fit_templates, kl_matching
from robustvit.analyses.ood_logits import LOGIT_SCORES
from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.batch import NO_CLASS, Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.penultimate import Penultimate, penultimate
from robustvit.primitives.limits import Count
from robustvit.primitives.modules.model_output import of_classes
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.spec.registry import analysis
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec

LoadBatch: TypeAlias = Callable[[Data, np.ndarray], Batch]

_ROWS = 256  # training images that are loaded at once


@analysis(
    family="out-of-distribution",
    source="Zhang et al. 2023, OpenOOD v1.5, and the papers that it compares: each score names its own",
    url="https://github.com/Jingkang50/OpenOOD",
    licence="published definitions; no code is used",
    citation="""@inproceedings{zhang2023openood,
  title={{OpenOOD} v1.5: Enhanced Benchmark for Out-of-Distribution Detection},
  author={Zhang, Jingyang and Yang, Jingkang and Wang, Pengyun and Wang, Haoqi and Lin, Yueqian and Zhang, Haoran and others},
  booktitle={NeurIPS Workshop on Distribution Shifts},
  year={2023}
}""",
    rules="Fitted to training images alone: no score sees an out-of-distribution image, and no parameter is chosen by one.",
    fit="fit_scores", passes="ood_passes",
)  # fmt: skip
def ood_scores(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, train: Data, samples: Count = 20_000, neighbours: Count = 15,
) -> dict[str, Tensor]:  # fmt: skip
    """Scores each image by how little it looks like the data that the model was trained on; the higher, the less.

    train: training images, which share labels with the data. samples: how many of them, the first in evaluation order. neighbours: the k of
    knn and nnguide; 15 of 20,000 is the share of Sun et al.'s 1,000 of ImageNet. Columns value_ood_NAME: of the logits msp, max_logit,
    energy, entropy, gen; of logits and training images kl_matching; of penultimate features, which are what the last linear layer takes,
    mahalanobis, relative_mahalanobis, knn, residual, vim, react, nnguide. Logits are those of the training data's classes, by its first
    Reading. A model whose logits no single linear layer gives has NaN in the columns of features. Labels are not used.
    """
    fitted = {name: tensor.to(images.device) for name, tensor in artifact.items()}
    parts = [_tile_scores(model, tile, fitted, train, neighbours) for tile in torch.split(images, model.tile)]
    return {f"value_ood_{name}": torch.cat([part[name] for part in parts]) for name in parts[0]}


def _tile_scores(model: Classifier, images: Tensor, fitted: Mapping[str, Tensor], train: Data, neighbours: int) -> dict[str, Tensor]:
    """The scores of at most a tile of images, computed for a whole tile of rows, so that none depends on how many there are."""
    reading, found = train.readings[0], penultimate(model, images)
    logits = _filled(reading.read(_finite(found, model).logits), model.tile)
    scores = {name: score(logits) for name, score in LOGIT_SCORES.items()} | {"kl_matching": kl_matching(logits, fitted)}
    if found.features is None or found.head is None or "bank" not in fitted:
        scores |= {name: torch.full_like(scores["msp"], torch.nan) for name in FEATURE_SCORES}
    else:
        weight, bias = weights_of(found.head)
        rows = Rows(
            logits, _filled(found.features, model.tile), lambda features: reading.read(of_classes(features @ weight.T + bias)), neighbours
        )
        scores |= {name: score(rows, fitted) for name, score in FEATURE_SCORES.items()}
    return {name: values[: len(images)] for name, values in scores.items()}


def fit_scores(
    model: Classifier, load_batch: LoadBatch, draws: Draws, *, train: Data, samples: int, neighbours: int
) -> dict[str, Tensor]:  # fmt: skip
    """The tensors that the scores share, see robustvit.analyses.ood_fitted; of a model without features, those of its logits alone."""
    if NO_CLASS in np.asarray(train.labels):
        raise BadParameter(f"ood_scores: some images of its training data '{train.name}' are of no class; train is labelled data.")
    chosen = order(train.ids)[:samples]
    batches = [load_batch(train, chosen[start : start + _ROWS]) for start in range(0, len(chosen), _ROWS)]
    found = [_finite(penultimate(model, batch.images), model) for batch in batches]
    logits = torch.cat([one.logits for one in found]).double()
    fitted = fit_templates(logits)
    features, head = [one.features for one in found if one.features is not None], found[0].head
    if head is None or len(features) < len(found):
        return fitted
    labels = torch.cat([batch.labels for batch in batches])
    training = Training(logits, labels, torch.cat(features).double(), *weights_of(head))
    for fit in FEATURE_FITS:
        fitted |= fit(training)
    return fitted


def weights_of(head: nn.Linear) -> tuple[Tensor, Tensor]:
    """The weight and the bias, zeros where it has none, in float64."""
    weight = head.weight.detach().double()
    return weight, weight.new_zeros(len(weight)) if head.bias is None else head.bias.detach().double()


def _filled(rows: Tensor, count: int) -> Tensor:
    """(count, …) float64: the rows, and zeros after them."""
    return torch.cat([rows.double(), rows.new_zeros(count - len(rows), *rows.shape[1:]).double()])


def _finite(found: Penultimate, model: Classifier) -> Penultimate:
    if not bool(torch.isfinite(found.logits).all()):
        raise ModelError(f"model '{model.card.label}' gives logits that are not finite numbers: it has no out-of-distribution scores.")
    return found


def ood_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """One pass for each image, and one for each training image."""
    return Passes(forward=1, fit=min(product_of(spec, "samples"), len(plugins["train"])) / GRADIENT)
