"""Adversarial training for free: one backward pass moves both the weights and a perturbation that outlives the batch."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.optim import Optimizer

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Closure, Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative, Radius
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{shafahi2019adversarial,
  title={Adversarial Training for Free!},
  author={Shafahi, Ali and Najibi, Mahyar and Ghiasi, Amin and Xu, Zheng and Dickerson, John and Studer, Christoph and Davis, Larry S.
          and Taylor, Gavin and Goldstein, Tom},
  booktitle={Advances in Neural Information Processing Systems},
  year={2019}
}"""


@defense(
    family="adversarial", source="Shafahi et al. 2019", url="https://arxiv.org/abs/1904.12843", citation=_CITATION,
    rules="Evaluate under AutoAttack at the eps of training and at twice it. Train for epochs / replays: every batch is taken `replays` "
    "times. The perturbation belongs to a place in the batch, not to an image, and is never reset, as in the authors' code.",
)  # fmt: skip
def free_at(*, eps: NonNegative, replays: Count = 8, step: Radius | None = None) -> Defense:
    """Free adversarial training (Shafahi et al. 2019): every batch `replays` times, each backward pass moves weights and perturbation.

    eps: linf radius in pixel units; write 8/255. step: default eps. The perturbation (N, 3, H, W) goes on from batch to batch:
    δ ← clip(δ + step · sign ∂L/∂δ, ±eps), and the loss is the cross-entropy of clip(x + δ, [0, 1]). As many passes as plain training of
    replays · epochs. It is one step of its own (`step`), in one process; a loop of one's own calls that, too.
    """
    state: dict[str, Tensor] = {}
    shown: dict[tuple[str, ...], Tensor] = {}  # the perturbations of the parts of the batch at hand, in order, whose gradient is asked

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        place = sum(len(ids) for ids in _before(shown, batch.ids))
        delta = _rows(state, place, batch.images).clone().requires_grad_(True)
        shown[batch.ids] = delta
        return functional.cross_entropy(model((batch.images + delta).clamp(0, 1)), batch.targets)

    def taken(closure: Closure, optimizer: Optimizer) -> Tensor:
        _refuse_several_processes()
        found = torch.zeros(())
        for _ in range(replays):
            shown.clear()
            found = closure()
            gradients = [delta.grad for delta in shown.values() if delta.grad is not None]
            if gradients:
                _move(state, torch.cat(gradients), eps if step is None else step, eps)
            optimizer.step()
        shown.clear()
        return found

    return Defense("free_at", loss=loss, step=taken, state=state)


def _before(shown: dict[tuple[str, ...], Tensor], ids: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The parts of the batch that were shown before this one; one that is shown again keeps its place."""
    known = list(shown)
    return known[: known.index(ids)] if ids in shown else known


def _rows(state: dict[str, Tensor], place: int, images: Tensor) -> Tensor:
    """The perturbations from a place on, as many as images; places that were never reached begin at zero."""
    kept, end = state.get("delta", images.new_zeros((0, *images.shape[1:]))), place + len(images)
    if len(kept) < end:
        state["delta"] = kept = torch.cat((kept, images.new_zeros((end - len(kept), *images.shape[1:]))))
    return kept[place:end]


def _move(state: dict[str, Tensor], gradients: Tensor, step: float, eps: float) -> None:
    delta, count = state["delta"], len(gradients)
    state["delta"] = torch.cat(((delta[:count] + step * gradients.sign()).clamp(-eps, eps), delta[count:]))


def _refuse_several_processes() -> None:
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise BadParameter("free_at keeps a perturbation for each place in a batch, which one process has; train with it in one process.")
