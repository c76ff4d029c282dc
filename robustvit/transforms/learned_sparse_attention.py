"""Learned sparse attention: each query attends to the keys of its largest scores by a cheap prediction of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import computed_size
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.primitives.quantisation.calibration import LoadBatch, calibrated
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.plain_attention import select_keys
from robustvit.primitives.surgery.token_merging import share_of
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec
from robustvit.transforms.key_prediction import ROWS, KeyPredictor, Predictor, learn_predictors
from robustvit.transforms.sparse_attention import CITATION, Share

_REDUCTION = 6  # tokens for each row of the basis
_STEP = 2.5  # forward passes that an image of a step takes; measured


@transform(
    family="sparse-attention", source="Wei et al. 2023 (Sparsifiner)", url="https://arxiv.org/abs/2303.13755", citation=CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="Its MACs are nominal: the predictor's, and those of the entries of maps and basis that are left, as a kernel for sparse "
    "products computes them; here all are computed and masked, so that no time is saved. Report `sparse_attention` beside it, the "
    "same share by the true scores: that keeps the most attention, and need not keep the most accuracy. Differs from the paper: "
    "the predictor alone is learned, in some hundred steps on frozen weights, and nothing is fine-tuned; it is fitted to square "
    "roots of maps, as it is applied, where the paper fits the maps themselves without sparsity; projections and basis have a "
    "start in closed form and no bias; the basis is of attention relative to the uniform one, so that its threshold .02 does not "
    "depend on the number of tokens. Distillation and register tokens attend to all keys, too, as the class token does. Gradients "
    "are exact on the chosen keys and blind to the choice.",
    hosts="plain-patches", no_op="keep=1", fit="fit_predictors", passes="fit_passes",
)  # fmt: skip
def learned_sparse_attention(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    calibration: Data,
    keep: Share = 0.25,
    coefficients: Count = 8,
    basis: Count | None = None,
    samples: Count = 256,
    steps: Count = 200,
) -> Classifier:
    """Sparse attention by a learned prediction (Sparsifiner, Wei et al. 2023): the softmax is over the largest predicted scores.

    keep: the share of keys, prefix included, that each patch token attends to in every head of every block, rounded up, of equal scores the
    first ones; 1 changes nothing. Prefix tokens attend to all. Scores are a sum of the rows of a basis, one for each block, weighted by the
    so many largest `coefficients` of the query: a softmax over products of queries and sums of keys, both projected to half their channels.
    basis: its rows, at most as many as there are tokens; default a sixth of the tokens, and no fewer than coefficients. calibration: the
    data that all this is learned on, the first `samples` of it, in so many `steps`. Raises HostRefused for a model that computes on fewer
    tokens, or an artifact of another number of tokens.
    """
    tokens = _tokens(model)
    if keep == 1:
        return changed(model, unchanged)
    rows, width = _rows(model, basis, coefficients), plain_vit(model.model).blocks[0].attn.head_dim
    depth, half = len(plain_vit(model.model).blocks), max(1, width // 2)
    shapes = {"query": (half, width), "key": (half, width), "pool": (tokens, rows), "basis": (rows, tokens)}
    learned = {name: calibrated(artifact, name, (depth, *shape), model) for name, shape in shapes.items()}
    if learned["pool"].shape[1] != tokens:
        raise HostRefused(
            f"'learned_sparse_attention' does not take '{model.card.label}': it has learned of {learned['pool'].shape[1]} tokens, and "
            f"images of {'x'.join(map(str, computed_size(model)))} pixels have {tokens}; learn it at this size."
        )

    def selecting(module: nn.Module) -> nn.Module:
        vit = plain_vit(module)
        for index, block in enumerate(vit.blocks):
            of = Predictor(*(learned[name][index].clone() for name in Predictor._fields))
            predictor = KeyPredictor(of, min(coefficients, rows), share_of(tokens, keep), vit.num_prefix_tokens)
            block.attn = select_keys(block.attn, predictor)
        return module

    return changed(model, selecting)


def fit_predictors(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, calibration: Data, keep: float, coefficients: int, basis: int | None, samples: int, steps: int,
) -> dict[str, Tensor]:  # fmt: skip
    """query, key, pool and basis of every block, see `key_prediction`; nothing where all keys are kept."""
    _tokens(model)
    rows = _rows(model, basis, coefficients)
    if keep == 1:
        return {}
    return learn_predictors(model, load_batch, draws, calibration, rows, min(coefficients, rows), samples, steps)


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample that it is applied to; some forward passes for each image of a step, once."""
    return Passes(fit=0.0 if spec.get("keep") == 1 else _STEP * ROWS * product_of(spec, "steps") / GRADIENT)


def _tokens(model: Classifier) -> int:
    """How many tokens each block computes. Raises HostRefused where they may be fewer than those of the image."""
    module: Any = model.model
    if plain_vit(module) is not module:
        raise HostRefused(
            f"'learned_sparse_attention' predicts the attention of all tokens, each at its place, and '{model.card.label}' computes on "
            "fewer; put it first."
        )
    (height, width), (high, wide) = module.patch_embed.patch_size, computed_size(model)
    return int(module.num_prefix_tokens + (high // height) * (wide // width))


def _rows(model: Classifier, basis: int | None, coefficients: int) -> int:
    """How many rows a basis has. Raises BadParameter for more than there are tokens."""
    tokens = _tokens(model)
    if basis is None:
        return min(tokens, max(coefficients, tokens // _REDUCTION))
    if basis > tokens:
        raise BadParameter(
            f"transform 'learned_sparse_attention': basis is {basis}; it takes 1 to {tokens} rows, as many as model '{model.card.label}' "
            "has tokens."
        )
    return basis
