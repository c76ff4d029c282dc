"""A linear layer as the product of two smaller ones."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from robustvit.primitives.surgery.linear import resize, stored_size

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

    def resize(self, out: int, into: int) -> None:
        """Gives it so many outputs and inputs in place, at its rank; see `linear.resize`."""
        if "whole" in self._modules:
            resize(self.whole, out, into)
        else:
            resize(self.down, self.down.out_features, into)
            resize(self.up, out, self.up.in_features)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        out, into = self.out_features, self.in_features
        down = stored_size(state_dict, f"{prefix}down.")
        if down is not None and down[0] <= min(out, into):
            self._become_factors(down[0])
        elif stored_size(state_dict, f"{prefix}whole.") is not None and "whole" not in self._modules:
            self._modules = {"whole": self.up}
            resize(self.whole, out, into)
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[no-untyped-call]

    def _become_factors(self, rank: int) -> None:
        """Two factors of that rank, of the kind of its own layers."""
        out, into = self.out_features, self.in_features
        if "whole" in self._modules:
            whole = self.whole
            self._modules = {"down": copy.deepcopy(whole), "up": whole}
            self.down._parameters["bias"] = None
        resize(self.down, rank, into)
        resize(self.up, out, rank)
