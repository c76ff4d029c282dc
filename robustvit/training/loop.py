"""Trains a model with a defense.

The loop sets the order of the samples, the augmentation and the schedule; a defense adds to it through the parts of a Defense. All
randomness is keyed by (seed, step, sample id) or drawn under a forked generator: the same call on the same machine and number of
threads gives the same bytes.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from robustvit.errors import ModelError
from robustvit.primitives.batch import Batch, Data, TrainingStep, traits
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import fingerprint
from robustvit.primitives.training.freezing import still_frozen
from robustvit.primitives.training.on_pixels import OnPixels
from robustvit.spec.view import View
from robustvit.training.augmentation import jitter
from robustvit.training.epochs import batches_of_epoch, load_batch
from robustvit.training.loss_scale import LossScale
from robustvit.training.optimization import autocast, closure_of, optimizer_of, set_rate
from robustvit.training.processes import Processes, same_everywhere, started
from robustvit.training.recipe import RECIPE, Recipe
from robustvit.training.state import TrainingState, generator_states, set_generators

CROSS_ENTROPY = Defense("cross_entropy")

Device: TypeAlias = torch.device | str


class EpochProgress(NamedTuple):
    """The state of training after an epoch. loss: the epoch's mean. model: the one that would be kept if training ended now."""

    epoch: int
    epochs: int
    loss: float
    seconds: float
    model: nn.Module
    steps: int


class StepProgress(NamedTuple):
    """The state of training after a step. step: how many are done, of `steps`; epoch: the share of the training split seen, such as 1.5."""

    step: int
    steps: int
    epoch: float
    loss: float
    lr: float
    seconds: float


class Trained(NamedTuple):
    """The result of training: the model to keep, the mean loss of every epoch, and the seconds it took."""

    model: nn.Module
    losses: tuple[float, ...]
    seconds: float


def train(
    model: nn.Module,
    data: Data,
    *,
    view: View,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    defense: Defense = CROSS_ENTROPY,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    device: Device = "cpu",
    progress: Callable[[EpochProgress], None] | None = None,
    each: Callable[[StepProgress], None] | None = None,
    start: TrainingState | None = None,
    keep: Callable[[TrainingState], None] | None = None,
    keep_every: float = 300.0,
) -> Trained:
    """Trains a module, in place unless the defense's `prepare` makes a new one.

    Trained is every parameter that asks for a gradient after `prepare`, before which all do: what a defense freezes there is in no
    optimizer, and stays to the bit, as do running statistics of batch normalisation whose parameters are all frozen.

    model: from normalised (N, 3, H, W) to (N, K) logits. view, mean, std: preprocessing of the images, as in a Classifier. progress, each:
    are called after every epoch and every step. keep: is given the state after every epoch, and after `keep_every` seconds at the next
    step; from it, as `start`, the same call goes on to the same bytes. Under torchrun every process takes its share of each batch, and the
    first one reports and keeps. Raises ModelError where the model's outputs do not match the data's classes, or the loss is no longer
    finite.
    """
    began = time.monotonic()
    device = torch.device(device)
    processes = started(device)
    processes.check(recipe.batch_size)
    with torch.random.fork_rng(devices=fork_devices(device)):
        torch.manual_seed(seed)  # for the layers that a defense adds
        made = defense.prepare(model.to(device).requires_grad_(True)).to(device)
        if not any(one.requires_grad for one in made.parameters()):
            raise ModelError(f"the {type(model).__name__} has no parameter: there is nothing to train.")
        if processes.number > 1:
            same_everywhere(processes, [fingerprint(made), data.fingerprint], "weights or data")
        torch.manual_seed(seed + processes.rank)  # for the randomness of the model itself, such as dropout
        run = _Run(made, data, view, mean, std, defense, recipe, seed, device, processes)
        if start is not None:
            run.restore(start)
        last = time.monotonic()
        while run.step < run.steps:
            loss = run.take_step()
            if each is not None and processes.first:
                each(run.progress(loss, time.monotonic() - began))
            whole = run.step % run.steps_of_epoch == 0
            if whole and progress is not None and processes.first:
                progress(EpochProgress(len(run.losses), recipe.epochs, run.losses[-1], time.monotonic() - began, run.kept(), run.step))
            if keep is not None and processes.agree(whole or time.monotonic() - last >= keep_every):
                state = run.state()
                if processes.first:
                    keep(state)
                last = time.monotonic()
    return Trained(run.kept().eval().requires_grad_(False), tuple(run.losses), time.monotonic() - began)


