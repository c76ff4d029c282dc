"""Perturbations for all images that lift the activations of a pre-trained backbone: L4A, with images, and fast feature fool, without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import Gt
from torch import Tensor

from robustvit.attacks.feature.feature_ascent import (
    NoiseTerm,
    UniversalSchedule,
    perturbed,
    universal_ascent,
)
from robustvit.attacks.universal import LoadBatch, fit_passes  # noqa: F401 (named by `passes`)
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.block_features import BlockFeatures, checked_layers, mean_square
from robustvit.primitives.limits import Count, Radius, Whole
from robustvit.spec.registry import attack

Weight = Annotated[float, Gt(0)]

_CITATION = """@inproceedings{ban2022pretrained,
  title={Pre-trained Adversarial Perturbations},
  author={Ban, Yuanhao and Dong, Yinpeng},
  booktitle={Advances in Neural Information Processing Systems},
  year={2022}
}"""
_MEANS, _DEVIATIONS = (0.4, 0.6), (0.05, 0.1)  # of Gaussian noise, for each channel, as in the authors' command
_NOISE = 8  # images of noise beside a batch, as in the authors' code


@attack(
    severity="eps", family="feature", fit="fit_l4a", label_free=True, source="Ban and Dong 2022", url="https://arxiv.org/abs/2210.03372",
    citation=_CITATION, passes="fit_passes",
    rules="Fitted to images of another split, never to those that it is evaluated on, unless a suite names the same data twice. Batches "
    "have 64 images and steps shrink, where the authors take 16 images and steps of 2e-4 at eps 0.05; images are clipped to [0, 1] "
    "while it is fitted, which theirs are not.",
)  # fmt: skip
def l4a(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, eps: Radius, train: Data, variant: Literal["base", "fused", "gaussian"] = "base", layer: Whole = 0, second: Whole = 1,
    weight: Weight | None = None, samples: Count = 1000, epochs: Count = 10, step: Radius | None = None,
) -> Crafted:  # fmt: skip
    """Low-level layer lifting (L4A, Ban and Dong 2022): one perturbation that maximises the mean squared activation after a low block.

    eps: radius in linf, in pixel units; the paper takes 0.05. variant: `base`, all tokens after the block `layer`, counted from 0; `fused`,
    plus `weight` (default 1) times those after the block `second`; `gaussian`, as base on 8 images of noise, plus `weight` (default 0.01)
    times the batch: each channel of the noise is normal with a mean uniform in 0.4 to 0.6 and a deviation uniform in 0.05 to 0.1, drawn
    anew at every step (the authors' code: at every twentieth). train: the data it is fitted to, the first `samples` in evaluation order,
    `epochs` times. step: the first step size, default eps/10, decaying to a hundredth of it along a cosine. It starts from uniform noise.
    Images cost no query.
    """
    return perturbed(model, images, labels, draws, artifact["perturbation"], eps)


def fit_l4a(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, eps: float, train: Data, variant: str, layer: int, second: int, weight: float | None, samples: int, epochs: int, step: float | None,
) -> dict[str, Tensor]:  # fmt: skip
    """The perturbation (1, 3, H, W). Raises BadParameter for blocks that the model does not have."""
    layers = checked_layers("l4a", model, [layer, second] if variant == "fused" else [layer])
    share = weight if weight is not None else 0.01 if variant == "gaussian" else 1.0

    def lifted(found: Tensor, _: Tensor) -> Tensor:
        return found[:, 0] + share * found[:, 1] if variant == "fused" else found[:, 0]

    schedule = UniversalSchedule(eps, samples, epochs, eps / 10 if step is None else step)
    noise = (lambda batch, own: _gaussian(batch.images, own, share)) if variant == "gaussian" else None
    return universal_ascent("l4a", BlockFeatures(model, layers, mean_square), load_batch, draws, train, schedule, lifted, noise=noise)


def _gaussian(like: Tensor, draws: Draws, weight: float) -> NoiseTerm:
    own = Draws(draws.seed, draws.at("noise").stream, [f"noise {i}" for i in range(_NOISE)], like.device)
    shared = Draws(draws.seed, draws.at("noise").stream, ["statistics"], like.device)
    channels = like.shape[1]
    mean, deviation = (
        shared.at(purpose).uniform(channels, 1, 1, low=low, high=high).to(like)
        for purpose, (low, high) in (("mean", _MEANS), ("deviation", _DEVIATIONS))
    )
    return NoiseTerm((own.normal(*like.shape[1:]).to(like) * deviation + mean).clamp(0.0, 1.0), own, weight)
