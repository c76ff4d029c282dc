"""Adversarial training with a single step: from a random start in the ball, or from noise around it."""

from __future__ import annotations

from torch import Tensor, nn

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Craft, Defense, no_objection
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import NonNegative, Radius
from robustvit.primitives.training.ascent import image_gradient, summed_cross_entropy
from robustvit.primitives.training.collapse import collapse
from robustvit.primitives.training.crafting import Mode
from robustvit.spec.registry import defense

_FAST = """@inproceedings{wong2020fast,
  title={Fast is better than free: Revisiting adversarial training},
  author={Wong, Eric and Rice, Leslie and Kolter, J. Zico},
  booktitle={International Conference on Learning Representations},
  year={2020}
}"""
_NFGSM = """@inproceedings{jorge2022make,
  title={Make Some Noise: Reliable and Efficient Single-Step Adversarial Training},
  author={de Jorge, Pau and Bibi, Adel and Volpi, Riccardo and Sanyal, Amartya and Torr, Philip and Rogez, Gr{\\'e}gory
          and Dokania, Puneet K.},
  booktitle={Advances in Neural Information Processing Systems},
  year={2022}
}"""
_EVALUATE = "Evaluate under AutoAttack at the eps of training and at twice it: single steps may overfit to single steps (see `check`). "


@defense(
    family="adversarial", source="Wong, Rice and Kolter 2020", url="https://arxiv.org/abs/2001.03994", citation=_FAST,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules=_EVALUATE + "Differs from the authors' code: catastrophic overfitting is looked for on the last batch of every epoch, with the "
    "model in evaluation mode, before the epoch's weights are kept, and ends training with the weights of the epoch before.",
)  # fmt: skip
def fast_at(
    *, eps: NonNegative, step: Radius | None = None, warmup: NonNegative = 0.0, check: bool = True, mode: Mode = "train"
) -> Defense:
    """Fast adversarial training (FGSM-RS, Wong et al. 2020): one step of the gradient's sign from a uniform point of the linf ball.

    eps: radius in pixel units; write 8/255. step: default 1.25 · eps; with 2 · eps or more every pixel ends at the bound, and training
    collapses. warmup: epochs over which both rise from 0. check: ends training where accuracy under PGD falls by more than 0.2 in an
    epoch (catastrophic overfitting). mode: of the model while images are made. Two forward and two backward passes a step.
    """
    return _single_step("fast_at", eps, 1.25 * eps if step is None else step, 1.0, True, warmup, check, mode)


@defense(
    family="adversarial", source="de Jorge et al. 2022", url="https://arxiv.org/abs/2202.01181", citation=_NFGSM,
    rules=_EVALUATE + "Its images leave the ball, by up to k · eps more: it is evaluated within eps. The check is that of fast_at.",
)  # fmt: skip
def nfgsm(*, eps: NonNegative, k: NonNegative = 2.0, step: Radius | None = None, warmup: NonNegative = 0.0, check: bool = True,
          mode: Mode = "train") -> Defense:  # fmt: skip
    """N-FGSM (de Jorge et al. 2022): one step of the gradient's sign from uniform noise of k · eps, which is not projected onto the ball.

    eps: radius in pixel units; write 8/255. k: noise is in ±k · eps. step: default eps. warmup: epochs over which they rise from 0. check,
    mode: as of fast_at. Perturbations reach (k + 1) · eps, inside [0, 1].
    """
    return _single_step("nfgsm", eps, eps if step is None else step, k, False, warmup, check, mode)


def _single_step(name: str, eps: float, step: float, noise: float, inside: bool, warmup: float, check: bool, mode: Mode) -> Defense:
    state: dict[str, Tensor] = {}

    def objection(model: nn.Module, batch: Batch, draws: Draws) -> str:
        return collapse(model, batch, draws, eps, state)

    craft = _craft(eps, step, noise, inside, warmup)
    return Defense(name, craft=craft, crafting=mode, check=objection if check else no_objection, state=state)


def _craft(eps: float, step: float, noise: float, inside: bool, warmup: float) -> Craft:
    """Images one step from uniform noise of ±noise · eps; inside: within eps, besides within [0, 1]."""

    def craft(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        images, scale = batch.images, batch.progress.ramp(warmup)
        start = noise * eps * scale * (2 * draws.uniform(*images.shape[1:]).to(images) - 1)
        delta = start.clamp(-images, 1 - images)
        delta = delta + step * scale * image_gradient(model, images + delta, summed_cross_entropy(batch)).sign()
        delta = delta.clamp(-eps * scale, eps * scale) if inside else delta
        return images + delta.clamp(-images, 1 - images)

    return craft
