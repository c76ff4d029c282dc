"""Attacks made to transfer: iterated sign gradients with momentum, on inputs that look ahead, are scaled, resized, or whose gradient is blurred."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, NamedTuple, TypeAlias

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import conv2d

from robustvit.attacks.fgsm_pgd import inside
from robustvit.attacks.losses import cross_entropy
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import Norm, per_sample, project, steepest
from robustvit.spec.registry import attack

Radius = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]
Decay = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Slope: TypeAlias = Callable[[Search, Tensor, Tensor, Draws, bool], Tensor]
"""A search, rows, where they are, draws of theirs at this step, and whether where they are may count as adversarial → the gradient to follow."""

_TINY = 1e-12
_MI = """@inproceedings{dong2018boosting,
  title={Boosting Adversarial Attacks with Momentum},
  author={Dong, Yinpeng and Liao, Fangzhou and Pang, Tianyu and Su, Hang and Zhu, Jun and Hu, Xiaolin and Li, Jianguo},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2018}
}"""
_NI = """@inproceedings{lin2020nesterov,
  title={Nesterov Accelerated Gradient and Scale Invariance for Adversarial Attacks},
  author={Lin, Jiadong and Song, Chuanbiao and He, Kun and Wang, Liwei and Hopcroft, John E.},
  booktitle={International Conference on Learning Representations},
  year={2020}
}"""
_DI = """@inproceedings{xie2019improving,
  title={Improving Transferability of Adversarial Examples with Input Diversity},
  author={Xie, Cihang and Zhang, Zhishuai and Zhou, Yuyin and Bai, Song and Wang, Jianyu and Ren, Zhou and Yuille, Alan L.},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2019}
}"""
_TI = """@inproceedings{dong2019evading,
  title={Evading Defenses to Transferable Adversarial Examples by Translation-Invariant Attacks},
  author={Dong, Yinpeng and Pang, Tianyu and Su, Hang and Zhu, Jun},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2019}
}"""


class Pace(NamedTuple):
    """How an iteration goes: its ball, its number of steps, the length of a step, and what momentum keeps of itself each time."""

    eps: float
    norm: Norm
    steps: int
    step: float
    decay: float


@attack(severity="eps", family="transfer", source="Dong et al. 2018", url="https://arxiv.org/abs/1710.06081", citation=_MI)
def mi_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0, early: bool = True,
) -> Crafted:  # fmt: skip
    """FGSM iterated with momentum: gradients, each divided by the mean of its absolute values, are summed, and the sum is followed.

    eps: radius in pixel units; write 4/255. step: default eps / steps. decay: what momentum keeps at each step. early: a sample stops at its first
    misclassified iterate; False lets all take all steps, as one does where the images are for another model. Deterministic: it begins at the image.
    """
    return iterate(model, images, labels, draws, Pace(eps, norm, steps, step or eps / steps, decay), plain, early)


@attack(severity="eps", family="transfer", source="Lin et al. 2020", url="https://arxiv.org/abs/1908.06281", citation=_NI)
def ni_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0, early: bool = True,
) -> Crafted:  # fmt: skip
    """mi_fgsm whose gradient is taken where momentum is about to lead (Nesterov). Parameters as for mi_fgsm.

    The paper divides gradients by their l1 length, which leaves nothing to look ahead by; its authors' code divides by the mean, as is done here.
    """
    return iterate(model, images, labels, draws, Pace(eps, norm, steps, step or eps / steps, decay), plain, early, ahead=True)


@attack(severity="eps", family="transfer", source="Lin et al. 2020", url="https://arxiv.org/abs/1908.06281", citation=_NI)
def si_ni_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0, copies: Count = 5, early: bool = True,
) -> Crafted:  # fmt: skip
    """ni_fgsm whose gradient is averaged over the image darkened to 1, 1/2, 1/4, … of its values. copies: how many. Others as for mi_fgsm."""

    def scaled(search: Search, rows: Tensor, at: Tensor, draws: Draws, counts: bool) -> Tensor:
        return torch.stack([slope(search, rows, at, functools.partial(torch.mul, other=2.0**-i)) for i in range(copies)]).mean(dim=0)

    return iterate(model, images, labels, draws, Pace(eps, norm, steps, step or eps / steps, decay), scaled, early, ahead=True)


@attack(severity="eps", family="transfer", source="Xie et al. 2019", url="https://arxiv.org/abs/1803.06978", citation=_DI)
def di_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0,
    chance: Share = 0.5, smallest: Annotated[float, Gt(0), Le(1)] = 0.9, early: bool = True,
) -> Crafted:  # fmt: skip
    """mi_fgsm on inputs that are, by chance, reduced and put somewhere on black.

    chance: of a sample to be changed at a step. smallest: the least share of its side that it is reduced to; its size is uniform between that and 1, its
    place uniform. decay 0 is the paper's DI²-FGSM without momentum. Others as for mi_fgsm.
    """

    def diverse(search: Search, rows: Tensor, at: Tensor, draws: Draws, counts: bool) -> Tensor:
        luck = draws.uniform(4).to(at.device)
        return slope(search, rows, at, lambda pixels: placed(pixels, luck, chance, smallest))

    return iterate(model, images, labels, draws, Pace(eps, norm, steps, step or eps / steps, decay), diverse, early, elsewhere=True)


@attack(severity="eps", family="transfer", source="Dong et al. 2019", url="https://arxiv.org/abs/1904.02884", citation=_TI)
def ti_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0,
    width: Annotated[int, Ge(1)] = 15, sigma: Radius = 7 / 3, early: bool = True,
) -> Crafted:  # fmt: skip
    """mi_fgsm whose gradient is blurred, as an average over translations of the input would be.

    width, sigma: of the Gaussian kernel, in pixels, by default the authors', which ends at three sigmas (for 224 px and more; an odd width; smaller
    pictures want a smaller one). Others as for mi_fgsm.
    """

    def blurred(search: Search, rows: Tensor, at: Tensor, draws: Draws, counts: bool) -> Tensor:
        return blur(plain(search, rows, at, draws, counts), width, sigma)

    return iterate(model, images, labels, draws, Pace(eps, norm, steps, step or eps / steps, decay), blurred, early)


def iterate(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, pace: Pace, follow: Slope, early: bool, ahead: bool = False,
    elsewhere: bool = False,
) -> Crafted:  # fmt: skip
    """Steps along momentum from the image on.

    ahead: the gradient is taken a step of momentum farther. elsewhere: the model is asked of changed pixels for the gradient. With either, each step
    costs one more query, which looks at the image itself; without, the query of the gradient does.
    """
    search = Search(model, images, labels, draws, early=early)
    rows, start, apart = search.standing, images, ahead or elsewhere
    at, momentum = images.clone(), torch.zeros_like(images)
    for turn in range(pace.steps):
        where = (at + pace.step * pace.decay * momentum).clamp(0.0, 1.0) if ahead else at
        gradient = follow(search, rows, where, draws.at(turn)[rows], turn > 0 and not apart)
        if not apart:
            rows, start, at, momentum, gradient = _left(search, rows, start, at, momentum, gradient)
        gradient = gradient / per_sample(gradient.flatten(1).abs().mean(dim=1), gradient).clamp_min(_TINY)
        momentum = pace.decay * momentum + gradient
        at = inside(start, project(at - start + pace.step * steepest(momentum, pace.norm), pace.eps, pace.norm), pace.eps, pace.norm)
        if apart:
            search.look(rows, at)
            rows, start, at, momentum = _left(search, rows, start, at, momentum)
        if not len(rows):
            break
    if len(rows) and not apart:
        search.look(rows, at)
    search.leave(rows, at)
    return search.outcome()


def _left(search: Search, rows: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """The rows that are still to be attacked, and what belongs to them."""
    alive = search.stand(rows)
    return (rows, *others) if bool(alive.all()) else tuple(one[alive] for one in (rows, *others))


def plain(search: Search, rows: Tensor, at: Tensor, draws: Draws, counts: bool) -> Tensor:
    """The gradient of the cross-entropy."""
    return search.climb(rows, at, lambda logits, rows: cross_entropy(logits, search.labels[rows]), candidates=counts).gradient


def slope(search: Search, rows: Tensor, at: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of the cross-entropy of changed pixels, with respect to the pixels."""
    loss = search.climb(rows, at, lambda logits, rows: cross_entropy(logits, search.labels[rows]), candidates=False, through=change)
    return loss.gradient


