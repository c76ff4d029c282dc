"""Fast feature fool: a perturbation for all images that is made without any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from robustvit.attacks.feature.feature_ascent import UniversalSchedule, mean_gradient, perturbed, uniform_perturbation, universal_ascent
from robustvit.attacks.universal import LoadBatch, decay
from robustvit.errors import BadParameter, GradientAbsent
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.block_features import BlockFeatures, blocks_of, checked_layers, mean_square
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec

Prior = Literal["none", "gaussian"]

_CITATION = """@inproceedings{mopuri2017fast,
  title={Fast Feature Fool: A data independent approach to universal adversarial perturbations},
  author={Mopuri, Konda Reddy and Garg, Utsav and Babu, R. Venkatesh},
  booktitle={British Machine Vision Conference},
  year={2017}
}
@article{mopuri2018generalizable,
  title={Generalizable Data-free Objective for Crafting Universal Adversarial Perturbations},
  author={Mopuri, Konda Reddy and Ganeshan, Aditya and Babu, R. Venkatesh},
  journal={IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year={2018}
}"""
_NOISE = 8  # images of noise at each step


@attack(
    severity="eps", family="feature", fit="fit_fff", label_free=True, source="Mopuri et al. 2017, with the norms of Mopuri et al. 2018",
    url="https://arxiv.org/abs/1707.05572", citation=_CITATION, passes="fff_passes",
    rules="The first paper multiplies the mean activations of all convolutions; a transformer's tokens are of both signs, and here the "
    "norms of all tokens after each block are multiplied, as the later paper does with convolutions. Signed steps that shrink take the "
    "place of Adam, and nothing is rescaled when it saturates.",
)  # fmt: skip
def fff(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, eps: Radius, prior: Prior = "none", train: Data | None = None, layers: tuple[int, ...] | None = None, steps: Count = 100,
    samples: Count = 1000, epochs: Count = 10, step: Radius | None = None,
) -> Crafted:  # fmt: skip
    """Fast feature fool (FFF, Mopuri et al. 2017): one perturbation that maximises the product of the norms of tokens after all blocks.

    eps: radius in linf, in pixel units. prior: what it is added to. `none`, the mean colour of the model's normalisation, which is to the
    model the perturbation alone; `gaussian`, 8 images of noise with the model's mean and deviation, new at each of `steps`. train: data to
    add it to instead, the first `samples` in evaluation order, `epochs` times. layers: the blocks, counted from 0, default
    all. step: the first step size, default eps/10, decaying to a hundredth of it along a cosine. It starts from uniform noise. Images cost
    no query.
    """
    return perturbed(model, images, labels, draws, artifact["perturbation"], eps)


def fit_fff(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, eps: float, prior: Prior, train: Data | None, layers: tuple[int, ...] | None, steps: int, samples: int, epochs: int,
    step: float | None,
) -> dict[str, Tensor]:  # fmt: skip
    """The perturbation (1, 3, H, W).

    Raises BadParameter for blocks that the model does not have and for data beside a prior, GradientAbsent where the model gives no
    gradient.
    """
    if prior != "none" and train is not None:
        raise BadParameter(f"attack 'fff': prior is {prior} and train is named; it takes one of them.")
    chosen = checked_layers("fff", model, range(len(blocks_of(model))) if layers is None else layers)
    features = BlockFeatures(model, chosen, mean_square)
    first = eps / 10 if step is None else step
    if train is not None:
        schedule = UniversalSchedule(eps, samples, epochs, first)
        return universal_ascent("fff", features, load_batch, draws, train, schedule, product_of_norms)
    return {"perturbation": _without_data(features, draws, eps, first, steps, prior)}


def product_of_norms(found: Tensor, _: Tensor) -> Tensor:
    """The logarithm of the product of squared norms, but for a constant. found: (n, L) mean squares."""
    return found.log().sum(dim=1)


def _without_data(features: BlockFeatures, draws: Draws, eps: float, first: float, steps: int, prior: Prior) -> Tensor:
    delta = uniform_perturbation(features, draws, eps)
    schedule = UniversalSchedule(eps, steps, 1, first)
    for turn in range(steps):
        own = Draws(draws.seed, draws.at(turn).stream, [f"noise {i}" for i in range(1 if prior == "none" else _NOISE)], features.device)
        found = mean_gradient(features, _prior_images(features, own, prior), delta, own, product_of_norms)
        if found.absent:
            raise GradientAbsent(
                f"attack 'fff': model '{features.card.label}' gives an input gradient that is zero, missing or not finite. Fit it to the "
                "model that this one was made of."
            )
        delta = schedule.stepped(delta, found.gradient, decay(turn, steps))
    return delta


def _prior_images(features: BlockFeatures, draws: Draws, prior: Prior) -> Tensor:
    """The images that the perturbation is added to, one for each of the draws."""
    mean, deviation = (torch.as_tensor(one, dtype=torch.float32) for one in (features.mean, features.std))  # type: ignore[arg-type]
    flat = mean.expand(len(draws), -1, *features.size)
    return flat if prior == "none" else (draws.normal(*flat.shape[1:]).to(flat) * deviation + flat).clamp(0.0, 1.0)


def fff_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample; the fit takes a gradient for each image of noise at each step, or for each sample in every epoch."""
    train = plugins.get("train")
    if train is not None:
        return Passes(fit=product_of(spec, "epochs") * min(product_of(spec, "samples"), len(train)))
    return Passes(fit=product_of(spec, "steps") * (1 if spec.get("prior") == "none" else _NOISE))
