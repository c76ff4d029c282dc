"""Randomised smoothing with Gaussian noise: an l2 radius within which the majority vote under noise cannot change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Gt, Lt
from scipy.stats import beta, norm
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import bound_rows
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.votes import Votes, require_finite
from robustvit.spec.registry import certificate
from robustvit.spec.spec import Spec

_CITATION = """@inproceedings{cohen2019certified,
  title={Certified Adversarial Robustness via Randomized Smoothing},
  author={Cohen, Jeremy and Rosenfeld, Elan and Kolter, J. Zico},
  booktitle={International Conference on Machine Learning},
  year={2019}
}"""


@certificate(
    severity="sigma", family="l2", source="Cohen et al. 2019, Certified Adversarial Robustness via Randomized Smoothing, algorithm CERTIFY",
    url="https://arxiv.org/abs/1902.02918", citation=_CITATION,
    passes="noise_passes",
)  # fmt: skip
def gaussian(
    model: Classifier, images: Tensor, draws: Draws,
    *, sigma: Annotated[float, Gt(0)], samples: Count = 100_000, selection: Count = 100, alpha: Annotated[float, Gt(0), Lt(1)] = 0.001,
) -> Votes:  # fmt: skip
    """Votes under Gaussian noise, and the l2 radius within which the prediction is certified with probability 1 − alpha.

    sigma: standard deviation of the noise, in pixel units (pixels are in [0, 1], noisy ones are not clipped). selection: votes that
    select the class; samples: further votes that bound its probability from below, one-sided, by Clopper and Pearson. Where that bound is
    at most one half the model abstains, pred −1, radius 0. The probability is over the noise, which is keyed by the sample: the
    certificate is the same each time. Of a model with randomness of its own it holds for the one draw that the sample has.
    """
    rows = max(1, model.tile // len(images)) if len(images) else 1
    with torch.no_grad(), model.unbounded_pixels():
        selected = _votes(model, images, draws.at("selection"), sigma, selection, rows).argmax(dim=1)
        counts = _votes(model, images, draws.at("samples"), sigma, samples, rows)
    hits = counts.gather(1, selected[:, None])[:, 0]
    bound = beta.ppf(alpha, hits.cpu().numpy(), samples - hits.cpu().numpy() + 1)
    low = torch.from_numpy(bound).nan_to_num(0.0)  # scipy gives NaN for no hits, where the bound is zero
    certified = (low > 0.5).to(images.device)
    radius = torch.from_numpy(sigma * norm.ppf(low.clamp_min(0.5).numpy())).to(images.device)
    columns = {"pred": torch.where(certified, selected, -1), "radius": radius, "level": torch.full_like(radius, 1.0 - alpha)}
    return Votes(counts, False, columns)


def _votes(model: Classifier, images: Tensor, draws: Draws, sigma: float, count: int, rows: int) -> Tensor:
    """(N, K) how often each class is predicted under noise. rows: noisy copies of each image at once."""
    total: Tensor | None = None
    each = torch.arange(len(images), device=images.device)
    for start in range(0, count, rows):
        noise = torch.stack([draws.at(turn).normal(*images.shape[1:]) for turn in range(start, min(start + rows, count))])
        noisy = (images + sigma * noise.to(images)).flatten(0, 1)
        logits = require_finite(bound_rows(model, each.repeat(len(noise)))(noisy), model.card.label, "noisy images")
        votes = torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).view(len(noise), len(images), -1).sum(dim=0)
        total = votes if total is None else total + votes
    assert total is not None
    return total


def noise_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A prediction for every draw of noise, of the selection and of the estimate."""
    return Passes(forward=product_of(spec, "samples") + product_of(spec, "selection"))