class _Run:
    """A training run between two steps. step: of the next one, of `steps`; losses: the mean of every whole epoch."""

    def __init__(
        self, model: nn.Module, data: Data, view: View, mean: tuple[float, ...], std: tuple[float, ...],
        defense: Defense, recipe: Recipe, seed: int, device: torch.device, processes: Processes,
    ) -> None:  # fmt: skip
        self.model, self.data, self.view, self.defense, self.recipe = model, data, view, defense, recipe
        self.seed, self.device, self.processes = seed, device, processes
        self.read = OnPixels(model, mean, std, data.readings[0]).to(device)
        _check_outputs(self.read, view, data, device)
        self.read.train()
        still_frozen(self.read)
        self.optimizer = optimizer_of(model, recipe)
        ema = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(model, multi_avg_fn=ema, use_buffers=True) if recipe.ema else None
        self.steps_of_epoch = max(1, len(data) // recipe.batch_size)
        self.steps = recipe.epochs * self.steps_of_epoch
        self.scaling = LossScale.of(recipe.precision)
        self.step, self.total, self.losses = 0, 0.0, list[float]()
        self._rows: Iterator[np.ndarray] = iter(())

    def take_step(self) -> float:
        """Takes the next step and returns its loss; after the last one of an epoch `losses` has one more."""
        epoch, within = divmod(self.step, self.steps_of_epoch)
        if within == 0:
            self._rows = batches_of_epoch(self.data, self.recipe, self.seed, epoch)
        set_rate(self.optimizer, self.recipe, self.step / self.steps)
        rows = next(self._rows)
        batch = load_batch(self.data, self.processes.own(rows), self.view, self.device)
        batch = batch.at(TrainingStep(self.step, self.steps, self.recipe.epochs))
        draws = Draws.for_step(self.seed, self.step, batch.ids, self.device)
        batch = self.defense.batch(jitter(batch, draws.at("jitter"), self.recipe), draws.at("batch"))
        with autocast(self.recipe, self.device):
            batch = self.defense.craft_for(self.read, batch, draws)
        closure = closure_of(self.defense, self.read, batch, draws, self.optimizer, self.recipe, len(rows), self.processes, self.scaling)
        loss = self.defense.step(closure, self.optimizer)
        self.defense.after_step(self.model)
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        value = _finite(loss, self.step, epoch, self.defense.name)
        self.total += value
        self.step += 1
        if within + 1 == self.steps_of_epoch:
            self._check(batch, draws, epoch)
            self.losses.append(self.total / self.steps_of_epoch)
            self.total = 0.0
        return value

    def _check(self, batch: Batch, draws: Draws, epoch: int) -> None:
        """Raises ModelError where the defense objects to going on after an epoch."""
        objections = self.processes.gather(self.defense.objection(self.read, batch, draws) if self.defense.sets("check") else "")
        if found := next(filter(None, objections), ""):
            raise ModelError(f"training ends after epoch {epoch + 1}, with {self.defense.name}: {found}")

    def progress(self, loss: float, seconds: float) -> StepProgress:
        """The progress after the step before."""
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        return StepProgress(self.step, self.steps, self.step / self.steps_of_epoch, loss, rate, seconds)

    def kept(self) -> nn.Module:
        """The model that would be kept if training ended now."""
        return self.defense.export(self.model if self.averaged is None else copy.deepcopy(self.averaged.module))

    def state(self) -> TrainingState:
        """The state now; its tensors change with the next step."""
        generators = self.processes.gather(generator_states(self.device))
        averaged = None if self.averaged is None else self.averaged.state_dict()
        return TrainingState(
            self.step, tuple(self.losses), self.total, self.model.state_dict(), averaged, self.optimizer.state_dict(), self.defense.states,
            tuple(generators), (self.scaling.factor, self.scaling.steady),
        )  # fmt: skip

    def restore(self, state: TrainingState) -> None:
        """Goes on from a state."""
        self.model.load_state_dict(dict(state.model))
        self.optimizer.load_state_dict(dict(state.optimizer))
        if self.averaged is not None and state.averaged is not None:
            self.averaged.load_state_dict(dict(state.averaged))
        for name, kept in self.defense.states.items():
            kept.clear()
            kept.update({key: tensor.to(self.device) for key, tensor in state.defenses[name].items()})
        self.scaling.factor, self.scaling.steady = state.scaling
        set_generators(state.generators[self.processes.rank], self.device)
        self.step, self.total, self.losses = state.step, state.total, list(state.losses)
        epoch, within = divmod(self.step, self.steps_of_epoch)
        self._rows = itertools.islice(batches_of_epoch(self.data, self.recipe, self.seed, epoch), within, None)


def _check_outputs(trained: OnPixels, view: View, data: Data, device: Device) -> None:
    with torch.no_grad():
        logits = trained.model.eval()(torch.zeros(1, traits(data).channels, *view.size, device=device))
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise ModelError("the model to train must return logits of shape (N, K).")
    data.readings[0].check(logits.shape[1], "to train", data.name)


def _finite(loss: Tensor, step: int, epoch: int, defense: str) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise ModelError(
            f"the loss is {value} at step {step} in epoch {epoch + 1}, with {defense}: training cannot go on. Try a lower lr, a longer "
            "warmup, or a smaller eps."
        )
    return value


def fork_devices(device: Device) -> list[torch.device]:
    """The devices whose random generators a fork must restore beside the CPU's."""
    device = torch.device(device)
    return [device] if device.type == "cuda" else []
