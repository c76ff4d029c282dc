"""Attacks as scenarios: only samples that are right when clean are attacked, and what is returned is held to the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustvit.errors import GradientAbsent, ModelError, RobustvitError, few
from robustvit.primitives import norms
from robustvit.primitives.attack_search import GRADIENTS, Crafted
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.passes import Passes, declared_passes
from robustvit.primitives.scenario import Outcome, rows_in
from robustvit.primitives.scenarios.budget import check_budget, check_images
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec

_ROOM = 64 << 20  # bytes of images attacked at once: enough that samples already misclassified make room, little enough for any machine
_BROKEN = 0.01  # the share of samples without a gradient, or with one that is not finite, that an attack's number may stand on
_FAULTS = {"absent": "zero or missing", "not finite": "not finite (NaN or infinite) in some value"}


class AttackScenario:
    """`(model, images, labels, draws, *, …) -> images` of an attack, with the size of each perturbation and what it cost."""

    uses_reading: ClassVar[bool] = True
    in_float32: ClassVar[bool] = True
    makes_adversarial_images: ClassVar[bool] = True
    predicts: ClassVar[bool] = True

    def __init__(self, entry: Entry, spec: Spec, function: Callable[..., Tensor | Crafted], arguments: dict[str, Any]) -> None:
        self.entry, self.spec, self.arguments = entry, spec, arguments
        self.function = function if entry.module.startswith("robustvit.") else _restoring(function, spec)

    @staticmethod
    def rows_at_once(tile: int, size: tuple[int, int]) -> int:
        """As many tiles as fit into 64 MiB."""
        return rows_in(_ROOM, tile, size)

    rows_per_task = rows_at_once

    def passes(self, model: Classifier) -> Passes | None:
        """What the plug-in declares, and one for the clean image."""
        own = declared_passes(self.entry, self.spec, model, self.arguments)
        return None if own is None else replace(own, forward=own.forward + 1)

    def __call__(self, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
        """Attacks the samples that are right when clean, in float32; the others keep their image and their success is undefined (−1).

        Raises BudgetExceeded, PixelRange or GradientAbsent for what an attack must not return, ModelError for a model whose logits are not
        finite, or that has one class.
        """
        right = self._right(model, batch, draws)
        return self._attacked(model, batch, draws, right, right)

    def craft_all(self, model: Classifier, batch: Batch, draws: Draws, *, read: bool = True, predicted: bool = False) -> Outcome:
        """As a call, and attacks the samples that are wrong when clean, too: the images are for other models.

        read: whether the model's outputs are the classes of the labels; where they are not, no sample is right. predicted: the attack reads
        the model's own predictions of the clean images in place of the labels.
        """
        every = torch.ones_like(batch.labels, dtype=torch.bool)
        right = self._right(model, batch, draws) if read else ~every
        if not predicted:
            return self._attacked(model, batch, draws, right, every)
        outcome = self._attacked(model, own_labels(model, batch, draws), draws, right, every)
        return replace(outcome, seen=None)  # what it saw was not compared with the labels

    def judge(self, model: Classifier, batch: Batch, draws: Draws, images: Tensor) -> Outcome:
        """Images that were crafted on another model, held to the budget: (N, 3, H, W) in [0, 1]. Costs nothing but the clean prediction."""
        right = self._right(model, batch, draws)
        check_images(images, batch, self.spec)
        check_budget(images, batch, self.spec)
        columns = _not_attacked(len(batch), images.device, self.entry.tells)
        unknown = torch.full((len(batch),), -1, dtype=torch.int8, device=images.device)
        return _outcome(batch, images, right, columns, unknown)

    def _right(self, model: Classifier, batch: Batch, draws: Draws) -> Tensor:
        """Whether each sample is right when clean, (N,) bool."""
        self._refuse_one_class(model)
        clean = keyed_by(model, draws)
        with torch.no_grad(), clean.in_float32():
            logits = clean(batch.images)
        if not bool(torch.isfinite(logits).all()):
            raise ModelError(f"model '{model.card.label}' gives logits that are not finite numbers on clean images.")
        right: Tensor = logits.argmax(dim=1) == batch.labels
        return right

    def _attacked(self, model: Classifier, batch: Batch, draws: Draws, right: Tensor, rows: Tensor) -> Outcome:
        """The outcome of the attack on some rows, (N,) bool. right: the samples that are right when clean."""
        images = batch.images.clone()
        columns = _not_attacked(len(batch), images.device, self.entry.tells)
        seen = torch.zeros_like(right, dtype=torch.int8)  # those that are not attacked are wrong when clean
        if bool(rows.any()):
            crafted = self._craft(model, batch[rows], draws[rows])
            images[rows] = crafted.images.detach()
            seen[rows] = self._seen(crafted, model)
            for name, values in crafted.columns.items():
                if name not in columns:
                    raise RobustvitError(
                        f"attack '{self.spec.name}' returns a column '{name}'; those of an attack are {', '.join(columns)}."
                    )
                columns[name][rows] = values.to(columns[name])
        return _outcome(batch, images, right, columns, seen)

    def _refuse_one_class(self, model: Classifier) -> None:
        if model.outputs < 2:
            raise ModelError(
                f"attack '{self.spec.name}': model '{model.card.label}' has {model.outputs} class, so that nothing can be misclassified. "
                "An attack needs a model of two classes or more."
            )

    def _seen(self, crafted: Crafted, model: Classifier) -> Tensor:
        """What the attack saw the model predict of the images that it returns, as `Outcome.seen`.

        A class other than the label is confirmed in float32. The label counts as seen from attacks of this package alone, which return
        images that they queried, and in float32.
        """
        if crafted.fooled is None:
            return torch.full((len(crafted.images),), -1, dtype=torch.int8, device=crafted.images.device)
        known = 1 if self.entry.module.startswith("robustvit.") and model.precision == "float32" else -1
        return torch.where(crafted.fooled, 0, known).to(torch.int8)

    def _craft(self, model: Classifier, batch: Batch, draws: Draws) -> Crafted:
        host = keyed_by(model, draws)
        with host.with_small_tiles():
            returned = self.function(host, batch.images.clone(), batch.labels.clone(), draws, **self.arguments)
        crafted = returned if isinstance(returned, Crafted) else Crafted(returned, _not_counted(len(batch), batch.images.device))
        check_images(crafted.images, batch, self.spec)
        check_budget(crafted.images.detach(), batch, self.spec)
        _check_gradients(crafted, self.spec, model)
        return crafted


def own_labels(model: Classifier, batch: Batch, draws: Draws) -> Batch:
    """The batch with the model's predictions of its images for labels, in float32."""
    host = keyed_by(model, draws)
    with torch.no_grad(), host.in_float32():
        return replace(batch, labels=host(batch.images).argmax(dim=1))


