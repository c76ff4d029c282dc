"""The images that a nested corruption or attack makes of clean ones, for analyses that measure both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes

Corruption: TypeAlias = Callable[..., Any]
Attack: TypeAlias = Callable[..., Crafted | Tensor]


def shifted_images(
    name: str, model: Classifier, images: Tensor, labels: Tensor, draws: Draws, corruption: Corruption | None, attack: Attack | None
) -> Tensor | None:  # fmt: skip
    """Images (N, 3, H, W) in [0, 1] as a corruption or an attack leaves them; None where neither is given.

    An attack is run whether or not an image is classified correctly. name: of the analysis. Raises BadParameter where both are given.
    """
    if corruption is not None and attack is not None:
        raise BadParameter(f"{name} compares clean images with shifted ones: give corruption or attack, one of the two.")
    if corruption is None and attack is None:
        return None
    made = corruption(images, draws) if corruption is not None else attack(model, images, labels, draws)  # type: ignore[misc]
    return made.images if isinstance(made, Crafted) else made


def both(measure: Callable[[Tensor], dict[str, Tensor]], images: Tensor, shifted: Tensor | None) -> dict[str, Tensor]:
    """The columns of what an analysis measures: `value_clean_NAME`, and where there are shifted images `value_shifted_NAME`."""
    sides = {"clean": images} | ({} if shifted is None else {"shifted": shifted})
    return {f"value_{side}_{name}": values for side, some in sides.items() for name, values in measure(some).items()}


def shifted_passes(forward: float, plugins: Mapping[str, Any]) -> Passes | None:
    """Forward passes of an analysis for an image: twice as many where a corruption shifts it; None with an attack, whose own count."""
    if plugins.get("attack") is not None:
        return None
    return Passes(forward=forward * (1 if plugins.get("corruption") is None else 2))
