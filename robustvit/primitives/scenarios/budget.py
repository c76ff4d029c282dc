"""The checks of what an attack or corruption returns: pixels in range, and perturbations inside the budget."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

from robustvit.errors import BudgetExceeded, RobustvitError
from robustvit.primitives import norms
from robustvit.primitives.batch import Batch
from robustvit.primitives.pixels import check_pixels
from robustvit.spec.spec import Spec, show

_SLACK = 1e-6  # rounding of x + delta − x in float32 for pixels in [0, 1], per pixel


def check_images(images: Any, batch: Batch, spec: Spec) -> None:
    """Raises RobustvitError unless a scenario returned images like those of the batch, PixelRange unless their pixels are in [0, 1]."""
    if not isinstance(images, Tensor) or images.shape != batch.images.shape or images.dtype != batch.images.dtype:
        got = f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise RobustvitError(f"{spec.kind} '{spec.name}' must return {tuple(batch.images.shape)} {batch.images.dtype}; it returned {got}.")
    check_pixels(images, f"the images that {spec.kind} '{spec.name}' returns")


def check_budget(images: Tensor, batch: Batch, spec: Spec) -> None:
    """Raises BudgetExceeded where a perturbation exceeds the budget of the Spec or of an attack nested in it.

    The budget is `eps` in `norm` (default linf), or the pixels of `patches` patches of `size` by `size`.
    """
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