def _outcome(batch: Batch, images: Tensor, right: Tensor, columns: dict[str, Tensor], seen: Tensor) -> Outcome:
    """The images with the size of each perturbation beside the attack's columns."""
    delta = images - batch.images
    sizes = {name: norms.size(delta, name) for name in ("linf", "l2", "l1", "l0")}  # type: ignore[arg-type]
    return Outcome(images, {**sizes, "attacked": right, **columns}, seen)


def _restoring(function: Callable[..., Any], spec: Spec) -> Callable[..., Any]:
    """A third-party attack after which the model is restored. Raises ModelError where the attack changed it."""

    def attack(model: Classifier, *given: Any, **arguments: Any) -> Any:
        before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        try:
            return function(model, *given, **arguments)
        finally:
            _restore(model, before, spec)

    return attack


def _restore(model: Classifier, before: Mapping[str, Tensor], spec: Spec) -> None:
    model.eval().requires_grad_(False)
    now = model.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(now[name], value)]
    with torch.no_grad():
        for name in changed:
            now[name].copy_(before[name])
    if changed:
        raise ModelError(
            f"attack '{spec.name}' changed the model it attacks ({few(changed)}); it is restored. An attack must leave it as it is."
        )


def _not_attacked(n: int, device: torch.device, extra: tuple[str, ...]) -> dict[str, Tensor]:
    """The columns of samples that were not attacked."""
    nothing = torch.zeros(n, dtype=torch.int32, device=device)
    counts = {"steps": nothing - 1, "queries": nothing, "gradients": nothing.clone(), "gradient": nothing + GRADIENTS.index("not used")}
    return counts | {name: torch.full((n,), torch.nan, device=device) for name in extra}


def _not_counted(n: int, device: torch.device) -> dict[str, Tensor]:
    """The columns of an attack that does not count its queries: −1 where a number would be."""
    unknown = torch.full((n,), -1, dtype=torch.int32, device=device)
    return {"steps": unknown, "queries": unknown, "gradients": unknown, "gradient": torch.full_like(unknown, GRADIENTS.index("not told"))}


def _check_gradients(crafted: Crafted, spec: Spec, model: Classifier) -> None:
    """Raises GradientAbsent where more than one in a hundred samples have an input gradient that is absent or not finite."""
    codes = crafted.columns.get("gradient")
    if codes is None:
        return
    used = ~torch.isin(codes, torch.tensor([GRADIENTS.index(name) for name in ("not used", "not told")], device=codes.device))
    total, counts = int(used.sum()), {name: int((codes == GRADIENTS.index(name)).sum()) for name in _FAULTS}
    if sum(counts.values()) > _BROKEN * total:
        whose = "the surrogate" if spec.get("surrogate") is not None else f"model '{model.card.label}'"
        what = " and ".join(f"{_FAULTS[name]} for {count} of {total} samples" for name, count in counts.items() if count)
        raise GradientAbsent(
            f"attack '{spec.name}': {whose} gives an input gradient that is {what}: that they survive says nothing of their robustness. "
            "Attack it without gradients (square), or attack the model that it was made of and evaluate it on those images "
            "(transfer: {surrogate: …, attack: …})."
        )
