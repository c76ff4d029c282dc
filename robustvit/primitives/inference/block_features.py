"""Features of a transformer's blocks in place of its logits: the residual stream after some of them, differentiable in the pixels.

They are recorded by hooks while the Classifier is called as it is, so that its normalisation, its wrappers and what transforms changed hold
for them. The pass ends at the last block that is asked for: whatever follows it is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ThroughHost, constructor_arguments
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import BoundClassifier, bound_rows, padded
from robustvit.primitives.inference.token_grid import token_grid
from robustvit.primitives.lesions.block_sequence import block_sequences

Pool: TypeAlias = Callable[[Tensor, int], Tensor]
"""Tokens after a block, (n, T, D), and how many of the first are of no patch → (n, K) features of each image."""


def mean_patches(tokens: Tensor, prefix: int) -> Tensor:
    """(n, D): the mean of the patch tokens."""
    return tokens[:, prefix:].mean(dim=1)


def patch_values(tokens: Tensor, prefix: int) -> Tensor:
    """(n, T'·D): all values of the patch tokens."""
    return tokens[:, prefix:].flatten(1)


def mean_square(tokens: Tensor, prefix: int) -> Tensor:
    """(n, 1): the mean of the squared values of all tokens."""
    return tokens.square().mean(dim=(1, 2))[:, None]


def patch_deviation(tokens: Tensor, prefix: int) -> Tensor:
    """(n, 1): the standard deviation of the values of the patch tokens."""
    return tokens[:, prefix:].flatten(1).std(dim=1)[:, None]


def blocks_of(model: Classifier) -> Sequence[nn.Module]:
    """The one sequence of blocks in a model: of timm, Hugging Face or torch.

    Raises HostRefused where there is none, or several, as in Swin.
    """
    found = block_sequences(_computing(model))
    if len(found) != 1:
        raise _refused(model, f"has {len(found) or 'no'} sequences of blocks")
    return list(found[0].blocks)


def checked_layers(attack: str, model: Classifier, layers: Sequence[int]) -> tuple[int, ...]:
    """The very layers. Raises BadParameter for none, one that is named twice, or one that the model does not have."""
    depth = len(blocks_of(model))
    if not layers or len(set(layers)) < len(layers) or not all(0 <= one < depth for one in layers):
        raise BadParameter(
            f"attack '{attack}': layers are {', '.join(map(str, layers)) or 'none'}; name each once, of 0 to {depth - 1}, the blocks of "
            f"model '{model.card.label}'."
        )
    return tuple(layers)


class BlockFeatures(Classifier):
    """A classifier of the same images whose outputs are features of its host's blocks, in place of logits.

    layers: after which blocks, counted from 0 in the order in which they compute. pool: makes features of the tokens after each. Calling
    it: (N, 3, H, W) in [0, 1] → (N, L·K), those of one layer after another. The host receives whole tiles, and a tile is pooled by itself,
    so that a row does not depend on the others. Of a ThroughHost the features are those of the host that its gradients come from. Raises
    HostRefused for a host without one sequence of blocks that are each called once and return (N, T, D).
    """

    def __init__(self, host: Classifier, layers: Sequence[int], pool: Pool) -> None:
        super().__init__(**constructor_arguments(host))
        self.host, self.layers, self.pool = host, tuple(layers), pool
        self.gradient, self.tile = host.gradient, min(one.tile for one in host.modules() if isinstance(one, Classifier))
        self._blocks, self._known = tuple(blocks_of(host)), dict[str, int]()

    @property
    def outputs(self) -> int:
        """The number of features."""
        with torch.no_grad():
            return int(self(torch.zeros(1, self.channels, *self.size, device=self.device)).shape[1])

    def bound(self, draws: Draws) -> Classifier:
        """The same features of its host bound to the draws."""
        host = self.host.bound(draws)
        if host is self.host:
            return self
        made = BlockFeatures(host if isinstance(host, BoundClassifier) else BoundClassifier(self.host, host, draws), self.layers, self.pool)
        made._known = self._known
        return made

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, L·K) float32 features, float64 of a model that computes in it."""
        rows = torch.split(torch.arange(len(images), device=images.device), self.tile)
        return torch.cat([self._of_tile(bound_rows(self.host, some), images[some]) for some in rows])

    def _of_tile(self, host: Classifier, images: Tensor) -> Tensor:
        padding = images.new_zeros(self.tile - len(images), *images.shape[1:])
        host = bound_rows(host, padded(len(images), self.tile, images.device))
        blocks = self._blocks if host is self.host else blocks_of(host)  # one that is bound to draws may have a module of its own
        calls = _called(host, torch.cat((images, padding)), blocks, max(self.layers) if self._known else None)
        if not self._known:  # the first pass goes on to its end
            self._known["prefix"] = self._checked_prefix(calls)
        pooled = [self.pool(_exact(calls[layer]), self._known["prefix"]) for layer in self.layers]
        return torch.cat(pooled, dim=1)[: len(images)]

    def _checked_prefix(self, calls: list[Any]) -> int:
        """How many of the first tokens are of no patch. calls: what the blocks returned in a whole pass."""
        if len(calls) != len(self._blocks):
            raise _refused(self, f"calls its {len(self._blocks)} blocks {len(calls)} times in a pass")
        shapes = {tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in calls}
        shape = shapes.pop()
        if shapes or not isinstance(shape, tuple) or len(shape) != 3 or shape[0] != self.tile:
            raise _refused(self, f"has blocks that return {shape}, and not each the same tokens of {self.tile} images")
        return token_grid(self.host, shape[1]).prefix


class _Reached(Exception):
    """The last block that is needed has computed."""


class _Calls(NamedTuple):
    """What blocks returned, in the order in which they were called."""

    found: list[Any]
    last: int | None

    def keep(self, block: nn.Module, given: Any, output: Any) -> None:
        """A forward hook."""
        self.found.append(output[0] if isinstance(output, tuple) else output)
        if self.last is not None and len(self.found) > self.last:
            raise _Reached


def _called(host: Classifier, images: Tensor, blocks: Sequence[nn.Module], last: int | None) -> list[Any]:
    """What the blocks return, in order; the pass ends after the block `last`, or at its end."""
    calls = _Calls([], last)
    hooks = [block.register_forward_hook(calls.keep) for block in dict.fromkeys(blocks)]
    try:
        host(images)
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return calls.found


def _exact(tokens: Tensor) -> Tensor:
    return tokens if tokens.dtype == torch.float64 else tokens.float()


def _computing(model: Classifier) -> nn.Module:
    """The module whose gradients a model's are: that of the host, where a ThroughHost stands before it."""
    through = next((one for one in model.modules() if isinstance(one, ThroughHost)), None)
    return model.model if through is None else through.host.model


def _refused(model: Classifier, why: str) -> HostRefused:
    return HostRefused(
        f"model '{model.card.label}' {why}; features are taken after the blocks of a plain vision transformer, such as timm's or Hugging "
        "Face's ViT, one sequence of blocks that are each called once."
    )
