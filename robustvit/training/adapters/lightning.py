"""Defenses and robust numbers in PyTorch Lightning, as callbacks of its Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from robustvit.errors import BadParameter, MissingExtra
from robustvit.primitives.defense import Defense
from robustvit.spec.coercion import check_seed
from robustvit.spec.view import View
from robustvit.training.adapters.criterion import Criterion, with_criterion
from robustvit.training.adapters.length import Length
from robustvit.training.adapters.loader_batches import unpacked
from robustvit.training.adapters.monitoring import as_classifier, scores
from robustvit.training.adapters.normalised import normalised_model
from robustvit.training.adapters.steps import DefendedSteps
from robustvit.training.monitor import Monitor

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingExtra("callbacks of Lightning need lightning: python3 -m pip install 'robustvit[lightning]'.") from error


class LightningDefense(Callback):  # type: ignore[misc]
    """Trains a LightningModule with a defense: `Trainer(callbacks=[LightningDefense(defense, mean=mean, std=std)])`.

    The loss of every training step is that of the defense, in place of the module's own `training_step`, and is logged as `train_loss`. The
    defense changes the network before the optimizer is made, takes part in the optimizer's steps, also with accumulated gradients and in
    several processes, and makes the network to keep when fitting ends. What it keeps from step to step is in Lightning's checkpoints.

    Batches: (images, labels), (images, labels, ids), or mappings of `images` or `pixel_values`, `labels` and perhaps `ids`. network: the
    attribute of the module that holds what gives logits, "" for the module itself. mean, std: by which the images are normalised, neither
    for pixels in [0, 1]. criterion: in place of the cross-entropy of a defense that has no loss of its own. seed: with ids, or else the
    places of images in a step, it keys all random numbers.

    Raises BadParameter for a module that optimises by hand or with several optimizers.
    """

    def __init__(
        self, defense: Defense, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
        criterion: Criterion | None = None, network: str = "model", seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        check_seed(seed)
        self.defense, self.mean, self.std, self.network, self.seed = with_criterion(defense, criterion), mean, std, network, seed
        self.steps: DefendedSteps | None = None
        self._restored: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepares the network, and takes the place of the module's training step."""
        if stage != "fit":
            return
        if not pl_module.automatic_optimization:
            raise BadParameter(f"{type(pl_module).__name__} optimises by hand; a defense needs automatic_optimization, or rv.DefenseLoss.")
        network = network_of(pl_module, self.network)
        if self.defense.sets("prepare"):
            network = self._replace(pl_module, self.defense.prepare(network))

        def training_step(batch: Any, batch_idx: int) -> Tensor:
            return self._loss(trainer, pl_module, batch)

        pl_module.training_step = training_step  # type: ignore[method-assign]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes part in the steps of the optimizer."""
        if len(trainer.optimizers) != 1:
            raise BadParameter(f"{type(pl_module).__name__} has {len(trainer.optimizers)} optimizers; a defense takes part in one.")
        around = trainer.strategy.model
        self.steps = DefendedSteps(
            self.defense, normalised_model(network_of(pl_module, self.network), self.mean, self.std), seed=self.seed,
            length=_length(trainer), wrapper=around if isinstance(around, DistributedDataParallel) else None,
            clip=lambda: _clip(trainer, pl_module),
        )  # fmt: skip
        self.steps.attach(trainer.optimizers[0])
        if self._restored is not None:
            self.steps.restore(self._restored)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the network to keep."""
        if self.defense.sets("export"):
            self._replace(pl_module, self.defense.export(network_of(pl_module, self.network)))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the module its own training step back."""
        if stage == "fit":
            vars(pl_module).pop("training_step", None)

    def state_dict(self) -> dict[str, Any]:
        """The step, and what the defense keeps from step to step."""
        return {} if self.steps is None else self.steps.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there when training starts."""
        self._restored = state_dict or None

    def _loss(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> Tensor:
        if self.steps is None:
            raise BadParameter("the defense takes a training step before training has started.")
        images, targets, ids = unpacked(batch)
        loss = self.steps.loss(images, targets, ids, wrapped=True)
        pl_module.log("train_loss", loss.detach(), prog_bar=True, batch_size=len(images))
        return loss

    def _replace(self, pl_module: LightningModule, network: nn.Module) -> nn.Module:
        if self.network:
            setattr(pl_module, self.network, network)
        elif network is not pl_module:
            raise BadParameter(f"the defense '{self.defense.name}' makes another network; name the attribute that holds it: network='…'.")
        return network


class LightningMonitor(Callback):  # type: ignore[misc]
    """Robust numbers in Lightning's logs: runs a Monitor's suite on the network after epochs of training.

    It logs `robust_score` and `robust_clean`, so that `ModelCheckpoint(monitor="robust_score", mode="max", save_on_train_epoch_end=True)`
    keeps the epoch where the score is best. view: how the suite's images are brought to the network's size. mean, std, network: as of
    LightningDefense. The first process runs the suite, and the others wait.
    """

    def __init__(
        self, monitor: Monitor, *, view: View, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
        network: str = "model",
    ) -> None:  # fmt: skip
        super().__init__()
        self.monitor, self.view, self.mean, self.std, self.network = monitor, view, mean, std, network

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs the suite where that is due."""
        epoch = trainer.current_epoch + 1
        if not self.monitor.due(epoch, trainer.max_epochs or 0):
            return
        found: dict[str, float] | None = None
        if trainer.is_global_zero:
            model = as_classifier(network_of(pl_module, self.network), self.view, self.mean, self.std)
            found = scores(self.monitor.measure(model, epoch))
        found = trainer.strategy.broadcast(found)
        pl_module.log_dict(found or {})


def network_of(module: LightningModule, attribute: str) -> nn.Module:
    """The network in a LightningModule. Raises BadParameter where there is none of that name."""
    found = getattr(module, attribute, None) if attribute else module
    if not isinstance(found, nn.Module):
        held = ", ".join(name for name, _ in module.named_children()) or "none"
        raise BadParameter(f"{type(module).__name__} has no module '{attribute}'; name the attribute of its network (it has {held}).")
    return found


def _length(trainer: Trainer) -> Length | None:
    """The length of training; None where it has no end."""
    steps, epochs = trainer.estimated_stepping_batches, trainer.max_epochs
    if steps == float("inf") or steps < 1:
        return None
    return Length(int(steps), epochs if epochs is not None and epochs > 0 else 1)


def _clip(trainer: Trainer, module: LightningModule) -> None:
    """Clips gradients as the Trainer does."""
    module.configure_gradient_clipping(
        trainer.optimizers[0], gradient_clip_val=trainer.gradient_clip_val, gradient_clip_algorithm=trainer.gradient_clip_algorithm
    )
