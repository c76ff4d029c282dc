"""A cheap prediction of attention maps, by which keys are selected before the scores are computed, and how it is learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier, temporarily
from robustvit.primitives.draws import Draws
from robustvit.primitives.quantisation.calibration import LoadBatch
from robustvit.primitives.shared_weights import shared_copy
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.key_selection import largest_of
from robustvit.primitives.surgery.learning import falling, rows_of_steps
from robustvit.primitives.surgery.plain_attention import attention_map, projections_of
from robustvit.spec.sample_order import order

LEAST = 0.02
"""Entries of a basis up to this are 0; the attention of a query to all keys alike is 1 each."""
ROWS = 8
"""Images of a step."""
_RATE = 0.1  # of Adam at first, in the root mean square of what it changes
_FIRST = 32  # images for what is computed in closed form
_SPREAD = 0.1  # of the mean map in every row of the first basis
_GUARD = 1e-6  # within a square root, whose slope at 0 is infinite; of attention that is 1 on average
_SINGULAR = 1e-6  # of the largest eigenvalue, below which queries or keys do not vary


class Predictor(NamedTuple):
    """What predicts the maps of a block, the same for its heads of d channels: T tokens, r channels, n rows of a basis.

    query, key: (r, d), what projects queries and keys. pool: (T, n), what sums keys up over tokens. basis: (n, T), not negative.
    """

    query: Tensor
    key: Tensor
    pool: Tensor
    basis: Tensor


def predicted_maps(of: Predictor, query: Tensor, key: Tensor, coefficients: int) -> Tensor:
    """(N, heads, T, T): for each query a sum of rows of the basis, weighted by the so many largest of its coefficients.

    Coefficients are a softmax over what its projection has in common with sums of projected keys. query, key: (N, heads, T, d). Attention
    to all keys alike is 1 each.
    """
    sums = (key.contiguous() @ of.key.T).transpose(-2, -1) @ of.pool
    weights = ((query.contiguous() @ of.query.T) @ sums * query.shape[-1] ** -0.5).softmax(dim=-1)
    maps: Tensor = weights.masked_fill(~largest_of(weights.detach(), coefficients), 0.0) @ of.basis
    return maps


class KeyPredictor(nn.Module):
    """Selects the keys to which a query is predicted to attend most. kept: how many; prefix: how many of the first queries take all."""

    query: Tensor
    key: Tensor
    pool: Tensor
    basis: Tensor

    def __init__(self, of: Predictor, coefficients: int, kept: int, prefix: int) -> None:
        super().__init__()
        for name, tensor in of._asdict().items():
            self.register_buffer(name, tensor)
        self.coefficients, self.kept, self.prefix = coefficients, kept, prefix

    @torch.no_grad()
    def forward(self, query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
        """(N, heads, T, T) bool from queries and keys (N, heads, T, d), of keys that the bias leaves first.

        Raises HostRefused for another number of tokens than it has learned of.
        """
        if key.shape[-2] != len(self.pool):
            raise HostRefused(
                f"'learned_sparse_attention' has learned of {len(self.pool)} tokens, each at its place, and is given {key.shape[-2]}: it "
                "takes images of no other size, and no transform that reduces tokens."
            )
        scores = predicted_maps(Predictor(self.query, self.key, self.pool, self.basis), query, key, self.coefficients)
        if bias is not None:
            scores = scores.masked_fill(~bias if bias.dtype == torch.bool else bias == -torch.inf, -torch.inf)
        chosen = largest_of(scores, self.kept)
        chosen[..., : self.prefix, :] = True
        return chosen

    def masked_entries(self) -> int:
        """How many entries of a head's map are not computed."""
        tokens = len(self.pool)
        return (tokens - self.prefix) * (tokens - self.kept)

    def zero_products(self) -> int:
        """How many products of a head's coefficients and basis have a factor 0, whichever coefficients are the largest."""
        most = (self.basis != 0).sum(dim=1).sort(descending=True).values[: self.coefficients].sum()
        return len(self.pool) * (self.basis.numel() - int(most))


