"""Trains a model with a defense.

The loop sets the order of the samples, the augmentation and the schedule; a defense adds to it through the parts of a Defense. All
randomness is keyed by (seed, step, sample id) or drawn under a forked generator: the same call on the same machine and number of
threads gives the same bytes.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import ModelError
from robustvit.primitives.batch import Batch, Data, Progress
from robustvit.primitives.defense import Closure, Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels
from robustvit.primitives.reading import Reading
from robustvit.spec.view import View
from robustvit.training.recipe import RECIPE, Recipe
from robustvit.training.state import TrainingState, current, restore

_BETAS = (0.9, 0.95)
_LARGEST_GRADIENT_NORM = 1.0  # l2; a larger gradient is scaled down to it

CROSS_ENTROPY = Defense("cross_entropy")

Device: TypeAlias = torch.device | str


class EpochProgress(NamedTuple):
    """The state of training after an epoch. loss: the epoch's mean. model: the one that would be kept if training ended now."""

    epoch: int
    epochs: int
    loss: float
    seconds: float
    model: nn.Module


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
    start: TrainingState | None = None,
    keep: Callable[[TrainingState], None] | None = None,
    keep_every: float = 300.0,
) -> Trained:
    """Trains a module, in place unless the defense's `prepare` makes a new one.

    model: from normalised (N, 3, H, W) to (N, K) logits. view, mean, std: preprocessing of the images, as in a Classifier. progress: is
    called after every epoch. keep: is given the state after every epoch, and after `keep_every` seconds at the next step; from it, as
    `start`, the same call goes on to the same bytes. Raises ModelError where the model's outputs do not match the data's classes, or the
    loss is no longer finite.
    """
    started = time.monotonic()
    device = torch.device(device)
    with torch.random.fork_rng(devices=fork_devices(device)):
        torch.manual_seed(seed)  # for the randomness of the model itself, such as dropout
        run = _Run(defense.prepare(model.to(device).requires_grad_(True)).to(device), data, view, mean, std, defense, recipe, seed, device)
        if start is not None:
            run.restore(start)
        last = time.monotonic()
        while run.step < run.steps:
            run.take_step()
            whole = run.step % run.steps_of_epoch == 0
            if whole and progress is not None:
                seconds = time.monotonic() - started
                progress(EpochProgress(len(run.losses), recipe.epochs, run.losses[-1], seconds, defense.export(run.model)))
            if keep is not None and (whole or time.monotonic() - last >= keep_every):
                keep(run.state())
                last = time.monotonic()
    trained = defense.export(run.model).eval().requires_grad_(False)
    return Trained(trained, tuple(run.losses), time.monotonic() - started)


