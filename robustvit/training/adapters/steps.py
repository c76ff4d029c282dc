"""A defense in the loop of another: the loss of every part of a step, and the optimizer's step, which may recompute them.

A loop calls backward on what `loss` returns, scaled as it likes, once or for several parts of a step, and then `optimizer.step()`. The
gradients are there by then, so that the first call of the closure that a Defense's `step` is given finds them as they are: accumulated,
averaged over processes, clipped. Every later call, and a first one where the weights were moved or the defense keeps a state, computes the
same parts again, from the same images, each times the factor that the loop's own backward arrived with.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.defense import Closure, Defense
from robustvit.primitives.draws import Draws
from robustvit.training.adapters.batches import names_of, training_batch
from robustvit.training.adapters.length import Length, UnplacedStep
from robustvit.training.adapters.normalised import NormalisedModel, check_trainable
from robustvit.training.adapters.wrapped import through


@dataclass(slots=True)
class _Part:
    """A part of a step. factor: what backward multiplied its loss by; None before backward."""

    batch: Batch
    draws: Draws
    autocast: torch.dtype | None
    factor: Tensor | None = None
    value: float = math.nan


class DefendedSteps:
    """The steps of a training run of another's loop, with a defense.

    step: of the next one, counted from 0: by the steps of the optimizer where one is attached, else by the losses. model: see
    `normalised_model`. wrapper: the DistributedDataParallel around the module of `model`, where there is one, through which losses are
    computed. length: None where it is not known. clip: is called after gradients are computed again, and scales them as the loop does.
    """

    def __init__(
        self, defense: Defense, model: NormalisedModel, *, seed: int = 0, length: Length | None = None,
        wrapper: DistributedDataParallel | None = None, clip: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        check_trainable(model)
        self.defense, self.model, self.seed, self.length, self.wrapper, self.clip = defense, model, seed, length, wrapper, clip
        self.step = 0
        self.optimizer: Optimizer | None = None
        self._parts: list[_Part] = []  # of the step that is under way, where it may be computed again
        self._count = 0  # of its parts
        self._inside = False
        self._last: _Part | None = None  # by which the defense judges an epoch

    def loss(self, images: Tensor, targets: Tensor, ids: Tensor | Sequence[Any] | None = None, *, wrapped: bool = False) -> Tensor:
        """The loss of images, as the loop's model takes them, and their targets, with a graph.

        ids: of the samples, which key all random numbers; without them rows are told apart by their place in the step. wrapped: the call
        is already made within `wrapper`. Raises PixelRange, BadParameter or ModelError for what a defense does not take, ModelError for a
        loss that is not finite.
        """
        pixels = self.model.pixels(images)
        autocast = _autocast_dtype(pixels.device)
        self._check(autocast)
        rows = len(targets) if isinstance(targets, Tensor) else 0
        names = _places(self._count, rows) if ids is None else names_of(ids, rows)
        batch = training_batch(pixels, targets, names).at(self.position())
        draws = Draws.for_step(self.seed, self.step, names, pixels.device)
        batch = self.defense.batch(batch, draws.at("batch"))
        part = _Part(self.defense.craft_for(self.model, batch, draws), draws, autocast)
        loss = self._objective(part, None if wrapped else self.wrapper)
        part.value = _finite(loss, self.step, self.defense.name)
        self._remember(part, loss)
        return loss

    def attach(self, optimizer: Optimizer) -> None:
        """Makes `optimizer.step()` the step of the defense, whatever calls it. It counts the steps from then on."""
        take = optimizer.step
        self.optimizer = optimizer

        def step(_: Optimizer, closure: Callable[[], Any] | None = None, **more: Any) -> Any:
            return take(closure, **more) if self._inside else self._take(take, closure, more)

        functools.update_wrapper(step, take)
        optimizer.step = types.MethodType(step, optimizer)  # type: ignore[method-assign]

    @property
    def bare(self) -> nn.Module:
        """The module that is trained, without normalisation, DistributedDataParallel and compilation, as after_step is given it."""
        module: nn.Module = getattr(self.model.model, "_orig_mod", self.model.model)
        return module

    def position(self) -> TrainingStep:
        """Where training is."""
        if self.length is None:
            return UnplacedStep(self.step)
        return TrainingStep(min(self.step, self.length.steps), self.length.steps, self.length.epochs)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep: the step, and what the defense keeps from step to step."""
        return {"step": self.step, "defenses": {name: dict(kept) for name, kept in self.defense.states.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state. Raises BadParameter for that of another defense."""
        if set(state["defenses"]) != set(self.defense.states):
            raise BadParameter(f"the checkpoint is of training with {'+'.join(state['defenses'])}, and this is with {self.defense.name}.")
        device = next(self.model.parameters()).device
        for name, kept in self.defense.states.items():
            kept.clear()
            kept.update({key: tensor.to(device) for key, tensor in state["defenses"][name].items()})
        self.step = state["step"]

    def _objective(self, part: _Part, wrapper: DistributedDataParallel | None) -> Tensor:
        return through(wrapper, lambda: self.defense.objective(self.model, part.batch, part.draws))

    def _remember(self, part: _Part, loss: Tensor) -> None:
        if self.optimizer is None:
            self.step += 1
            return
        self._count += 1
        self._last = part if self.defense.sets("check") else None
        if not self.defense.sets("step"):
            return

        def arrived(gradient: Tensor) -> None:
            part.factor = gradient.detach().clone()

        if loss.requires_grad:
            loss.register_hook(arrived)  # type: ignore[no-untyped-call]
        self._parts.append(part)

    def _take(self, take: Callable[..., Any], closure: Callable[[], Any] | None, more: dict[str, Any]) -> Any:
        """The step of the optimizer, as the defense takes it; what `optimizer.step(closure)` returns."""
        if not self.defense.sets("step"):
            found = take(**more) if closure is None else take(closure, **more)
        else:
            found = None if closure is None else _with_gradients(closure)
            self._inside = True
            try:
                self.defense.step(self._closure(), self.optimizer)  # type: ignore[arg-type]
            finally:
                self._inside = False
        self.defense.after_step(self.bare)
        self._parts.clear()
        self._count = 0
        self.step += 1
        self._end_epoch()
        return found

    def _end_epoch(self) -> None:
        """Raises ModelError where the defense objects to going on after the epoch that ends with this step."""
        if self._last is None or self.length is None or self.step % max(1, self.length.steps // self.length.epochs):
            return
        if found := self.defense.objection(self.model, self._last.batch, self._last.draws):
            raise ModelError(f"training ends after step {self.step}, with {self.defense.name}: {found}")

    def _closure(self) -> Closure:
        parts = [part for part in self._parts if part.factor is not None]
        if not parts:
            raise BadParameter(f"the optimizer steps before any backward of a loss of the defense '{self.defense.name}'.")
        total = torch.tensor(sum(part.value * float(part.factor) for part in parts if part.factor is not None))
        kept = any(self.defense.states.values())  # by which a loss may prepare for the step, in each call anew
        there: list[int] | None = None if kept else self._versions()  # of the weights, at which gradients are there already

        def closure() -> Tensor:
            nonlocal there
            if there is None or there != self._versions():
                self._again(parts)
            there = None
            return total

        return closure

    def _versions(self) -> list[int]:
        """How often each weight was changed in place."""
        return [one._version for one in self.model.parameters()]

    @torch.enable_grad()
    def _again(self, parts: Sequence[_Part]) -> None:
        """Computes the gradients of a step once more."""
        self.optimizer.zero_grad()  # type: ignore[union-attr]
        for part in parts:
            with torch.autocast(part.batch.images.device.type, part.autocast, enabled=part.autocast is not None):
                loss = self._objective(part, self.wrapper)
            loss.backward(part.factor.to(loss))  # type: ignore[no-untyped-call, union-attr]
        if self.clip is not None:
            self.clip()

    def _check(self, autocast: torch.dtype | None) -> None:
        if self.length is None and self.defense.sets("check"):
            raise BadParameter(
                f"the defense '{self.defense.name}' is checked at the end of every epoch, and how long one is is not known; give steps and "
                "epochs, or take it with check=false."
            )
        for part in ("step", "after_step", "check"):
            if self.optimizer is None and self.defense.sets(part):
                raise BadParameter(f"the defense '{self.defense.name}' takes part in the optimizer's step; give it: `optimizer=…`.")
        if autocast == torch.float16 and self.defense.sets("step"):
            raise BadParameter(
                f"the defense '{self.defense.name}' computes gradients again, which float16 would need to scale; use bfloat16 or float32."
            )


def _places(part: int, rows: int) -> tuple[str, ...]:
    """Names for the rows of a part of a step of this process."""
    rank = distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
    return tuple(f"{rank}/{part}/{row}" for row in range(rows))


def _autocast_dtype(device: torch.device) -> torch.dtype | None:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


@torch.enable_grad()
def _with_gradients(closure: Callable[[], Any]) -> Any:
    return closure()


def _finite(loss: Tensor, step: int, defense: str) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ModelError(f"the loss is {value} at step {step}, with {defense}: training cannot go on. Try a lower lr or a smaller eps.")
    return value
