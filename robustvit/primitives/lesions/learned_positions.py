"""The learned absolute position embedding of a transformer, of timm or Hugging Face: found, and replaced."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.modules import changed

_NAMES = ("pos_embed", "position_embeddings")  # timm; transformers


class LearnedPositions(NamedTuple):
    """A parameter (1, T, D) of a module that is added to its tokens, of which the first `prefix` are of no patch."""

    owner: Any
    name: str
    prefix: int

    @property
    def values(self) -> Tensor:
        """The embedding, (1, T, D)."""
        return self.owner._parameters[self.name]  # type: ignore[no-any-return]

    @property
    def patches(self) -> Tensor:
        """(P, D): the part of the patches."""
        return self.values[0, self.prefix :]

    def replace(self, patches: Tensor) -> None:
        """Puts others (P, D), or for each row of a batch (N, P, D), in the place of those of the patches, in this module alone."""
        many = patches if patches.dim() == 3 else patches[None]
        whole = torch.cat((self.values[:1, : self.prefix].expand(len(many), -1, -1), many), dim=1)
        self.owner._parameters[self.name] = nn.Parameter(whole.to(self.values), requires_grad=False)


def learned_positions(module: nn.Module) -> LearnedPositions | None:
    """The one embedding of a module's token positions; None where it has none, several, or one that is no sequence (1, T, D)."""
    found = [(one, name) for one in module.modules() for name in _NAMES if isinstance(one._parameters.get(name), nn.Parameter)]
    patches = next((one.num_patches for one in module.modules() if isinstance(getattr(one, "num_patches", None), int)), None)
    if len(found) != 1 or patches is None:
        return None
    owner, name = found[0]
    values: Any = owner._parameters[name]
    if values.dim() != 3 or len(values) != 1 or values.shape[1] < patches:
        return None
    return LearnedPositions(owner, name, values.shape[1] - patches)


def why_no_learned_positions(model: Classifier) -> str:
    """Why a model has no learned position embedding that can be taken away, as a predicate; "" where it has one."""
    return "" if learned_positions(model.model) is not None else "has no learned position embedding that is added to its tokens"


def require_learned_positions(plugin: str, model: Classifier) -> LearnedPositions:
    """The embedding of a model. Raises HostRefused, in a sentence that names the plug-in and the model, where it has none."""
    found = learned_positions(model.model)
    if found is None:
        raise HostRefused(
            f"'{plugin}' takes models with a learned position embedding, and '{model.card.label}' is none: it "
            f"{why_no_learned_positions(model)}."
        )
    return found


def with_positions(model: Classifier, patches: Tensor) -> Classifier:
    """A new Classifier whose patches have other position embeddings, (P, D); those of prefix tokens stay."""

    def change(module: nn.Module) -> nn.Module:
        found = learned_positions(module)
        assert found is not None
        found.replace(patches)
        return module

    return changed(model, change)


def permuted(patches: Tensor, permutation: Tensor) -> Tensor:
    """Embeddings (P, D) of which place i has that of place `permutation[i]`; for (N, P) permutations (N, P, D)."""
    return patches[permutation]
