"""Mixup and CutMix: images are mixed in pairs, and their labels as much."""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple, TypeAlias

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Change, Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import NonNegative
from robustvit.primitives.training.distributions import beta
from robustvit.spec.registry import defense

_MIXUP = """@inproceedings{zhang2018mixup,
  title={mixup: Beyond Empirical Risk Minimization},
  author={Zhang, Hongyi and Cisse, Moustapha and Dauphin, Yann N. and Lopez-Paz, David},
  booktitle={International Conference on Learning Representations},
  year={2018}
}"""
_CUTMIX = """@inproceedings{yun2019cutmix,
  title={{CutMix}: Regularization Strategy to Train Strong Classifiers with Localizable Features},
  author={Yun, Sangdoo and Han, Dongyoon and Oh, Seong Joon and Chun, Sanghyuk and Choe, Junsuk and Yoo, Youngjoon},
  booktitle={International Conference on Computer Vision},
  year={2019}
}"""
_RULES = (
    "As timm has it: the partner of an image is its mirror image in the order of the batch, which is random, so that what an image becomes "
    "depends on the batch it is in; under torchrun it is of the same process. Labels are smoothed here: leave the smoothing of `plain` "
    "at 0 beside it."
)
Per: TypeAlias = Literal["batch", "elem"]
"""Whether a batch shares one share, or every element draws its own."""
Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
Smoothing: TypeAlias = Annotated[float, Ge(0), Lt(1)]
Classes: TypeAlias = Annotated[int, Ge(2)]


class Mix(NamedTuple):
    """How an image is mixed with its partner. share: of the image itself; box: top, bottom, left and right of what the partner gives."""

    share: float
    box: tuple[int, int, int, int] | None = None


@defense(
    family="augmentation", source="Zhang et al. 2018, as timm has it", url="https://arxiv.org/abs/1710.09412", citation=_MIXUP, rules=_RULES
)
def mixup(
    *, classes: Classes | None = None, alpha: Annotated[float, Gt(0)] = 0.8, cutmix: NonNegative = 0.0, switch: Share = 0.5,
    probability: Share = 1.0, smoothing: Smoothing = 0.1, mode: Per = "batch",
) -> Defense:  # fmt: skip
    """Mixup (Zhang et al. 2018): s·x + (1 − s)·x′ with labels s·y + (1 − s)·y′, s ~ Beta(alpha, alpha), x′ another image of the batch.

    classes: of the data; default those that training knows of. cutmix: the alpha of CutMix, which takes mixup's place with the probability
    `switch`; 0 for none. probability: of mixing at all. smoothing: of labels, before they are mixed. mode: one share for a `batch`, or
    one for each `elem`, an element of it.
    """
    return Defense("mixup", batch=_mixing("mixup", classes, (alpha, cutmix, switch if cutmix else 0.0), probability, smoothing, mode))


@defense(
    family="augmentation", source="Yun et al. 2019, as timm has it", url="https://arxiv.org/abs/1905.04899", citation=_CUTMIX, rules=_RULES
)
def cutmix(
    *, classes: Classes | None = None, alpha: Annotated[float, Gt(0)] = 1.0, probability: Share = 1.0, smoothing: Smoothing = 0.1,
    mode: Per = "batch",
) -> Defense:  # fmt: skip
    """CutMix (Yun et al. 2019): a box of another image of the batch, and as much of its label as the box covers of the image.

    The box has √(1 − s) of each side, s ~ Beta(alpha, alpha), and a centre anywhere, so that the border may cut it. Others as in `mixup`.
    """
    return Defense("cutmix", batch=_mixing("cutmix", classes, (alpha, alpha, 1.0), probability, smoothing, mode))


def _mixing(
    name: str, classes: int | None, shares: tuple[float, float, float], probability: float, smoothing: float, mode: Per
) -> Change:  # fmt: skip
    """The change of a batch. shares: the alphas of mixup and CutMix, and how often it is CutMix."""

    def batch(given: Batch, draws: Draws) -> Batch:
        one = draws if mode == "elem" else Draws(draws.seed, draws.stream, ("batch",), draws.device)
        mixes = drawn_mixes(one, given.images.shape[2:], shares, probability) * (1 if mode == "elem" else len(given))
        targets = _smoothed(given, classes, smoothing, name)
        share = torch.tensor([mix.share for mix in mixes]).to(targets)[:, None]
        mixed = given.with_soft_labels(share * targets + (1 - share) * targets.flip(0))
        return mixed.with_images(mixed_images(given.images, mixes))

    return batch


def drawn_mixes(draws: Draws, size: torch.Size, shares: tuple[float, float, float], probability: float) -> list[Mix]:
    """How each of the draws' samples is mixed."""
    mixup_alpha, cutmix_alpha, switch = shares
    whether, which = draws.at("whether").uniform(2).T.tolist()
    cuts = beta(draws.at("cut"), cutmix_alpha, cutmix_alpha).tolist() if switch else [1.0] * len(draws)
    blends = beta(draws.at("blend"), mixup_alpha, mixup_alpha).tolist()
    centres = draws.at("centre").uniform(2).tolist()
    return [
        Mix(1.0) if mixing >= probability else cut_box(size, cut, centre) if kind < switch else Mix(blend)
        for mixing, kind, cut, blend, centre in zip(whether, which, cuts, blends, centres, strict=True)
    ]


def cut_box(size: torch.Size, share: float, centre: list[float]) -> Mix:
    """The box that covers 1 − share of an image of a size (H, W), cut off at its border, with the share that is left of the image.

    centre: two uniform numbers in [0, 1).
    """
    edges: list[int] = []
    for side, place in zip(size, centre, strict=True):
        length, middle = int(side * math.sqrt(1 - share)), int(place * side)
        edges += [max(0, middle - length // 2), min(side, middle + (length + 1) // 2)]
    top, bottom, left, right = edges
    return Mix(1 - (bottom - top) * (right - left) / (size[0] * size[1]), (top, bottom, left, right))


def mixed_images(images: Tensor, mixes: list[Mix]) -> Tensor:
    """Each image mixed with its mirror image in the order of the batch, (N, 3, H, W)."""
    made, partners = images.clone(), images.flip(0)
    for row, mix in enumerate(mixes):
        if mix.box is None:
            made[row] = images[row] if mix.share == 1.0 else images[row] * mix.share + partners[row] * (1 - mix.share)
        else:
            top, bottom, left, right = mix.box
            made[row, :, top:bottom, left:right] = partners[row, :, top:bottom, left:right]
    return made


def _smoothed(given: Batch, classes: int | None, smoothing: float, name: str) -> Tensor:
    """(N, classes) targets. Raises BadParameter for labels, or soft ones, of more classes or others."""
    soft = given.soft_labels
    known = given.classes if classes is None else classes
    if known is None:
        raise BadParameter(f"the defense '{name}' does not know how many classes there are; give classes.")
    if given.classes not in (None, known):
        raise BadParameter(f"the defense '{name}' mixes labels of classes = {known}, and the data has {given.classes}; leave classes out.")
    classes = known
    found = int(given.labels.max()) + 1 if soft is None else soft.shape[1]
    if found > classes or (soft is not None and found < classes):
        raise BadParameter(f"the defense '{name}' mixes labels of classes = {classes}, and these are of {found}; give the data's number.")
    hard = functional.one_hot(given.labels, classes).to(given.images) if soft is None else soft
    return hard * (1 - smoothing) + smoothing / classes
