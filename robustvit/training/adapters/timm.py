"""Defenses as a training task of timm, which its train.py calls in place of a model and a criterion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from robustvit.errors import MissingExtra
from robustvit.primitives.defense import Defense
from robustvit.spec.coercion import check_seed
from robustvit.training.adapters.criterion import Criterion, length_of, with_criterion
from robustvit.training.adapters.normalised import normalised_model
from robustvit.training.adapters.steps import DefendedSteps

_NEEDED = "training tasks of timm need timm 1.0.27 or later: python3 -m pip install --upgrade timm."
try:
    from timm.task import ClassificationTask
except ImportError as error:
    raise MissingExtra(_NEEDED) from error
if not hasattr(ClassificationTask, "get_trainable_module"):
    raise MissingExtra(_NEEDED)


class DefenseTask(ClassificationTask):  # type: ignore[misc]
    """A `timm.task.TrainingTask` whose loss is that of a defense: `task(input, target)["loss"]`.

    The defense changes the model at once, so that an optimizer is made of `task.get_trainable_module()`. Give it that by `attach` where
    the defense takes part in steps; `optimizer.step()` then does, also with accumulated gradients, in several processes and through timm's
    scaler. What it keeps from step to step is in the task's checkpoints. After training `exported()` is the model to keep.

    mean, std: by which the loader normalises images, neither for pixels in [0, 1]. criterion: (logits, targets) → () loss, such as timm's,
    in place of the cross-entropy of a defense that has no loss of its own; it takes the soft targets of mixup. clip: the l2 norm to which
    the loop clips gradients (`--clip-grad`), for those that are computed again. steps, epochs: of training in all, needed by what changes
    over training, such as warmup. seed: with the places of images in a step it keys all random numbers.
    """

    def __init__(
        self, model: nn.Module, defense: Defense, criterion: Criterion | None = None, *, mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None, clip: float | None = None, seed: int = 0, steps: int | None = None, epochs: int = 1,
        device: torch.device | None = None, dtype: torch.dtype | None = None, verbose: bool = True,
    ) -> None:  # fmt: skip
        check_seed(seed)
        whole = with_criterion(defense, criterion)
        super().__init__(whole.prepare(model), criterion or nn.CrossEntropyLoss(), device=device, dtype=dtype, verbose=verbose)
        read = normalised_model(self.trainable_module, mean, std)
        read.register_forward_hook(self._watch)
        scale = None if clip is None else lambda: nn.utils.clip_grad_norm_(read.parameters(), clip)
        self.steps = DefendedSteps(whole, read, seed=seed, length=length_of(steps, epochs), clip=scale)
        self._output: Tensor | None = None

    def attach(self, optimizer: Optimizer) -> None:
        """Lets the defense take part in the steps of the optimizer."""
        self.steps.attach(optimizer)

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """`loss`: of the images and their labels (N,) or soft labels (N, K); `output`: the last logits that it was computed of.

        Without gradients loss and output are those of the images as they are.
        """
        if not torch.is_grad_enabled():
            plain: dict[str, Tensor] = super().forward(input, target)
            return plain
        self.steps.wrapper = self.trainable_module if isinstance(self.trainable_module, DistributedDataParallel) else None
        self._output = None
        found = {"loss": self.steps.loss(input, target)}
        return found if self._output is None else {**found, "output": self._output}

    def compile(self, *given: Any, **options: Any) -> nn.Module:
        """Compiles the model, for crafting too."""
        made: nn.Module = super().compile(*given, **options)
        self.steps.model.model = made
        return made

    def exported(self) -> nn.Module:
        """The model to keep, after training."""
        return self.steps.defense.export(self.steps.bare)

    def get_task_state(self, module: nn.Module | None = None, ema: bool = False) -> dict[str, Any]:
        """The step, and what the defense keeps from step to step."""
        return {} if ema else {"defense": self.steps.state()}

    def load_task_state(
        self, state: dict[str, Any] | None, strict: bool = True, module: nn.Module | None = None, ema: bool = False
    ) -> None:  # fmt: skip
        """Goes on from there."""
        if state and not ema:
            self.steps.restore(state["defense"])

    def _watch(self, read: nn.Module, given: Any, output: Tensor) -> None:
        if any(one.requires_grad for one in read.parameters()):  # while images are crafted none does
            self._output = output.detach()