def learn_predictors(
    model: Classifier, load_batch: LoadBatch, draws: Draws, data: Data, rows: int, coefficients: int, samples: int, steps: int
) -> dict[str, Tensor]:  # fmt: skip
    """query, key, pool and basis of every block, (L, …) each, for which √(predicted map) is near √(map): a squared distance.

    The model's weights and maps stay. Projections begin as those of their rank that change products of queries and keys least, sums and
    basis as those of neighbouring tokens; then Adam takes so many steps of 8 of the first `samples` of the data. rows: of a basis.
    """
    copied: Any = shared_copy(model, model.card.label)
    positions = order(data.ids)[:samples]
    started = [_started(found, rows) for found in _captured(copied, load_batch(data, positions[:_FIRST]))]
    leaves = [Predictor(*(part.clone().requires_grad_() for part in one)) for one in started]
    rates = [_RATE * float(part.square().mean().sqrt()) for one in started for part in one]
    optimizer = torch.optim.Adam([{"params": [part]} for part in (part for one in leaves for part in one)])
    for step, at in enumerate(rows_of_steps(positions, ROWS, steps, draws)):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * falling(step, steps)
        optimizer.zero_grad()
        for one, found in zip(leaves, _captured(copied, load_batch(data, at)), strict=True):
            distance(one, found, coefficients, plain_vit(copied.model).num_prefix_tokens).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    finished = [one._replace(basis=sparse(one.basis)) for one in leaves]
    return {name: torch.stack([getattr(one, name).detach() for one in finished]) for name in Predictor._fields}


class Captured(NamedTuple):
    """Of a block and some images: queries and keys (N, heads, T, d), and their map (N, heads, T, T)."""

    query: Tensor
    key: Tensor
    map: Tensor


def distance(of: Predictor, found: Captured, coefficients: int, prefix: int) -> Tensor:
    """(): the mean squared difference of the square roots of a map and its prediction, over all but the first `prefix` queries."""
    predicted = predicted_maps(of._replace(basis=sparse(of.basis)), found.query[..., prefix:, :], found.key, coefficients)
    true = found.map[..., prefix:, :] * found.map.shape[-1]
    return ((predicted + _GUARD).sqrt() - true.sqrt()).square().mean()


def sparse(basis: Tensor) -> Tensor:
    """The absolute values of a basis, 0 where they are up to LEAST, with the slope that they have without that."""
    size = basis.abs()
    return size + (size.masked_fill(size <= LEAST, 0.0) - size).detach()


def _captured(copied: Any, batch: Batch) -> Iterator[Captured]:
    """What every block attends to in some images."""
    found: list[Captured] = []

    def capture(attention: nn.Module, given: tuple[Any, ...]) -> None:
        projected = projections_of(attention, given[0])
        found.append(Captured(projected.query, projected.key, attention_map(attention, projected)))

    hooks = [block.attn.register_forward_pre_hook(capture) for block in plain_vit(copied.model).blocks]
    with torch.no_grad(), copied.in_float32(), temporarily(copied, "tile", lambda _: len(batch)):
        copied(batch.images)
    for hook in hooks:
        hook.remove()
    return iter(found)


def _started(found: Captured, rows: int) -> Predictor:
    """The predictor before the first step."""
    tokens, received = found.map.shape[-1], found.map.mean(dim=(0, 1, 2))
    place = torch.arange(tokens, device=received.device)
    part = (place * rows // tokens == torch.arange(rows, device=received.device)[:, None]).to(received.dtype)
    basis = part * received + torch.finfo(received.dtype).tiny
    basis = basis / basis.mean(dim=1, keepdim=True) + _SPREAD * tokens * received
    return Predictor(*nearest_projections(found.query, found.key), (part / part.sum(dim=1, keepdim=True)).T.contiguous(), basis)


def nearest_projections(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Two projections (r, d) to half the channels, for which the mean of (q·k − Pq·Rk)² over all pairs of queries and keys is smallest.

    query, key: (…, d). With the second moments A of queries and B of keys it is ‖√A (1 − PᵀR) √B‖², which a singular value decomposition
    of √A √B makes smallest (Eckart and Young 1936).
    """
    (root, inverse), (other, other_inverse) = (_roots(one.flatten(0, -2).double()) for one in (query, key))
    left, values, right = torch.linalg.svd(root @ other)
    rank = max(1, query.shape[-1] // 2)
    scale = values[:rank].sqrt()[:, None]
    return (scale * (left[:, :rank].T @ inverse)).to(query.dtype), (scale * (right[:rank] @ other_inverse)).to(key.dtype)


def _roots(of: Tensor) -> tuple[Tensor, Tensor]:
    """The square root of the second moments of vectors (M, d), and its inverse; directions in which they do not vary have a little."""
    values, vectors = torch.linalg.eigh(of.T @ of / len(of))
    roots = values.clamp_min(_SINGULAR * float(values[-1])).sqrt()
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
