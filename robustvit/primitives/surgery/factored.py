"""A linear layer as the product of two smaller ones."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from robustvit.primitives.surgery.linear import fit_shapes

FACTORS = ("down", "up", "whole")
"""The names of the linear layers within a FactoredLinear."""


class FactoredLinear(nn.Module):
    """tokens → up(down(tokens)), or → whole(tokens) where two factors would save nothing.

    down: (in → rank) without bias; up: (rank → out) with the bias; all are linear layers, which other transforms may change in turn.
    Loading a state dict of another rank, or of the other of the two forms, makes it that: the rank may have depended on the weights.
    """

    down: nn.Linear
    up: nn.Linear
    whole: nn.Linear

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    @property
    def weight(self) -> Tensor:
        """(out, in): the weight of the linear layer that it is."""
        return self.whole.weight if "whole" in self._modules else self.up.weight @ self.down.weight

    @property
    def bias(self) -> Tensor | None:
        """(out,): its bias, or None."""
        return (self.whole if "whole" in self._modules else self.up).bias

    @property
    def in_features(self) -> int:
        """The number of its inputs."""
        return (self.whole if "whole" in self._modules else self.down).in_features

    @property
    def out_features(self) -> int:
        """The number of its outputs."""
        return (self.whole if "whole" in self._modules else self.up).out_features

    def forward(self, tokens: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        made: Tensor = self.whole(tokens) if "whole" in self._modules else self.up(self.down(tokens))
        return made

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        wanted = [name for name in FACTORS if any(key.startswith(f"{name}.") for key in stored)]
        if wanted and set(wanted) != set(self._modules):
            template = next(iter(self._modules.values()))
            self._modules = {name: copy.deepcopy(template) for name in wanted}
        for name in wanted:
            own = {key.removeprefix(f"{name}."): value for key, value in stored.items() if key.startswith(f"{name}.")}
            fit_shapes(self.get_submodule(name), own)
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[no-untyped-call]
