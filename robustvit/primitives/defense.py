"""The parts of a Defense, and the composition of several defenses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws

Prepare: TypeAlias = Callable[[nn.Module], nn.Module]
Change: TypeAlias = Callable[[Batch, Draws], Batch]
Loss: TypeAlias = Callable[[nn.Module, Batch, Draws], Tensor]
Closure: TypeAlias = Callable[[], Tensor]
Step: TypeAlias = Callable[[Closure, Optimizer], Tensor]
AfterStep: TypeAlias = Callable[[nn.Module], None]


def cross_entropy(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
    """The mean cross-entropy of the batch, () float32: the default loss of a defense."""
    return functional.cross_entropy(model(batch.images), batch.labels)


def same_model(model: nn.Module) -> nn.Module:
    """Returns the model unchanged."""
    return model


def same_batch(batch: Batch, draws: Draws) -> Batch:
    """Returns the batch unchanged."""
    return batch


def one_step(closure: Closure, optimizer: Optimizer) -> Tensor:
    """One gradient and one optimizer step; returns the loss."""
    loss = closure()
    optimizer.step()
    return loss


def nothing_more(model: nn.Module) -> None:
    """Does nothing after a step."""


@dataclass(frozen=True)
class Defense:
    """The parts that a training loop calls, each with a plain default: TRADES is `Defense("trades", loss=…)`, SAM `Defense("sam", step=…)`.

    prepare: model surgery before training. batch: changes the images of a batch. loss: (model, batch, draws) → () Tensor, where the model
    takes pixels in [0, 1]. step: (closure, optimizer) → loss; each call of the closure clears the gradients, computes the loss and its
    gradients. after_step: after every step. export: returns the model to keep. prepare, after_step and export receive the bare module,
    without normalisation.
    """

    name: str
    prepare: Prepare = same_model
    batch: Change = same_batch
    loss: Loss = cross_entropy
    step: Step = one_step
    after_step: AfterStep = nothing_more
    export: Prepare = same_model

    def sets(self, part: str) -> bool:
        """Whether this defense sets its own `part`."""
        return getattr(self, part) is not _DEFAULTS[part]


_DEFAULTS: dict[str, Any] = {part.name: part.default for part in fields(Defense) if part.name != "name"}
_ONLY_ONE = ("loss", "step")


def compose(defenses: Sequence[Defense]) -> Defense:
    """Combines defenses into one that applies all of them in the order given; models are exported in the reverse order.

    Raises BadParameter where two set a part that only one may set: the loss or the step.
    """
    if not defenses:
        raise BadParameter("there is no defense to train with; name at least one, such as plain.")
    whole = defenses[0]
    for defense in defenses[1:]:
        whole = _both(whole, defense)
    return whole


def _both(first: Defense, second: Defense) -> Defense:
    name = f"{first.name}+{second.name}"
    for part in _ONLY_ONE:
        if first.sets(part) and second.sets(part):
            raise BadParameter(f"the defenses '{first.name}' and '{second.name}' both set the {part}; training takes only one.")
    return replace(
        first,
        name=name,
        prepare=_chain(first.prepare, second.prepare),
        batch=lambda batch, draws: second.batch(first.batch(batch, draws.at(first.name)), draws.at(second.name)),
        loss=second.loss if second.sets("loss") else first.loss,
        step=second.step if second.sets("step") else first.step,
        after_step=functools.partial(_each, (first.after_step, second.after_step)),
        export=_chain(second.export, first.export),
    )


def _chain(first: Prepare, second: Prepare) -> Prepare:
    return lambda model: second(first(model))


def _each(calls: Sequence[AfterStep], model: nn.Module) -> None:
    for call in calls:
        call(model)
