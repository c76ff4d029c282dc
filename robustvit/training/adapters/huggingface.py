"""Defenses and robust numbers in the Trainer of Hugging Face's transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from robustvit.errors import BadParameter, MissingExtra, with_article
from robustvit.primitives.defense import Defense
from robustvit.spec.view import View
from robustvit.training.adapters.criterion import Criterion, with_criterion
from robustvit.training.adapters.length import Length
from robustvit.training.adapters.loader_batches import unpacked
from robustvit.training.adapters.monitoring import as_classifier, scores
from robustvit.training.adapters.normalised import normalised_model
from robustvit.training.adapters.steps import DefendedSteps
from robustvit.training.monitor import Monitor

try:
    from accelerate.utils import broadcast_object_list
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise MissingExtra("Hugging Face's Trainer needs transformers and accelerate: python3 -m pip install 'robustvit[hf]'.") from error

_STATE = "robustvit_defense.pt"
_IDS = ("ids", "id")


class DefenseTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that trains an image classifier with a defense.

        trainer = DefenseTrainer(model, args, defense=defense, train_dataset=data, processing_class=image_processor)

    As the first of two bases, `class Mine(DefenseTrainer, MyTrainer)`, it does so for a Trainer of your own.

    The loss of every training step is that of the defense; evaluation is as without it. The defense changes the model before training,
    takes part in the optimizer's steps, also with accumulated gradients and in several processes, and makes the model to keep when `train`
    ends. What it keeps from step to step is in the Trainer's checkpoints.

    defense: from `rv.load_defense`. mean, std: by which `pixel_values` are normalised; default those of `processing_class`. criterion:
    (logits, targets) → () loss, in place of the cross-entropy of a defense that has no loss of its own. The seed is that of the arguments;
    with `ids` in a batch, or else the places of images in a step, it keys all random numbers. Other arguments are the Trainer's.

    Raises BadParameter where mean and std are not known, and for arguments that a defense's loss would leave without effect.
    """

    def __init__(
        self, model: nn.Module | None = None, args: Any = None, *more: Any, defense: Defense, mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None, criterion: Criterion | None = None, **options: Any,
    ) -> None:  # fmt: skip
        self.defense = with_criterion(defense, criterion)
        if self.defense.sets("prepare"):
            if model is None:
                raise BadParameter(f"the defense '{defense.name}' changes the model before training; give model, in place of model_init.")
            model = self.defense.prepare(model)
        super().__init__(model, args, *more, **options)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over its batch, which the Trainer then divides by the number of them
        self._refuse()
        given = mean is not None or std is not None
        self._normalised_by = (mean, std) if given else _normalisation(getattr(self, "processing_class", None))
        self._steps: DefendedSteps | None = None
        self._restored: dict[str, Any] | None = None
        self.add_callback(_KeepsState(self))

    def create_optimizer(self, *given: Any, **options: Any) -> Optimizer:
        """The Trainer's optimizer, in whose steps the defense takes part."""
        known = self._steps.optimizer if self._steps is not None else None
        optimizer: Optimizer = super().create_optimizer(*given, **options)
        if optimizer is not known:
            self._steps = DefendedSteps(
                self.defense, normalised_model(self.model, *self._normalised_by), seed=self.args.seed, clip=self._clip
            )
            self._steps.attach(optimizer)
            if self._restored is not None:
                self._steps.restore(self._restored)
        return optimizer

    def compute_loss(self, model: nn.Module, inputs: Mapping[str, Any], return_outputs: bool = False, **options: Any) -> Any:
        """The loss of the defense where the model is trained, that of the Trainer where it is evaluated."""
        if return_outputs or self._steps is None or not torch.is_grad_enabled():
            return super().compute_loss(model, _without_ids(inputs), return_outputs=return_outputs, **options)
        self._steps.wrapper = model if isinstance(model, DistributedDataParallel) else None
        self._steps.step = self.state.global_step
        self._steps.length = Length(self.state.max_steps, min(self.state.max_steps, max(1, self.state.num_train_epochs)))
        return self._steps.loss(*unpacked(inputs))

    def train(self, *given: Any, **options: Any) -> Any:
        """Trains, and then makes the model to keep, which is afterwards `model`."""
        output = super().train(*given, **options)
        if self.defense.sets("export"):
            trained: nn.Module = self.accelerator.unwrap_model(self.model)  # type: ignore[has-type]
            self.model = self.defense.export(trained)
        return output

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *given: Any, **options: Any) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, *given, **options)
        file = Path(resume_from_checkpoint) / _STATE
        self._restored = torch.load(file, weights_only=True, map_location="cpu") if file.exists() else None

    def _clip(self) -> None:
        if self.args.max_grad_norm is not None and self.args.max_grad_norm > 0:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)

    def _refuse(self) -> None:
        name = self.defense.name
        if self.args.label_smoothing_factor or getattr(self, "compute_loss_func", None) is not None:
            raise BadParameter(
                f"label_smoothing_factor and compute_loss_func take no part in the loss of the defense '{name}'; give criterion=…, such as "
                "nn.CrossEntropyLoss(label_smoothing=0.1)."
            )
        if self.args.fp16 and self.defense.sets("step"):
            raise BadParameter(f"the defense '{name}' computes gradients again, which fp16 would need to scale; use bf16=True.")
        if getattr(self, "is_fsdp_enabled", False) or getattr(self, "is_deepspeed_enabled", False):
            raise BadParameter(f"the defense '{name}' needs whole weights in every process; train without FSDP and DeepSpeed.")


