"""The linear readout in closed form: ridge regression of one-hot labels on features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import NonNegative, Whole
from robustvit.primitives.passes import GRADIENT, Passes
from robustvit.primitives.surgery.heads import Pool
from robustvit.primitives.surgery.linear import linear_of
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.readouts import LoadImages, labelled_features, read_out
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec

GRID = tuple(2.0**power for power in range(-10, 21))
"""The penalties among which the error of left-out samples decides."""
_TINY = 1e-9  # relative, of singular values that are taken for zero, and of what a sample has of its own prediction's freedom


@transform(
    family="readout", source="ridge regression (Hoerl and Kennard 1970); few-shot as in Zhai et al. 2022 (Scaling Vision Transformers)",
    url="https://arxiv.org/abs/2106.04560", hosts="any", no_op="shots=0", head="data", fit="fit_ridge", passes="fit_passes",
    citation="""@inproceedings{zhai2022scaling,
  title={Scaling Vision Transformers},
  author={Zhai, Xiaohua and Kolesnikov, Alexander and Houlsby, Neil and Beyer, Lucas},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2022}
}""",
    rules="Learns of labelled samples, which are not those that are judged. Differs from the few-shot evaluation of Zhai et al.: features "
    "are centred and not scaled, targets are one-hot, and unless `ridge` is given it is the one of 2⁻¹⁰ … 2²⁰ with the least squared error "
    "on training samples that are left out one by one, never chosen on test images.",
)  # fmt: skip
def linear(
    model: Classifier, artifact: Mapping[str, Tensor], *, data: Data, shots: Whole | None = None, ridge: NonNegative | None = None,
    pool: Pool = "own",
) -> Classifier:  # fmt: skip
    """A linear head in closed form: ridge regression of one-hot labels on the features of labelled samples, in the place of the head.

    data: the labelled samples; the logits are its classes. shots: so many samples of each class, drawn by the seed, instead of all; 0 keeps
    the head. ridge: λ of the least Σ|W·x + b − y|² + λ·|W|², of which b is free; 0 is least squares, with the smallest W where there are
    several. pool: as for `knn`. Takes headless models. Raises HostRefused where no linear layer makes the logits, BadParameter where a
    class has fewer samples than `shots`.
    """
    if shots == 0:
        return changed(model, unchanged)
    like: Any = model.mean
    return read_out(model, linear_of(artifact["weight"].to(like), artifact["bias"].to(like)), pool, data)


def fit_ridge(
    model: Classifier, load_batch: LoadImages, draws: Draws, *, data: Data, shots: int | None, ridge: float | None, pool: Pool
) -> dict[str, Tensor]:  # fmt: skip
    """Weight (K, D) and bias (K,) of the head, and the penalty that was taken."""
    if shots == 0:
        return {}
    found = labelled_features(model, load_batch, draws, data, shots, pool)
    targets = functional.one_hot(found.labels, found.classes).double()
    return ridge_regression(found.features.double(), targets, ridge)


def ridge_regression(features: Tensor, targets: Tensor, ridge: float | None) -> dict[str, Tensor]:
    """The `weight` (K, D) and `bias` (K,) in float32 that minimise Σ|W·x + b − y|² + ridge·|W|², and the `ridge` taken, ().

    features: (n, D) and targets: (n, K), float64. ridge: None takes the one of GRID with the least squared error of samples left out one by
    one, which for a linear fit is that of each residual over one minus its sample's leverage.
    """
    centre, level = features.mean(dim=0), targets.mean(dim=0)
    left, values, right = torch.linalg.svd(features - centre, full_matrices=False)
    inside = left.T @ (targets - level)
    held = values > _TINY * values.max()

    def shrunk(penalty: float) -> Tensor:
        """(k,): the singular values over themselves squared plus the penalty; 0 where they are none."""
        return torch.where(held, values / (values**2 + penalty).clamp(min=torch.finfo(values.dtype).tiny), 0.0)

    def left_out(penalty: float) -> float:
        factors = (shrunk(penalty) * values)[:, None]
        residuals = targets - level - left @ (factors * inside)
        freedom = 1 - 1 / len(features) - (left**2 @ factors)
        return float((residuals / freedom.clamp(min=_TINY)).square().sum())

    taken = min(GRID, key=left_out) if ridge is None else ridge
    weight = (right.T @ (shrunk(taken)[:, None] * inside)).T
    return {"weight": weight.float(), "bias": (level - weight @ centre).float(), "ridge": torch.tensor(taken, dtype=torch.float64)}


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample that it is applied to; a forward pass for each labelled sample, once."""
    data, shots = plugins["data"], spec.get("shots")
    return Passes(fit=(len(data) if not isinstance(shots, int) else min(len(data), shots * len(data.classes))) / GRADIENT)
