"""The parts of a Defense, the composition of several, and the loss that any training loop can call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.training.crafting import Mode, crafted_by, untouched
from robustvit.spec.spec import Spec

Prepare: TypeAlias = Callable[[nn.Module], nn.Module]
Change: TypeAlias = Callable[[Batch, Draws], Batch]
Craft: TypeAlias = Callable[[nn.Module, Batch, Draws], Tensor]
Loss: TypeAlias = Callable[[nn.Module, Batch, Draws], Tensor]
Closure: TypeAlias = Callable[[], Tensor]
Step: TypeAlias = Callable[[Closure, Optimizer], Tensor]
AfterStep: TypeAlias = Callable[[nn.Module], None]
Check: TypeAlias = Callable[[nn.Module, Batch, Draws], str]


def cross_entropy(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
    """The mean cross-entropy of what the batch shows and its targets, () float32: the default loss of a defense."""
    return functional.cross_entropy(model(batch.shown), batch.targets)


def same_model(model: nn.Module) -> nn.Module:
    """Returns the model unchanged."""
    return model


def same_batch(batch: Batch, draws: Draws) -> Batch:
    """Returns the batch unchanged."""
    return batch


def own_images(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
    """The images of the batch: no adversarial ones."""
    return batch.images


def no_penalty(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
    """Zero."""
    return batch.images.new_zeros(())


def one_step(closure: Closure, optimizer: Optimizer) -> Tensor:
    """One gradient and one optimizer step; returns the loss."""
    loss = closure()
    optimizer.step()
    return loss


def no_objection(model: nn.Module, batch: Batch, draws: Draws) -> str:
    """Nothing against going on."""
    return ""


def nothing_more(model: nn.Module) -> None:
    """Does nothing after a step."""


@dataclass(frozen=True)
class Defense:
    """The parts that a training loop calls, each with a plain default: TRADES is a craft and a loss, SAM a step, AugMix a batch.

    In the order of a step: batch: changes the images and targets of a batch. craft: (model, batch, draws) → adversarial images, once for a
    step, under the law of `crafted_by`. step: (closure, optimizer) → loss; each call of the closure clears the gradients and computes loss
    and penalty, with their gradients, for the same images. loss: (model, batch, draws) → () Tensor. penalty: as loss, added to whatever
    loss there is. after_step: after every step. check: (model, batch, draws) → why training must not go on, or "", at the end of every
    epoch, before its weights are kept, on its last batch and under the law of `crafted_by`. Before training, prepare: model surgery, after
    which only parameters that ask for a gradient are trained (`requires_grad`; all do before it); after training, export: returns the model
    to keep.

    craft, loss, penalty and check are given a model that takes pixels in [0, 1]; prepare, after_step and export the bare module, without
    normalisation. crafting: the mode of the model while images are crafted. state: tensors that the parts keep from step to step, by name,
    which a checkpoint keeps, too. surgery: bound transforms that make, of a model before `prepare`, the structure of the one that `export`
    returns: a checkpoint names them, so that it can be loaded. parts: those of a composed defense.

    Called as `defense(model, batch, draws)` it is the whole loss of a step, for a training loop of one's own.
    """

    name: str
    prepare: Prepare = same_model
    batch: Change = same_batch
    craft: Craft = own_images
    loss: Loss = cross_entropy
    penalty: Loss = no_penalty
    step: Step = one_step
    after_step: AfterStep = nothing_more
    check: Check = no_objection
    export: Prepare = same_model
    crafting: Mode = "eval"
    state: dict[str, Tensor] = field(default_factory=dict, compare=False)
    surgery: tuple[Spec, ...] = ()
    parts: tuple[Defense, ...] = field(default=(), compare=False)

    def sets(self, part: str) -> bool:
        """Whether this defense sets its own `part`."""
        return getattr(self, part) is not _DEFAULTS[part]

    @property
    def states(self) -> dict[str, dict[str, Tensor]]:
        """What each part keeps from step to step, by the name of its defense."""
        return {one.name: one.state for one in (self.parts or (self,))}

    def craft_for(self, model: nn.Module, batch: Batch, draws: Draws) -> Batch:
        """The batch with adversarial images, where this defense makes any; the model is as it was. draws: of the step."""
        if not self.sets("craft"):
            return batch
        return batch.with_crafted(crafted_by(self.craft, model, batch, draws.at("craft"), self.crafting))

    def objection(self, model: nn.Module, batch: Batch, draws: Draws) -> str:
        """What `check` says at the end of an epoch; the model is as it was. draws: of its last step."""
        if not self.sets("check"):
            return ""
        with untouched(model, "eval", batch.images.device):
            return self.check(model, batch, draws.at("check"))

    def objective(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Loss and penalty of a batch whose adversarial images are made, () Tensor. draws: of the step."""
        loss = self.loss(model, batch, draws.at("loss"))
        return loss + self.penalty(model, batch, draws.at("penalty")) if self.sets("penalty") else loss

    def __call__(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """The loss of a step, () Tensor with a graph to the model's parameters: adversarial images, loss and penalty.

        model: from pixels in [0, 1], (N, 3, H, W), to (N, K) logits. draws: `Draws.for_step(seed, step, ids, device)`. What a defense
        changes before, within or after a step of the optimizer is left to the loop: its prepare, batch, step, after_step and export.
        """
        return self.objective(model, self.craft_for(model, batch, draws), draws)


_DEFAULTS: dict[str, Any] = {part.name: part.default for part in fields(Defense) if part.name not in ("name", "state", "parts")}
_ONLY_ONE = ("craft", "loss", "step")


def compose(defenses: Sequence[Defense]) -> Defense:
    """Combines defenses into one: batches are changed and models prepared in the order given, and exported in the reverse one.

    Penalties add up. Raises BadParameter where two set a part that only one may set, craft, loss or step, and where two have one name.
    """
    if not defenses:
        raise BadParameter("there is no defense to train with; name at least one, such as plain.")
    if len(defenses) == 1:
        return defenses[0]
    parts = tuple(part for one in defenses for part in (one.parts or (one,)))
    _refuse_twice(parts)
    return Defense(
        name="+".join(one.name for one in parts),
        prepare=_chain([one.prepare for one in parts if one.sets("prepare")]),
        batch=_changes(parts),
        **{name: _one(parts, name) for name in _ONLY_ONE},
        penalty=_sum(parts),
        after_step=_each([one.after_step for one in parts if one.sets("after_step")]),
        check=_first_objection(parts),
        export=_chain([one.export for one in reversed(parts) if one.sets("export")]),
        crafting=next((one.crafting for one in parts if one.sets("craft")), "eval"),
        surgery=tuple(spec for one in parts for spec in one.surgery),
        parts=parts,
    )


def _refuse_twice(parts: Sequence[Defense]) -> None:
    names = [one.name for one in parts]
    for name in names:
        if names.count(name) > 1:
            raise BadParameter(f"the defense '{name}' is named twice; training takes it once.")
    for part in _ONLY_ONE:
        setting = [one.name for one in parts if one.sets(part)]
        if len(setting) > 1:
            raise BadParameter(f"the defenses '{setting[0]}' and '{setting[1]}' both set the {part}; training takes only one.")


def _one(parts: Sequence[Defense], name: str) -> Any:
    """The part that one of them sets, or the default."""
    return next((getattr(one, name) for one in parts if one.sets(name)), _DEFAULTS[name])


def _changes(parts: Sequence[Defense]) -> Change:
    """Every change of the batch, each with draws of its own."""
    changing = [one for one in parts if one.sets("batch")]

    def changed(batch: Batch, draws: Draws) -> Batch:
        return functools.reduce(lambda made, one: one.batch(made, draws.at(one.name)), changing, batch)

    return changed if changing else same_batch


def _sum(parts: Sequence[Defense]) -> Loss:
    """The sum of all penalties, each with draws of its own."""
    adding = [one for one in parts if one.sets("penalty")]

    def summed(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        return sum((one.penalty(model, batch, draws.at(one.name)) for one in adding), batch.images.new_zeros(()))

    return summed if adding else no_penalty


def _first_objection(parts: Sequence[Defense]) -> Check:
    """What the first one says that has anything to say, each with draws of its own."""
    checking = [one for one in parts if one.sets("check")]

    def objection(model: nn.Module, batch: Batch, draws: Draws) -> str:
        return next(filter(None, (one.check(model, batch, draws.at(one.name)) for one in checking)), "")

    return objection if checking else no_objection


def _chain(calls: Sequence[Prepare]) -> Prepare:
    return (lambda model: functools.reduce(lambda made, call: call(made), calls, model)) if calls else same_model


def _each(calls: Sequence[AfterStep]) -> AfterStep:
    def every(model: nn.Module) -> None:
        for call in calls:
            call(model)

    return every if calls else nothing_more
