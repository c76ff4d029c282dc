"""The one protocol of everything that is done to samples, and how plain functions are lifted to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor

from robustvit.errors import BadParameter, BudgetExceeded, GradientAbsent, ModelError, RobustvitError, few
from robustvit.primitives import norms
from robustvit.primitives.attack_search import GRADIENTS, Crafted
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import check_pixels
from robustvit.primitives.votes import Votes, check_votes, vote_columns
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec, plain, show

_ABSENT = 0.01  # the share of samples without a gradient that an attack's number may stand on
_SLACK = 1e-6  # rounding of x + delta − x in float32 for pixels in [0, 1], per pixel


@dataclass
class Outcome:
    """What a scenario did to a batch: the images to be judged (None when there are none) and its own per-sample columns."""

    images: Tensor | None
    columns: dict[str, Tensor] = field(default_factory=dict)


class Scenario(Protocol):
    """(Classifier, Batch, Draws) → Outcome. A row of the outcome depends on that row of the batch and its draws alone, but for other libraries' attacks."""

    def __call__(self, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
        """What becomes of the batch."""
        ...


def scenario(
    entry: Entry, spec: Spec, plugins: Mapping[str, Any] | None = None, learned: Mapping[str, Tensor] | None = None
) -> Scenario:  # fmt: skip
    """The scenario that a bound Spec names. plugins: what its plug-in parameters were resolved to, by parameter name. learned: what `learn` made for it."""
    arguments = parameters(spec, plugins)
    function = entry.load()
    if entry.fit:
        function = _taught(function, learned or {})
    if entry.kind == "corruption":
        inner = {
            key: _as_alone(arguments[key], value) for key, value in spec.params if isinstance(value, Spec) and value.kind == "corruption"
        }
        return functools.partial(_corrupted, functools.partial(function, **arguments | inner), spec)
    if entry.kind == "attack":
        guarded = function if entry.module.startswith("robustvit.") else _watched(function, spec)
        return functools.partial(_attacked, functools.partial(guarded, **arguments), spec, tells=entry.tells)
    if entry.kind == "certificate":
        return functools.partial(_certified, functools.partial(function, **arguments), spec)
    return lambda model, batch, draws: Outcome(None, dict(function(model, batch.images, batch.labels, draws, **arguments)))


def parameters(spec: Spec, plugins: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of a bound Spec's function. plugins: what its plug-in parameters were resolved to."""
    return {key: plain(value) for key, value in spec.params} | dict(plugins or {})


def _as_alone(function: Callable[..., Tensor], spec: Spec) -> Callable[[Tensor, Draws], Tensor]:
    """A corruption inside another, with the draws that it would have by itself."""
    return lambda images, draws: function(images, Draws(draws.seed, stream(spec), draws.ids, draws.device))


def _taught(function: Callable[..., Any], learned: Mapping[str, Tensor]) -> Callable[..., Any]:
    """An attack that has learned, as one that need not."""
    return lambda model, images, labels, draws, **arguments: function(model, images, labels, draws, learned, **arguments)


def _watched(function: Callable[..., Any], spec: Spec) -> Callable[..., Any]:
    """Somebody's attack on a model that is put back as it was. Raises ModelError where the attack changed it."""

    def attack(model: Classifier, *given: Any, **arguments: Any) -> Any:
        before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        try:
            return function(model, *given, **arguments)
        finally:
            _put_back(model, before, spec)

    return attack


def _put_back(model: Classifier, before: Mapping[str, Tensor], spec: Spec) -> None:
    model.eval().requires_grad_(False)
    now = model.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(now[name], value)]
    with torch.no_grad():
        for name in changed:
            now[name].copy_(before[name])
    if changed:
        raise ModelError(
            f"attack '{spec.name}' changed the model it attacks ({few(changed)}); it is put back. An attack must leave it as it is."
        )


def stream(spec: Spec) -> str:
    """The name of a scenario's random stream. Its severities share their draws, so that a curve over severities moves less by chance."""
    return f"{spec.kind}/{spec.name}"


def _corrupted(function: Callable[..., Tensor], spec: Spec, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
    with torch.no_grad():
        images = function(batch.images, draws)
    _check_returned(images, batch, spec)
    return Outcome(images)


def _certified(function: Callable[..., Votes], spec: Spec, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
    """Votes in float32: half precision was seen to change one vote in fifty."""
    if model.precision != "float32":
        raise BadParameter(
            f"certificate '{spec.name}': precision is {model.precision}, which flips votes; a certificate is made in float32. Leave --precision out."
        )
    votes = function(model, batch.images.clone(), draws)
    if not isinstance(votes, Votes):
        raise RobustvitError(
            f"certificate '{spec.name}' must return robustvit.primitives.votes.Votes; it returned a {type(votes).__name__}."
        )
    check_votes(votes, (len(batch), model.outputs), spec.name)
    return Outcome(None, vote_columns(votes, batch.labels))


def _attacked(
    function: Callable[..., Tensor | Crafted], spec: Spec, model: Classifier, batch: Batch, draws: Draws, tells: tuple[str, ...] = ()
) -> Outcome:  # fmt: skip
    """Attacks the samples that are right when clean, in float32; the others keep their image and their success is undefined (−1).

    tells: the columns of its own that the attack tells besides its books, not a number where it has nothing to tell.
    """
    with torch.no_grad(), model.in_float32():
        logits = model(batch.images)
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"model '{model.card.label}' gives logits that are not finite numbers on clean images.")
    right = logits.argmax(dim=1) == batch.labels
    images = batch.images.clone()
    columns = _blank(len(batch), images.device, tells)
    if bool(right.any()):
        part, keyed = batch[right], draws[right]
        with model.with_small_tiles():
            returned = function(model, part.images.clone(), part.labels.clone(), keyed)
        crafted = returned if isinstance(returned, Crafted) else Crafted(returned, _untold(len(part), images.device))
        _check_returned(crafted.images, part, spec)
        check_budget(crafted.images.detach(), part, spec)
        images[right] = crafted.images.detach()
        _check_gradients(crafted, spec, model)
        for name, values in crafted.columns.items():
            if name not in columns:
                raise RobustvitError(f"attack '{spec.name}' tells a column '{name}'; an attack's books are {', '.join(columns)}.")
            columns[name][right] = values.to(columns[name])
    delta = images - batch.images
    sizes = {name: norms.size(delta, name) for name in ("linf", "l2", "l1", "l0")}  # type: ignore[arg-type]
    return Outcome(images, {**sizes, "attacked": right, **columns})


def _blank(n: int, device: torch.device, tells: tuple[str, ...]) -> dict[str, Tensor]:
    """The books of samples that no attack was made on."""
    nothing = torch.zeros(n, dtype=torch.int32, device=device)
    books = {"steps": nothing - 1, "queries": nothing, "gradients": nothing.clone(), "gradient": nothing + GRADIENTS.index("not used")}
    return books | {name: torch.full((n,), torch.nan, device=device) for name in tells}


def _untold(n: int, device: torch.device) -> dict[str, Tensor]:
    """The books of an attack that keeps none: −1 where a number would be."""
    unknown = torch.full((n,), -1, dtype=torch.int32, device=device)
    return {"steps": unknown, "queries": unknown, "gradients": unknown, "gradient": torch.full_like(unknown, GRADIENTS.index("not told"))}


def _check_gradients(crafted: Crafted, spec: Spec, model: Classifier) -> None:
    """Raises GradientAbsent where the input gradient is zero or missing for more than one in a hundred of the samples that were asked for one."""
    codes = crafted.columns.get("gradient")
    if codes is None:
        return
    asked = ~torch.isin(codes, torch.tensor([GRADIENTS.index(name) for name in ("not used", "not told")], device=codes.device))
    absent = int((codes == GRADIENTS.index("absent")).sum())
    if absent > _ABSENT * int(asked.sum()):
        whose = "the surrogate" if spec.get("surrogate") is not None else f"model '{model.card.label}'"
        raise GradientAbsent(
            f"attack '{spec.name}': {whose} gives an input gradient that is zero or missing for {absent} of {int(asked.sum())} "
            "samples: that they stand says nothing of their robustness. Attack it without gradients (square), or attack the model that it "
            "was made of and judge it on those images (transfer: {surrogate: …, attack: …})."
        )


def check_budget(images: Tensor, batch: Batch, spec: Spec) -> None:
    """Raises BudgetExceeded where a perturbation is larger than the `eps` that the Spec, or an attack inside it, names, in its `norm` (default linf), or
    where more pixels differ than its `patches` of `size` by `size` pixels have."""
    for inner in (value for _, value in spec.params if isinstance(value, Spec)):
        check_budget(images, batch, inner)
    _check_area(images, batch, spec)
    eps, norm = spec.get("eps") if spec.kind == "attack" else None, spec.get("norm", "linf")
    if not isinstance(eps, float | int | Fraction):
        return
    sizes = norms.size(images - batch.images, str(norm))  # type: ignore[arg-type]
    scale = {"linf": 1.0, "l2": batch.images[0].numel() ** 0.5, "l1": float(batch.images[0].numel())}.get(str(norm), 1.0)
    over = sizes > float(eps) + _SLACK * scale
    if bool(over.any()):
        first = int(over.nonzero()[0])
        raise BudgetExceeded(
            f"{spec.name} returned a perturbation of {norm} {float(sizes[first]):.4f} for sample {batch.ids[first]}; "
            f"its budget is eps = {float(eps):.4f} ({show(eps)})."
        )


def _check_area(images: Tensor, batch: Batch, spec: Spec) -> None:
    count, side = spec.get("patches"), spec.get("size")
    if spec.kind != "attack" or not isinstance(count, int) or not isinstance(side, int):
        return
    changed = norms.size(images - batch.images, "l0")
    over = changed > count * side**2
    if bool(over.any()):
        first = int(over.nonzero()[0])
        raise BudgetExceeded(
            f"{spec.name} changed {int(changed[first])} pixels of sample {batch.ids[first]}; its budget is {count} "
            f"patch{'' if count == 1 else 'es'} of {side}x{side}, {count * side**2} pixels."
        )


def _check_returned(images: Any, batch: Batch, spec: Spec) -> None:
    if not isinstance(images, Tensor) or images.shape != batch.images.shape or images.dtype != batch.images.dtype:
        got = f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise RobustvitError(f"{spec.kind} '{spec.name}' must return {tuple(batch.images.shape)} {batch.images.dtype}; it returned {got}.")
    check_pixels(images, f"the images that {spec.kind} '{spec.name}' returns")
