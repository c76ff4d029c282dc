"""Attacks that distort the features of each image by itself: SSP, NRDM and dispersion reduction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from robustvit.attacks.feature.feature_ascent import Schedule, feature_ascent, middle
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.block_features import BlockFeatures, checked_layers, patch_deviation, patch_values
from robustvit.primitives.limits import Count, Radius, Whole
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec

_SSP = """@inproceedings{naseer2020selfsupervised,
  title={A Self-supervised Approach for Adversarial Robustness},
  author={Naseer, Muzammal and Khan, Salman and Hayat, Munawar and Khan, Fahad Shahbaz and Porikli, Fatih},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2020}
}"""
_NRDM = """@article{naseer2018task,
  title={Task-generalizable Adversarial Attack based on Perceptual Metric},
  author={Naseer, Muzammal and Khan, Salman H. and Rahman, Shafin and Porikli, Fatih},
  journal={arXiv preprint arXiv:1811.09020},
  year={2018}
}"""
_DISPERSION = """@inproceedings{lu2020enhancing,
  title={Enhancing Cross-Task Black-Box Transferability of Adversarial Examples With Dispersion Reduction},
  author={Lu, Yantao and Jia, Yunhan and Wang, Jianyu and Li, Bai and Chai, Weiheng and Carin, Lawrence and Velipasalar, Senem},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2020}
}"""


@attack(
    severity="eps", family="feature", label_free=True, source="Naseer et al. 2020", url="https://arxiv.org/abs/2006.04924", citation=_SSP,
    passes="compared_passes",
    rules="The paper takes features of VGG-16 (conv3.3); here they are the patch tokens after a block.",
)  # fmt: skip
def ssp(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, steps: Count = 100, step: Radius = 0.01, layer: Whole | None = None,
) -> Crafted:  # fmt: skip
    """Self-supervised perturbation (SSP, Naseer et al. 2020): drives the patch tokens after a block away from the clean image's.

    Signed gradient ascent in linf on the squared l2 distance of features, which has the direction of the distance; steps and step are those
    of the authors' code, which takes eps 16/255. It starts, as theirs, at standard normal noise clipped to the ball, most pixels at its
    edge. eps, step: in pixel units. layer: the block, counted from 0, default the last of the first half. Labels are not read; every image
    takes all steps.
    """
    return _distorted("ssp", model, images, labels, draws, Schedule(eps, steps, step, "normal"), layer)


@attack(
    severity="eps", family="feature", label_free=True, source="Naseer et al. 2018", url="https://arxiv.org/abs/1811.09020", citation=_NRDM,
    passes="compared_passes",
    rules="A reconstruction from how others describe it: its start, steps and step are ours. The paper takes features of VGG-16 (conv3.3); "
    "here they are the patch tokens after a block. Its objective is that of ssp, which differs in start and step.",
)  # fmt: skip
def nrdm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, steps: Count = 30, step: Radius | None = None, layer: Whole | None = None,
) -> Crafted:  # fmt: skip
    """Neural representation distortion (NRDM, Naseer et al. 2018): maximises the mean squared difference of features from the clean ones.

    Signed gradient ascent in linf from a uniform start in the ball. eps, step: in pixel units; step defaults to eps/10. layer: the block,
    counted from 0, default the last of the first half. Labels are not read; every image takes all steps.
    """
    return _distorted("nrdm", model, images, labels, draws, Schedule(eps, steps, eps / 10 if step is None else step, "uniform"), layer)


@attack(
    severity="eps", family="feature", label_free=True, source="Lu et al. 2020", url="https://arxiv.org/abs/1911.11616",
    citation=_DISPERSION, passes=("steps",),
    rules="The paper takes feature maps of convolutional networks; here they are the patch tokens after a block.",
)  # fmt: skip
def dispersion_reduction(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, steps: Count = 100, step: Radius = 4 / 255, layer: Whole | None = None,
) -> Crafted:  # fmt: skip
    """Dispersion reduction (Lu et al. 2020): lowers the standard deviation of the patch tokens' values after a block.

    Signed gradient descent in linf from the image, without a random start. eps, step: in pixel units. layer: the block, counted from 0,
    default the last of the first half. Labels are not read; every image takes all steps. Deterministic.
    """
    features = BlockFeatures(model, checked_layers("dispersion_reduction", model, [middle(model, layer)]), patch_deviation)
    schedule = Schedule(eps, steps, step, "image")
    return feature_ascent(features, images, labels, draws, schedule, lambda found, _: -found[:, 0], clean=False)


def _distorted(
    name: str, model: Classifier, images: Tensor, labels: Tensor, draws: Draws, schedule: Schedule, layer: int | None
) -> Crafted:  # fmt: skip
    features = BlockFeatures(model, checked_layers(name, model, [middle(model, layer)]), patch_values)
    return feature_ascent(features, images, labels, draws, schedule, lambda found, clean: (found - clean).square().sum(dim=1))


def compared_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """The features of the clean image, and a gradient at each step."""
    return Passes(forward=1, gradients=product_of(spec, "steps"))
