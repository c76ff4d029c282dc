"""Transferable attacks: iterative FGSM with momentum, and its Nesterov, scale-, input-diversity and translation-invariant variants."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import conv2d

from robustvit.attacks.fgsm_pgd import clip_to_ball
from robustvit.attacks.losses import log_odds, untargeted
from robustvit.primitives.attack_search import Crafted, PixelFunction, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.norms import Norm, divided_by_mean, project, steepest
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec

Decay = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
GradientRule: TypeAlias = Callable[[Search, Tensor, Tensor, Draws, bool], Tensor]
"""A search, rows, their pixels, their draws at this step, and whether the pixels are candidates → the gradient to follow."""

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


class Schedule(NamedTuple):
    """The ball of an attack, its number of steps, the size of a step, and the decay of momentum."""

    eps: float
    norm: Norm
    steps: int
    step: float
    decay: float


@attack(
    severity="eps", family="transfer", source="Dong et al. 2018", url="https://arxiv.org/abs/1710.06081", citation=_MI, passes=("steps",),
    version=2,
)  # fmt: skip
def mi_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0, early: bool = True,
) -> Crafted:  # fmt: skip
    """MI-FGSM (Dong et al. 2018): iterative FGSM with momentum over gradients that are each divided by the mean of their absolute values.

    eps: radius in pixel units; write 4/255. step: step size, default eps / steps. decay: factor on the momentum at each step. early: a
    sample stops at its first misclassified iterate; False lets all samples take all steps, as in the paper, for images that are meant for
    another model. Differs from the paper: it divides by the l1 norm, which with momentum alone makes the same steps. Deterministic: starts
    at the image.
    """
    return iterate(model, images, labels, draws, Schedule(eps, norm, steps, step or eps / steps, decay), plain_gradient, early)


@attack(
    severity="eps", family="transfer", source="Lin et al. 2020", url="https://arxiv.org/abs/1908.06281", citation=_NI, passes="step_passes",
    version=2,
)  # fmt: skip
def ni_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0, early: bool = True,
) -> Crafted:  # fmt: skip
    """NI-FGSM (Lin et al. 2020): mi_fgsm with the gradient taken one step of momentum ahead (Nesterov). Parameters as for mi_fgsm.

    Differs from the paper as its authors' code does: by the l1 norm, the step ahead would be too small. It is clipped to [0, 1].
    """
    return iterate(model, images, labels, draws, Schedule(eps, norm, steps, step or eps / steps, decay), plain_gradient, early, ahead=True)


@attack(
    severity="eps", family="transfer", source="Lin et al. 2020", url="https://arxiv.org/abs/1908.06281", citation=_NI,
    passes=("steps", "copies"), version=2,
)  # fmt: skip
def si_ni_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0,
    copies: Count = 5, early: bool = True,
) -> Crafted:  # fmt: skip
    """SI-NI-FGSM (Lin et al. 2020): ni_fgsm with the gradient averaged over copies of the image scaled by 1, 1/2, 1/4, …

    copies: how many, by default the paper's; all weigh alike (the paper's cross-entropy: by 1 − p). Otherwise as mi_fgsm and ni_fgsm.
    """

    def scaled(search: Search, rows: Tensor, at: Tensor, draws: Draws, candidates: bool) -> Tensor:
        copied = [gradient_through(search, rows, at, functools.partial(torch.mul, other=2.0**-i)) for i in range(copies)]
        return torch.stack(copied).mean(dim=0)

    return iterate(model, images, labels, draws, Schedule(eps, norm, steps, step or eps / steps, decay), scaled, early, ahead=True)


@attack(
    severity="eps", family="transfer", source="Xie et al. 2019", url="https://arxiv.org/abs/1803.06978", citation=_DI, passes="step_passes",
    version=2,
)  # fmt: skip
def di_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0,
    chance: Share = 0.5, smallest: Annotated[float, Gt(0), Le(1)] = 0.9, early: bool = True,
) -> Crafted:  # fmt: skip
    """DI-FGSM (Xie et al. 2019): mi_fgsm with gradients of randomly resized and zero-padded inputs.

    chance: probability that a sample is resized at a step. smallest: the smallest size, as a share of the side; the size is uniform between
    that and 1, the position uniform. Differs from the paper: inputs are reduced and padded within their own size, where the paper enlarges
    them, and every sample is resized by draws of its own. decay 0 is its DI²-FGSM, other values its M-DI²-FGSM. Other parameters as for
    mi_fgsm.
    """

    def diverse(search: Search, rows: Tensor, at: Tensor, draws: Draws, candidates: bool) -> Tensor:
        uniforms = draws.uniform(4).to(at.device)
        return gradient_through(search, rows, at, lambda pixels: resized_and_padded(pixels, uniforms, chance, smallest))

    return iterate(model, images, labels, draws, Schedule(eps, norm, steps, step or eps / steps, decay), diverse, early, transformed=True)


@attack(
    severity="eps", family="transfer", source="Dong et al. 2019", url="https://arxiv.org/abs/1904.02884", citation=_TI, passes=("steps",),
    version=2,
)  # fmt: skip
def ti_fgsm(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 10, step: Radius | None = None, decay: Decay = 1.0,
    width: Annotated[int, Ge(1)] = 15, sigma: Radius = 7 / 3, early: bool = True,
) -> Crafted:  # fmt: skip
    """TI-FGSM (Dong et al. 2019): mi_fgsm with gradients blurred by a Gaussian kernel, which approximates an average over translations.

    width, sigma: of the kernel, in pixels, by default those of the authors' code, which ends at three sigmas. They suit images of 224 px
    and more; smaller images need a smaller, odd width. Other parameters and differences from the paper as for mi_fgsm.
    """

    def blurred(search: Search, rows: Tensor, at: Tensor, draws: Draws, candidates: bool) -> Tensor:
        return blur(plain_gradient(search, rows, at, draws, candidates), width, sigma)

    return iterate(model, images, labels, draws, Schedule(eps, norm, steps, step or eps / steps, decay), blurred, early)


def iterate(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, schedule: Schedule, rule: GradientRule, early: bool,
    *, ahead: bool = False, transformed: bool = False,
) -> Crafted:  # fmt: skip
    """Iterative FGSM with momentum from the image.

    ahead: the gradient is taken one step of momentum ahead. transformed: the gradient is of a transformed input. With either, each step
    costs one more query, of the iterate itself; otherwise the query for the gradient is of the iterate and serves both.
    """
    search = Search(model, images, labels, draws, early=early)
    rows, start, apart = search.active, images, ahead or transformed
    at, momentum = images.clone(), torch.zeros_like(images)
    for turn in range(schedule.steps):
        where = (at + schedule.step * schedule.decay * momentum).clamp(0.0, 1.0) if ahead else at
        gradient = rule(search, rows, where, draws.at(turn)[rows], turn > 0 and not apart)
        if not apart:
            rows, start, at, momentum, gradient = _keep_active(search, rows, start, at, momentum, gradient)
        momentum = schedule.decay * momentum + divided_by_mean(gradient)
        moved = project(at - start + schedule.step * steepest(momentum, schedule.norm), schedule.eps, schedule.norm)
        at = clip_to_ball(start, moved, schedule.eps, schedule.norm)
        if apart:
            search.query(rows, at)
            rows, start, at, momentum = _keep_active(search, rows, start, at, momentum)
        if not len(rows):
            break
    if len(rows) and not apart:
        search.query(rows, at)
    search.keep_best(rows, at)
    return search.outcome()


def _keep_active(search: Search, rows: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Those of `rows` that are still active, and the same entries of the other tensors."""
    active = search.is_active(rows)
    return (rows, *others) if bool(active.all()) else tuple(one[active] for one in (rows, *others))


