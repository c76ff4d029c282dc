"""Out-of-distribution scores that are fitted to training images: to their softmax probabilities or their penultimate features.

A fit maps Training to tensors by name, which all scores share. A score maps Rows and these tensors to (N,): the higher, the less an image
looks like the training images. Arithmetic is in float64, but for products with the bank of training features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from robustvit.analyses.ood_logits import energy

Fitted: TypeAlias = Mapping[str, Tensor]

_NOISE = 1e-10  # share of the largest variance below which a direction is the rounding of float32 features
_LEAST = 1e-300  # a probability in a template, whose logarithm is taken
_CLIP = 0.9  # of ReAct: the quantile of activations above which they are clipped


class Training(NamedTuple):
    """Training images. logits: (n, K); labels: (n,); features: (n, D); weight, bias: of the head, (outputs, D) and (outputs,)."""

    logits: Tensor
    labels: Tensor
    features: Tensor
    weight: Tensor
    bias: Tensor


class Rows(NamedTuple):
    """Images to be scored. logits: (N, K); features: (N, D); head: from features to logits; neighbours: of training images that count."""

    logits: Tensor
    features: Tensor
    head: Callable[[Tensor], Tensor]
    neighbours: int


def fit_templates(logits: Tensor) -> dict[str, Tensor]:
    """templates: (classes that are predicted, K) mean probabilities of the images of each predicted class."""
    probabilities = torch.softmax(logits, dim=1)
    predicted = logits.argmax(dim=1)
    return {"templates": torch.stack([probabilities[predicted == label].mean(dim=0) for label in predicted.bincount().nonzero()])}


def fit_gaussians(training: Training) -> dict[str, Tensor]:
    """Gaussians of one covariance around the mean of each class, and one of all: whiteners (D, D), and means after whitening.

    The covariances have the denominator n; directions without variance are left out, as by a pseudo-inverse.
    """
    features = training.features
    present = training.labels.bincount().nonzero()[:, 0]
    index = torch.searchsorted(present, training.labels)
    sums = features.new_zeros(len(present), features.shape[1]).index_add(0, index, features)
    means = sums / index.bincount()[:, None]
    centre = features.mean(dim=0, keepdim=True)
    within, overall = _whitener(features - means[index]), _whitener(features - centre)
    return {"within": within, "class_means": means @ within, "overall": overall, "mean": centre @ overall}


def _whitener(centred: Tensor) -> Tensor:
    """(D, D) W such that ‖xW‖² is the squared Mahalanobis distance of x from 0."""
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    kept = variances > _NOISE * variances[-1]
    scales: Tensor = torch.where(kept, variances.where(kept, 1.0).rsqrt(), 0.0)
    return torch.mul(directions, scales)


def fit_subspace(training: Training) -> dict[str, Tensor]:
    """What ViM takes: the origin (1, D), a basis of the residual space (D, D − principal), and the scale α of the virtual logit.

    The principal space has 1000 dimensions from 2048 features on, else 512, as in the authors' code; of up to 512 features, half of them.
    """
    size = training.features.shape[1]
    principal = 1000 if size >= 2048 else 512 if size > 512 else size // 2
    origin = -(torch.linalg.pinv(training.weight) @ training.bias)[None]
    moved = training.features - origin
    basis = torch.linalg.eigh(moved.T @ moved / len(moved)).eigenvectors[:, : size - principal]
    scale = training.logits.amax(dim=1).mean() / (moved @ basis).norm(dim=1).mean()
    return {"origin": origin, "residual_basis": basis.contiguous(), "scale": scale.reshape(1)}


def fit_bank(training: Training) -> dict[str, Tensor]:
    """bank: (n, D) float32 features of length 1; bank_energy: (n,) log Σ exp(logit) of the same images."""
    return {"bank": _unit(training.features).float(), "bank_energy": -energy(training.logits)}


def fit_clip(training: Training) -> dict[str, Tensor]:
    """clip: (1,) the activation at which ReAct clips, the 90 % quantile of all."""
    return {"clip": training.features.new_tensor([float(np.quantile(training.features.cpu().numpy(), _CLIP))])}


FEATURE_FITS = (fit_gaussians, fit_subspace, fit_bank, fit_clip)


def kl_matching(logits: Tensor, fitted: Fitted) -> Tensor:
    """(N,) the least KL divergence of the probabilities from a class's template (Hendrycks et al. 2022)."""
    log_p = torch.log_softmax(logits, dim=1)
    p = log_p.exp()
    return ((p * log_p).sum(dim=1, keepdim=True) - p @ fitted["templates"].clamp_min(_LEAST).log().T).amin(dim=1)


def mahalanobis(rows: Rows, fitted: Fitted) -> Tensor:
    """(N,) squared Mahalanobis distance from the nearest class mean (Lee et al. 2018, of the penultimate features alone)."""
    return _squared_distances(rows.features @ fitted["within"], fitted["class_means"]).amin(dim=1)


def relative_mahalanobis(rows: Rows, fitted: Fitted) -> Tensor:
    """(N,) that distance less the one from the mean of all images under the covariance of all (Ren et al. 2021)."""
    return mahalanobis(rows, fitted) - _squared_distances(rows.features @ fitted["overall"], fitted["mean"])[:, 0]


def knn(rows: Rows, fitted: Fitted) -> Tensor:
    """(N,) distance from the k-th nearest training image, features scaled to length 1 (Sun et al. 2022)."""
    nearest = _similarities(rows, fitted).topk(_count(rows, fitted), dim=1).values[:, -1]
    return (2.0 - 2.0 * nearest).clamp_min(0.0).sqrt()


def residual(rows: Rows, fitted: Fitted) -> Tensor:
    """(N,) length of the part of the features outside the principal space of the training images' (Wang et al. 2022)."""
    outside: Tensor = torch.matmul(rows.features - fitted["origin"], fitted["residual_basis"])
    return outside.square().sum(dim=1).sqrt()


def vim(rows: Rows, fitted: Fitted) -> Tensor:
    """(N,) the virtual logit, which is the scaled residual, less log Σ exp(logit) (Wang et al. 2022, ViM)."""
    return torch.mul(residual(rows, fitted), fitted["scale"]) + energy(rows.logits)


def react(rows: Rows, fitted: Fitted) -> Tensor:
    """(N,) the energy after activations are clipped from above (Sun, Guo and Li 2021, ReAct)."""
    return energy(rows.head(rows.features.minimum(fitted["clip"])))


def nnguide(rows: Rows, fitted: Fitted) -> Tensor:
    """(N,) the energy times the mean of the k largest products of cosine and energy over training images (Park et al. 2023, NNGuide)."""
    guided = _similarities(rows, fitted) * fitted["bank_energy"]
    return energy(rows.logits) * guided.topk(_count(rows, fitted), dim=1).values.mean(dim=1)


FEATURE_SCORES: dict[str, Callable[[Rows, Fitted], Tensor]] = {
    one.__name__: one for one in (mahalanobis, relative_mahalanobis, knn, residual, vim, react, nnguide)
}


def _squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """(N, K) between rows."""
    products = points @ centres.T
    return (points.square().sum(dim=1, keepdim=True) - 2.0 * products + centres.square().sum(dim=1)).clamp_min(0.0)


def _similarities(rows: Rows, fitted: Fitted) -> Tensor:
    """(N, n) cosines of the features with those in the bank."""
    return (_unit(rows.features).float() @ fitted["bank"].T).double()


def _count(rows: Rows, fitted: Fitted) -> int:
    return min(rows.neighbours, len(fitted["bank"]))


def _unit(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features, dim=1)