class TrainerMonitor(TrainerCallback):  # type: ignore[misc]
    """Robust numbers in a Trainer's logs: `trainer.add_callback(TrainerMonitor(trainer, monitor, view=view))`.

    After the epochs where that is due it runs a Monitor's suite on the model, and logs `robust_score` and `robust_clean`. Where the Trainer
    evaluates after every epoch they are among its metrics, so that `metric_for_best_model="robust_score"` keeps the epoch where the score
    is best. view: how the suite's images are brought to the model's size. mean, std: default those of the Trainer's processing_class. The
    first process runs the suite, and the others wait.
    """

    def __init__(
        self, trainer: Any, monitor: Monitor, *, view: View, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:  # fmt: skip
        given = mean is not None or std is not None
        self.trainer, self.monitor, self.view = trainer, monitor, view
        self._normalised_by = (mean, std) if given else _normalisation(getattr(trainer, "processing_class", None))
        self._latest: dict[str, float] = {}

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Runs the suite where that is due."""
        epoch = max(1, math.ceil(state.epoch - 1e-6))
        if not self.monitor.due(epoch, math.ceil(state.num_train_epochs)):
            return
        found: list[dict[str, float] | None] = [None]
        if state.is_world_process_zero:
            model = as_classifier(self.trainer.accelerator.unwrap_model(self.trainer.model), self.view, *self._normalised_by)
            found = [scores(self.monitor.measure(model, epoch))]
        broadcast_object_list(found)
        self._latest = found[0] or {}
        self.trainer.log(dict(self._latest))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **more: Any) -> None:
        """Adds the latest numbers to those by which the Trainer chooses the best model."""
        if metrics is not None:
            metrics.update({f"eval_{name}": value for name, value in self._latest.items()})


class _KeepsState(TrainerCallback):  # type: ignore[misc]
    """Writes what a defense keeps from step to step into the Trainer's checkpoints."""

    def __init__(self, trainer: DefenseTrainer) -> None:
        self.trainer = trainer

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        steps = self.trainer._steps
        if args.should_save and steps is not None and any(steps.defense.states.values()) and folder.is_dir():
            torch.save(steps.state(), folder / _STATE)


class _Normalisation(NamedTuple):
    mean: Sequence[float] | None
    std: Sequence[float] | None


def _normalisation(processor: Any) -> _Normalisation:
    """The mean and std of an image processor. Raises BadParameter where it has none."""
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    if processor is not None and getattr(processor, "do_normalize", None) is False:
        return _Normalisation(None, None)
    if mean is None or std is None:
        what = (
            "there is no processing_class"
            if processor is None
            else f"{with_article(type(processor).__name__)} has no image_mean and image_std"
        )
        raise BadParameter(f"{what}: give mean and std, by which pixel_values are normalised, or the image processor as processing_class.")
    return _Normalisation(_per_channel(mean), _per_channel(std))


def _per_channel(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),) * 3


def _without_ids(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name not in _IDS}