def placed(pixels: Tensor, luck: Tensor, chance: float, smallest: float) -> Tensor:
    """Each picture reduced and set on black, where its first number of `luck` (n, 4) is below `chance`: size, row and column are the others."""
    side = pixels.shape[-1]
    reduced = (side * (smallest + (1.0 - smallest) * luck[:, 1])).round().clamp_min(1.0)
    size = torch.where(luck[:, 0] < chance, reduced, float(side))[:, None]
    down, across = (_taken(place[:, None], size, side) for place in (luck[:, 2], luck[:, 3]))
    each = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    found = pixels[each, :, down.pixel[:, :, None], across.pixel[:, None, :]].permute(0, 3, 1, 2)
    return found * (down.inside[:, :, None] & across.inside[:, None, :])[:, None]


class _Taken(NamedTuple):
    """Along one side, (n, side): the pixel that each place shows, and whether it shows one."""

    pixel: Tensor
    inside: Tensor


def _taken(place: Tensor, size: Tensor, side: int) -> _Taken:
    first = (place * (side - size + 1)).floor()
    at = torch.arange(side, device=place.device) - first
    return _Taken((at * side / size).floor().clamp(0, side - 1).long(), (at >= 0) & (at < size))


def blur(gradient: Tensor, width: int, sigma: float) -> Tensor:
    """The gradient under a Gaussian kernel of width x width, black beyond its edges."""
    offsets = torch.arange(width, device=gradient.device, dtype=gradient.dtype) - (width - 1) / 2
    bell = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (bell / bell.sum()).view(1, 1, -1).expand(gradient.shape[1], 1, -1)
    tall = conv2d(gradient, kernel[..., None], padding=(width // 2, 0), groups=gradient.shape[1])
    return conv2d(tall, kernel[:, :, None], padding=(0, width // 2), groups=gradient.shape[1])
