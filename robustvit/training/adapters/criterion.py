"""The loss of a defense as a criterion of plain PyTorch: `loss = criterion(images, labels)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from robustvit.errors import BadParameter, with_article
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.spec.coercion import check_seed
from robustvit.spec.given import check_whole
from robustvit.training.adapters.length import Length
from robustvit.training.adapters.normalised import logits_of, normalised_model
from robustvit.training.adapters.steps import DefendedSteps

Criterion = Callable[[Tensor, Tensor], Tensor]
_MOST = 1 << 40


class DefenseLoss(nn.Module):
    """The loss of a defense in a loop of one's own: `criterion = rv.DefenseLoss(defense, model)`, then `loss = criterion(images, labels)`.

    It computes the model's outputs itself, so that a loop gives it the images where it gave a criterion the logits. Without gradients
    (`torch.no_grad()`, as for validation) it is the criterion of the images as they are, and counts no step.

    model: from images to (N, K) logits, or to an object with `logits`; DistributedDataParallel is fine. mean, std: by which the loop
    normalises images; without them, or with an `rv.OnPixels` as model, images are pixels in [0, 1]. criterion: (logits, targets) → () loss,
    in place of the cross-entropy of a defense that has no loss of its own, such as pgd_at. optimizer: of the model; needed by a defense
    that takes part in its steps, such as sam: from then on `optimizer.step()` does. clip: the l2 norm to which the loop clips gradients,
    for those that are computed again. seed, and the ids in the call, key all random numbers. steps, epochs: of training in all, needed by
    what changes over training, such as warmup. prepare and export of a defense are left to the loop. `state_dict()` keeps the step.

    Raises BadParameter for a criterion beside a loss of the defense's own, and for a defense that needs an optimizer.
    """

    def __init__(
        self, defense: Defense, model: nn.Module, criterion: Criterion | None = None, *, mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None, optimizer: Optimizer | None = None, clip: float | None = None, seed: int = 0,
        steps: int | None = None, epochs: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_seed(seed)
        self.defense = with_criterion(defense, criterion)
        self.criterion = nn.CrossEntropyLoss() if criterion is None else criterion
        read = normalised_model(model, mean, std)
        scale = None if clip is None else lambda: nn.utils.clip_grad_norm_(read.parameters(), clip)
        wrapper = model if isinstance(model, DistributedDataParallel) else None
        self.steps = DefendedSteps(self.defense, read, seed=seed, length=length_of(steps, epochs), wrapper=wrapper, clip=scale)
        if optimizer is not None:
            self.steps.attach(optimizer)

    def forward(self, images: Tensor, targets: Tensor, ids: Tensor | Sequence[Any] | None = None) -> Tensor:
        """The loss of images (N, 3, H, W) and their labels (N,), or soft labels (N, K): () with a graph to the model's parameters.

        ids: N names of the samples, text or numbers, so that a sample's random numbers do not depend on its place in the batch. Raises
        PixelRange for images outside [0, 1] in pixels, BadParameter for logits in place of images.
        """
        if torch.is_grad_enabled():
            return self.steps.loss(images, targets, ids)
        model = self.steps.model
        return self.criterion(model(model.pixels(images)), targets)

    def attach(self, optimizer: Optimizer) -> None:
        """Gives the defense the optimizer, where it is made after the criterion."""
        self.steps.attach(optimizer)

    def get_extra_state(self) -> dict[str, Any]:
        """The step, and what the defense keeps from step to step."""
        return self.steps.state()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.steps.restore(state)


def with_criterion(defense: Defense, criterion: Criterion | None) -> Defense:
    """The defense with a criterion in place of cross-entropy. Raises BadParameter for a defense with a loss of its own."""
    if not isinstance(defense, Defense):
        raise BadParameter(
            f"the defense is {with_article(type(defense).__name__)}; make one by rv.load_defense, and of several one by rv.compose."
        )
    if criterion is None:
        return defense
    if defense.sets("loss"):
        raise BadParameter(f"the defense '{defense.name}' has a loss of its own, in which no other criterion takes part; leave it out.")

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        found = criterion(logits_of(model(batch.shown), model), batch.targets)
        if not isinstance(found, Tensor) or found.dim():
            what = f"{tuple(found.shape)}" if isinstance(found, Tensor) else f"{with_article(type(found).__name__)}"
            raise BadParameter(f"the criterion returned {what}; a defense needs one number, as by reduction='mean'.")
        return found

    return replace(defense, loss=loss)


def length_of(steps: int | None, epochs: int) -> Length | None:
    """The length of training, None where it is not known."""
    if steps is None:
        return None
    check_whole(steps, "a training run's steps", 1, _MOST)
    check_whole(epochs, "a training run's epochs", 1, steps)
    return Length(steps, epochs)