def plain_gradient(search: Search, rows: Tensor, at: Tensor, draws: Draws, candidates: bool) -> Tensor:
    """The gradient of the cross-entropy at the iterates, as that of the log odds: divided by its mean it is the same."""
    return search.query_gradient(rows, at, untargeted(log_odds, search.labels), candidates=candidates).gradient


def gradient_through(search: Search, rows: Tensor, at: Tensor, function: PixelFunction) -> Tensor:
    """The gradient, with respect to the pixels, of the log odds of `function` of them, which point as the cross-entropy's do."""
    return search.query_gradient(rows, at, untargeted(log_odds, search.labels), candidates=False, through=function).gradient


def resized_and_padded(pixels: Tensor, uniforms: Tensor, chance: float, smallest: float) -> Tensor:
    """Images (n, 3, H, W) reduced (nearest neighbour) and padded with zeros to their size, each with probability `chance`.

    uniforms: (n, 4) numbers in [0, 1): whether an image is resized, its share of both sides, and the row and column of its position.
    """
    share = smallest + (1.0 - smallest) * uniforms[:, 1]
    down, across = (_axis(share, uniforms[:, 0] < chance, uniforms[:, 2 + axis], side) for axis, side in enumerate(pixels.shape[2:]))
    each = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    found = pixels[each, :, down.pixel[:, :, None], across.pixel[:, None, :]].permute(0, 3, 1, 2)
    return found * (down.inside[:, :, None] & across.inside[:, None, :])[:, None]


class _Source(NamedTuple):
    """Along one axis, (n, side): the source pixel of each position, and whether the position lies inside the reduced image."""

    pixel: Tensor
    inside: Tensor


def _axis(share: Tensor, resized: Tensor, position: Tensor, side: int) -> _Source:
    reduced = (side * share).round().clamp_min(1.0)
    size = torch.where(resized, reduced, float(side))[:, None]
    first = (position[:, None] * (side - size + 1)).floor()
    at = torch.arange(side, device=position.device) - first
    return _Source((at * side / size).floor().clamp(0, side - 1).long(), (at >= 0) & (at < size))


def blur(gradient: Tensor, width: int, sigma: float) -> Tensor:
    """The gradient convolved with a Gaussian kernel of width x width, with zero padding."""
    offsets = torch.arange(width, device=gradient.device, dtype=gradient.dtype) - (width - 1) / 2
    bell = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (bell / bell.sum()).view(1, 1, -1).expand(gradient.shape[1], 1, -1)
    tall = conv2d(gradient, kernel[..., None], padding=(width // 2, 0), groups=gradient.shape[1])
    return conv2d(tall, kernel[:, :, None], padding=(0, width // 2), groups=gradient.shape[1])


def step_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """At each step a gradient at a changed image, and the prediction of the image itself."""
    return Passes(forward=product_of(spec, "steps"), gradients=product_of(spec, "steps"))
