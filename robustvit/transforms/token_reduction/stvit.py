"""Semantic tokens learned on a frozen model: tokens pooled over the grid of patches gather what they need by cross-attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Whole
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.shared_weights import shared_copy
from robustvit.primitives.surgery.hosts import plain_vit, refusing, require_gradient
from robustvit.primitives.surgery.learning import falling, rows_of_steps
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.token_reduction import ReducedViT, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens
from robustvit.spec.registry import transform
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec
from robustvit.transforms.token_reduction.cross_attention import CrossBlock, tensors_of
from robustvit.transforms.token_reduction.ltmp_learning import LoadBatch
from robustvit.transforms.token_reduction.semantic_tokens import CITATION, GridPooling, check_block, side_and_grid

_SCALE = 1e-5  # of the branches of both blocks before the first step
_RATE, _FINE_RATE = 1e-2, 3e-4  # of Adam: for scales and embedding, which start at nothing, and for weights, which start at the host's


@transform(
    family="token-reduction", source="Chang et al. 2023 (STViT), on a frozen model", url="https://arxiv.org/abs/2303.08685",
    citation=CITATION, licence="the authors' code is MIT; this is written from the paper",
    rules="Reduced: the paper trains the whole model; here its weights stay, and only the two blocks that make semantic tokens are "
    "learned, between blocks of the model rather than in the place of two. They begin as the model's own next block with next to nothing "
    "added, so that before the first step this is semantic_tokens. Pooling is by the mean in place of the maximum, which is nearer to what "
    "the later blocks were trained on; patches are not recovered. Report its GMACs, which hold the added blocks. Gradients are exact.",
    hosts="plain-patches", no_op="count=0", fit="learn_tokens", passes="fit_passes",
)  # fmt: skip
def stvit(
    model: Classifier, artifact: Mapping[str, Tensor], *, calibration: Data, count: Whole = 16, at: Whole = 4, samples: Count = 1000,
    steps: Count = 200,
) -> Classifier:  # fmt: skip
    """Semantic tokens (STViT, Chang et al. 2023) learned on a frozen model: few tokens that attended to all patches, from one block on.

    count: how many patch tokens there are from then on, a square number s · s; 0 changes nothing. at: the first block that computes them,
    counted from 0. Each begins as the mean of its window of the grid, as semantic_tokens pools. In one block of their own they attend to
    themselves and all patch tokens, in a second, after a learned embedding of each is added, to what they were without it and all patch
    tokens. Both are learned on the first `samples` of calibration, which needs no labels, in so many `steps` of Adam of a tile each, whose
    rate falls to 0 along a cosine: the loss is the divergence KL(p‖q) of the predictions q from those of the model itself, p, because it is
    the model that is to be kept. Prefix tokens stay. Raises BadParameter as semantic_tokens does, HostRefused for an MLP that is gated.
    """
    if not count:
        return changed(model, unchanged)
    check_block("stvit", model, at)
    like = next(plain_vit(model.model).parameters())
    return reduce_tokens(model, _policy(model, {name: one.to(like) for name, one in artifact.items()}, count, at))


def learn_tokens(
    model: Classifier, load_batch: LoadBatch, draws: Draws, *, calibration: Data, count: int, at: int, samples: int, steps: int
) -> dict[str, Tensor]:  # fmt: skip
    """The tensors of both blocks and the embedding. Every step takes a tile, in an order drawn for every pass over the samples."""
    if not count:
        return {}
    check_block("stvit", model, at)
    require_gradient("stvit", model)
    policy = _policy(model, initial(model, count, at), count, at).requires_grad_()
    student = _reduced(model, policy)
    new = [one for name, one in policy.named_parameters() if "scale" in name or name == "embedding"]
    old = [one for one in policy.parameters() if all(one is not other for other in new)]
    groups = [{"params": params, "lr": rate} for params, rate in ((new, _RATE), (old, _FINE_RATE))]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: falling(step, steps))
    for rows in rows_of_steps(order(calibration.ids)[:samples], model.tile, steps, draws):
        images = load_batch(calibration, rows).images
        optimizer.zero_grad()
        torch.autograd.backward(divergence(student, model, images))
        optimizer.step()
        schedule.step()
    return {name: one.detach().clone() for name, one in policy.state_dict().items()}


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample that it is applied to; a gradient pass for each row of a tile in every step, once."""
    return Passes(fit=0.0 if spec.get("count") == 0 else product_of(spec, "steps") * model.tile)


def initial(model: Classifier, count: int, at: int) -> dict[str, Tensor]:
    """The tensors before the first step: both blocks are the model's block `at` with branches of almost nothing, the embedding is 0."""
    vit = plain_vit(model.model)
    with refusing("stvit", model):
        block = tensors_of(vit.blocks[at], _SCALE)
    made = {f"{place}.{name}": tensor for place in ("first", "second") for name, tensor in block.items()}
    return made | {"embedding": block["scale1"].new_zeros(count, vit.embed_dim)}


def divergence(student: Classifier, teacher: Classifier, images: Tensor) -> Tensor:
    """The mean over images of KL(p‖q), q of the student and p of the teacher."""
    with torch.no_grad():
        wanted = teacher(images).log_softmax(dim=1)
    return functional.kl_div(student(images).log_softmax(dim=1), wanted, reduction="batchmean", log_target=True)


class SemanticAttention(GridPooling):
    """Pools patch tokens over their grid before a block, and lets what is pooled attend to itself and all patch tokens, twice."""

    transform = "stvit"

    def __init__(self, side: int, grid: tuple[int, int], at: int, like: Any, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(side, grid, at)
        self.first, self.second = (CrossBlock(like, _behind(f"{place}.", tensors)) for place in ("first", "second"))
        self.embedding = nn.Parameter(tensors["embedding"].clone())

    def pooled(self, tokens: Tokens) -> Tokens:
        """The semantic tokens behind the prefix, with the operations of both blocks."""
        made, patches = super().pooled(tokens), tokens.patch(tokens.values)
        begun = made.patch(made.values)
        once = self.first(begun, torch.cat((begun, patches), dim=1))
        semantic = self.second(once + self.embedding, torch.cat((once, patches), dim=1))
        macs = sum(block.macs(made.patches, made.patches + tokens.patches) for block in (self.first, self.second))
        values = torch.cat((made.values[:, : made.prefix], semantic.to(made.values.dtype)), dim=1)
        return made.having(values=values, costs=made.costs.plus(macs))


def _policy(model: Classifier, tensors: Mapping[str, Tensor], count: int, at: int) -> SemanticAttention:
    return SemanticAttention(*side_and_grid("stvit", model, count), at, plain_vit(model.model).blocks[at], tensors)


def _reduced(model: Classifier, policy: SemanticAttention) -> Classifier:
    """A copy of the model, whatever its class, whose transformer has this policy; its own weights are frozen."""
    copied: Any = shared_copy(model, model.card.label)
    if isinstance(copied.model, ReducedViT):
        copied.model.policies.append(policy)
    else:
        copied.model.forward = ReducedViT(copied.model, [policy]).forward
    student: Classifier = copied
    return student


def _behind(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(start): one for name, one in tensors.items() if name.startswith(start)}
