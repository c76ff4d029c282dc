"""The gate that chooses the scale of each region of an image, and how it is learned: both scales are computed, weighted by the gates."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.batch import NO_CLASS, Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.quantisation.calibration import LoadBatch
from robustvit.primitives.shared_weights import shared_copy
from robustvit.primitives.surgery.hosts import plain_vit, require_gradient
from robustvit.primitives.surgery.learning import falling, rows_of_steps
from robustvit.primitives.surgery.plain_attention import attention_map, output, projections_of
from robustvit.primitives.surgery.region_embedding import embedded_regions
from robustvit.primitives.surgery.token_merging import LEAST_WEIGHT
from robustvit.spec.sample_order import order
from robustvit.transforms.token_reduction.mixed_scale import SIDE, members_of, regions_of
from robustvit.transforms.token_reduction.visual_words import patches_of

TEMPERATURE = 0.5
"""Of the relaxed Bernoulli distribution that gates should have over images."""
_NOISE = 1.0  # the temperature of the noise in gates
_RATE = 1e-2  # of Adam at first
_SHAPED = 3  # a third of the steps come first and shape gates alone, before cross-entropy can open them all
_EDGE = 1e-6  # of uniform numbers and gates, whose logits are infinite at 0 and 1


class Gate(NamedTuple):
    """A perceptron of one hidden layer: into (hidden, C · h · w), bias (hidden,), out (hidden,), shift ()."""

    into: Tensor
    bias: Tensor
    out: Tensor
    shift: Tensor


def gate_logits(of: Gate, images: Tensor, region: tuple[int, int]) -> Tensor:
    """(N, regions): above 0 where a region of normalised images (N, C, H, W) is to be fine. region: (height, width) in pixels."""
    hidden = functional.linear(patches_of(images, region), of.into, of.bias).relu()
    logits: Tensor = hidden @ of.out + of.shift
    return logits


def learn_gate(
    model: Classifier, load_batch: LoadBatch, draws: Draws, data: Data,
    region: tuple[int, int], share: float, weight: float, hidden: int, samples: int, steps: int,
) -> dict[str, Tensor]:  # fmt: skip
    """A Gate for which cross-entropy + weight · batch shaping is small; the model's weights stay.

    Labels are those of the data, for images of none of its classes the model's own predictions. Every step takes a tile of the first
    `samples` of the data, in an order drawn for every pass over them; the first third of the steps is by batch shaping alone.
    """
    require_gradient("learned_mixed_scale", model)
    copied: Any = shared_copy(model, model.card.label)
    if plain_vit(copied.model) is not copied.model:
        raise HostRefused(
            f"'learned_mixed_scale' learns its gate on a model whose tokens nothing else reduces, and those of '{model.card.label}' are "
            "reduced already; put it first."
        )
    first = _first(draws, model.channels * region[0] * region[1], hidden, share)
    gate = Gate(*(part.to(model.get_buffer("mean").dtype).requires_grad_() for part in first))
    walk = GatedScales(copied.model, region, gate)
    copied.model.forward = walk
    optimizer = torch.optim.Adam(gate, lr=_RATE)
    for step, rows in enumerate(rows_of_steps(order(data.ids)[:samples], model.tile, steps, draws)):
        optimizer.param_groups[0]["lr"] = _RATE * falling(step, steps)
        batch = load_batch(data, rows)
        walk.uniform = draws.at(f"noise {step}").uniform(len(batch), regions_of(model, region))[0]
        optimizer.zero_grad()
        if step < steps // _SHAPED:
            normal = (batch.images - model.get_buffer("mean")) / model.get_buffer("std")
            walk.logits, loss = gate_logits(gate, normal, region), gate.shift * 0.0
        else:
            loss = functional.cross_entropy(copied(batch.images), _labels(model, batch))
        torch.autograd.backward(loss + weight * batch_shaping(walk.logits.sigmoid(), 1.0 - share, TEMPERATURE))
        optimizer.step()
    return {name: part.detach() for name, part in gate._asdict().items()}


def batch_shaping(gates: Tensor, share: float, temperature: float) -> Tensor:
    """(): how far gates (N, P) of N images are from a relaxed Bernoulli distribution at each of P positions.

    Batch shaping (Ehteshami Bejnordi, Blankevoort and Welling 2020), for each position alone as in MSViT: of its gates x₁ ≤ … ≤ x_N the
    mean of (i/(N + 1) − F(x_i))², and the mean of that over positions.
    """
    ordered = gates.sort(dim=0).values
    ranks = torch.arange(1, len(gates) + 1, device=gates.device, dtype=gates.dtype) / (len(gates) + 1)
    return (ranks[:, None] - relaxed_bernoulli_cdf(ordered, share, temperature)).square().mean()


def relaxed_bernoulli_cdf(gates: Tensor, share: float, temperature: float) -> Tensor:
    """F(x) = σ(τ · logit(x) − logit(share)), x in [0, 1]: of σ((logit(share) + L)/τ) for logistic L, a share of which is above ½.

    A share of ½ and a temperature of 1 make it uniform. (Maddison, Mnih and Teh 2017.)
    """
    return (temperature * gates.clamp(_EDGE, 1.0 - _EDGE).logit() - math.log(share / (1.0 - share))).sigmoid()


def hard_gate(logits: Tensor, uniform: Tensor) -> Tensor:
    """0 or 1: a relaxed Bernoulli sample above ½, with the slope of that sample. uniform: in [0, 1), the noise; ½ is none."""
    relaxed = ((logits + uniform.clamp(_EDGE, 1.0 - _EDGE).logit()) / _NOISE).sigmoid()
    return (relaxed > 0.5).to(relaxed.dtype) + (relaxed - relaxed.detach())


class GatedScales:
    """A plain transformer on the tokens of both scales, of which gates let attention and head see one for each region.

    Called with normalised images (N, 3, H, W) it returns their logits, equal to those of the tokens that gates choose, and sets `logits`,
    (N, regions): the gates before their noise, which is `uniform`.
    """

    logits: Tensor
    uniform: Tensor

    def __init__(self, vit: Any, region: tuple[int, int], gate: Gate) -> None:
        self.vit, self.region, self.gate = vit, region, gate

    def __call__(self, images: Tensor) -> Tensor:
        """(N, K) logits of normalised images (N, 3, H, W)."""
        vit = self.vit
        self.logits = gate_logits(self.gate, images, self.region)
        gates = hard_gate(self.logits, self.uniform.to(self.logits))
        fine = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        values = torch.cat((fine, embedded_regions(vit, images, SIDE)), dim=1)
        members = members_of(images.shape[2] // self.region[0], images.shape[3] // self.region[1]).to(images.device)
        own = members.flatten().argsort() // SIDE**2
        seen = torch.cat((gates.new_ones(len(gates), vit.num_prefix_tokens), gates[:, own], 1.0 - gates), dim=1)
        for block in vit.blocks:
            projected = projections_of(block.attn, block.norm1(values))
            found = attention_map(block.attn, projected) * seen[:, None, None]
            found = found / found.sum(dim=3, keepdim=True).clamp_min(LEAST_WEIGHT)
            values = values + block.drop_path1(block.ls1(output(block.attn, found @ projected.value, projected.gate)))
            values = values + block.drop_path2(block.ls2(block.mlp(block.norm2(values))))
        sizes = torch.ones_like(seen)
        sizes[:, -gates.shape[1] :] = SIDE**2
        return self._head(vit.norm(values), sizes * seen)

    def _head(self, values: Tensor, weights: Tensor) -> Tensor:
        """(N, K): the model's own head; a mean of tokens is weighted."""
        vit = self.vit
        if vit.global_pool == "avg" and vit.attn_pool is None:
            first = 0 if vit.pool_include_prefix else vit.num_prefix_tokens
            of = weights[:, first:, None]
            pooled = (values[:, first:] * of).sum(dim=1, keepdim=True) / of.sum(dim=1, keepdim=True)
            values = torch.cat((values[:, : vit.num_prefix_tokens], pooled), dim=1) if first else pooled
        logits: Tensor = vit.forward_head(values)
        return logits


def _labels(model: Classifier, batch: Batch) -> Tensor:
    """The labels of a batch, for images of no class the model's own predictions."""
    if not bool((batch.labels == NO_CLASS).any()):
        return batch.labels
    with torch.no_grad():
        return torch.where(batch.labels == NO_CLASS, model(batch.images).argmax(dim=1), batch.labels)


def _first(draws: Draws, pixels: int, hidden: int, share: float) -> Gate:
    """The gate before the first step: normal weights as of He et al. 2015, and the shift of the share of fine regions."""
    into, out = draws.at("into").normal(hidden, pixels)[0], draws.at("out").normal(hidden)[0]
    shift = torch.tensor(math.log((1.0 - share) / share), device=into.device)
    return Gate(into * math.sqrt(2.0 / pixels), torch.zeros(hidden, device=into.device), out / math.sqrt(hidden), shift)
