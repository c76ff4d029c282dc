"""Models that draw random numbers of their own."""

from __future__ import annotations

from torch import Tensor

from robustvit.errors import ModelError

_ROUNDING = 1e-3  # relative; how far logits may differ on a device that sums in any order


def check_deterministic(first: Tensor, second: Tensor, label: str) -> None:
    """Raises ModelError where a model's logits (N, K) of the same pixels differ beyond rounding. label: its name in the message."""
    apart = float((first - second).abs().max()) if first.shape == second.shape else float("inf")
    if apart > _ROUNDING * (1.0 + float(first.abs().max())):
        raise ModelError(
            f"model '{label}' returns different logits for the same pixels each time ({apart:.3g} apart): something in it draws random "
            "numbers, such as dropout that is left on, so that no result of it is reproducible. Turn that off, or write a Classifier whose "
            "`bound(draws)` takes its randomness from the draws."
        )