class _Run:
    """A training run between two steps. step: of the next one, of `steps`; losses: the mean of every whole epoch."""

    def __init__(
        self, model: nn.Module, data: Data, view: View, mean: tuple[float, ...], std: tuple[float, ...],
        defense: Defense, recipe: Recipe, seed: int, device: torch.device,
    ) -> None:  # fmt: skip
        self.model, self.data, self.view, self.defense, self.recipe = model, data, view, defense, recipe
        self.seed, self.device = seed, device
        self.read = _ReadModel(model, mean, std, data.readings[0]).to(device)
        _check_outputs(self.read, view, data, device)
        self.read.train()
        self.optimizer = torch.optim.AdamW(_groups(model, recipe.weight_decay), betas=_BETAS)
        self.steps_of_epoch = max(1, len(data) // recipe.batch_size)
        self.steps = recipe.epochs * self.steps_of_epoch
        self.step, self.total, self.losses = 0, 0.0, list[float]()
        self._rows: Iterator[np.ndarray] = iter(())

    def take_step(self) -> None:
        """Takes the next step; after the last one of an epoch `losses` has one more."""
        epoch, within = divmod(self.step, self.steps_of_epoch)
        if within == 0:
            self._rows = _rows(self.data, self.recipe, self.seed, epoch)
        _set_rate(self.optimizer, self.recipe, self.step / self.steps)
        batch = load_batch(self.data, next(self._rows), self.view, self.device).at(Progress(self.step, self.steps, self.recipe.epochs))
        draws = Draws.for_step(self.seed, self.step, batch.ids, self.device)
        batch = self.defense.batch(jitter(batch, draws.at("jitter"), self.recipe), draws.at("batch"))
        batch = self.defense.craft_for(self.read, batch, draws)
        loss = self.defense.step(_closure(self.defense, self.read, batch, draws, self.optimizer), self.optimizer)
        self.defense.after_step(self.model)
        self.total += _finite(loss, self.step, epoch, self.defense.name)
        self.step += 1
        if within + 1 == self.steps_of_epoch:
            self.losses.append(self.total / self.steps_of_epoch)
            self.total = 0.0

    def state(self) -> TrainingState:
        """The state now; its tensors change with the next step."""
        return current(self.step, self.losses, self.total, self.model, self.optimizer, self.defense, self.device)

    def restore(self, state: TrainingState) -> None:
        """Goes on from a state."""
        restore(state, self.model, self.optimizer, self.defense, self.device)
        self.step, self.total, self.losses = state.step, state.total, list(state.losses)
        epoch, within = divmod(self.step, self.steps_of_epoch)
        self._rows = itertools.islice(_rows(self.data, self.recipe, self.seed, epoch), within, None)


def jitter(batch: Batch, draws: Draws, recipe: Recipe) -> Batch:
    """Rotates, resizes and shifts each image at random, uniformly within the recipe's limits; new pixels repeat the border."""
    if recipe.rotation == recipe.scale == recipe.shift == 0:
        return batch
    turn, size, right, down = draws.uniform(4, low=-1.0, high=1.0).unbind(dim=1)
    angle = turn * math.radians(recipe.rotation)
    along, across = (1 + recipe.scale * size) * angle.cos(), (1 + recipe.scale * size) * angle.sin()
    top = torch.stack((along, -across, 2 * recipe.shift * right), dim=1)  # 2: grid coordinates run from -1 to 1
    bottom = torch.stack((across, along, 2 * recipe.shift * down), dim=1)
    grid = functional.affine_grid(torch.stack((top, bottom), dim=1), list(batch.images.shape), align_corners=False)
    moved = functional.grid_sample(batch.images, grid, padding_mode="border", align_corners=False)
    return batch.with_images(moved.clamp_(0.0, 1.0))  # the four weights of a pixel may sum to a rounding above one


class _ReadModel(nn.Module):
    """The model that a loss receives: from pixels in [0, 1] to the logits of the data's labels."""

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], reading: Reading) -> None:
        super().__init__()
        self.model = model
        self.reading = reading
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.reading.read(self.model((images - self.mean) / self.std))  # type: ignore[operator]


def _check_outputs(trained: _ReadModel, view: View, data: Data, device: Device) -> None:
    with torch.no_grad():
        logits = trained.model.eval()(torch.zeros(1, 3, *view.size, device=device))
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise ModelError("the model to train must return logits of shape (N, K).")
    trained.reading.check(logits.shape[1], "to train", data.name)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.dim() > 1]
    others = [parameter for parameter in trainable if parameter.dim() <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _rows(data: Data, recipe: Recipe, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """The positions of each batch of an epoch. Samples that do not fill a last batch are left out of this epoch."""
    order = Draws(seed, f"epoch {epoch}", data.ids).words(1)[:, 0].argsort(stable=True).numpy()
    for start in range(0, max(1, len(order) - recipe.batch_size + 1), recipe.batch_size):
        yield order[start : start + recipe.batch_size]


def _set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, done: float) -> None:
    rising = done < recipe.warmup
    share = done / recipe.warmup if rising else 0.5 * (1 + math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup)))
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr * share


def load_batch(data: Data, rows: np.ndarray, view: View, device: Device) -> Batch:
    """Loads the samples at some positions as a batch, preprocessed by the view."""
    samples = [data[int(row)] for row in rows]
    images = np.stack([np.asarray(view.apply(Image.fromarray(sample.image), sample.id)) for sample in samples])
    labels = torch.tensor([sample.label for sample in samples], device=device)
    return Batch(pixels(images, device), labels, tuple(sample.id for sample in samples))


def _closure(defense: Defense, model: nn.Module, batch: Batch, draws: Draws, optimizer: torch.optim.Optimizer) -> Closure:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = defense.objective(model, batch, draws)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT_NORM)
        return loss.detach()

    return closure


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
