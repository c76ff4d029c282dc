"""Trains a model with a defense.

The loop sets the order of the samples, the augmentation and the schedule; a defense adds to it through the parts of a Defense. All
randomness is keyed by (seed, step, sample id) or drawn under a forked generator: the same call on the same machine and number of
threads gives the same bytes.
"""

from __future__ import annotations

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
) -> Trained:
    """Trains a module, in place unless the defense's `prepare` makes a new one.

    model: from normalised (N, 3, H, W) to (N, K) logits. view, mean, std: preprocessing of the images, as in a Classifier. progress: is
    called after every epoch. Raises ModelError where the model's outputs do not match the data's classes, or the loss is no longer finite.
    """
    started = time.monotonic()
    steps = max(1, len(data) // recipe.batch_size)
    losses: list[float] = []
    with torch.random.fork_rng(devices=fork_devices(device)):
        torch.manual_seed(seed)  # for the randomness of the model itself, such as dropout
        model = defense.prepare(model.to(device).requires_grad_(True)).to(device)
        trained = _ReadModel(model, mean, std, data.readings[0]).to(device)
        _check_outputs(trained, view, data, device)
        trained.train()
        optimizer = torch.optim.AdamW(_groups(model, recipe.weight_decay), betas=_BETAS)
        for epoch in range(recipe.epochs):
            total = 0.0
            for step, rows in enumerate(_rows(data, recipe, seed, epoch), start=epoch * steps):
                _set_rate(optimizer, recipe, step / (recipe.epochs * steps))
                batch = load_batch(data, rows, view, device)
                draws = Draws.for_step(seed, step, batch.ids, device)
                batch = batch.at(Progress(step, recipe.epochs * steps, recipe.epochs))
                batch = defense.batch(jitter(batch, draws.at("jitter"), recipe), draws.at("batch"))
                batch = defense.craft_for(trained, batch, draws)
                loss = defense.step(_closure(defense, trained, batch, draws, optimizer), optimizer)
                defense.after_step(model)
                total += _finite(loss, epoch)
            losses.append(total / steps)
            if progress is not None:
                progress(EpochProgress(epoch + 1, recipe.epochs, losses[-1], time.monotonic() - started, defense.export(model)))
    return Trained(defense.export(model).eval().requires_grad_(False), tuple(losses), time.monotonic() - started)


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


def _finite(loss: Tensor, epoch: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise ModelError(f"the loss is {value} in epoch {epoch + 1}: training cannot go on. Try a lower lr, or a longer warmup.")
    return value


def fork_devices(device: Device) -> list[torch.device]:
    """The devices whose random generators a fork must restore beside the CPU's."""
    device = torch.device(device)
    return [device] if device.type == "cuda" else []
