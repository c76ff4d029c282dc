"""Learned thresholds for merging and pruning tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.surgery.token_reduction import TokenPolicy, depth_of, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec
from robustvit.transforms.token_reduction.evit import Share
from robustvit.transforms.token_reduction.ltmp_learning import LoadBatch, learn_thresholds, partners

_CITATION = """@article{bonnaerens2023ltmp,
  title={Learned Thresholds Token Merging and Pruning for Vision Transformers},
  author={Bonnaerens, Maxim and Dambre, Joni},
  journal={Transactions on Machine Learning Research},
  year={2023}
}"""


@transform(
    family="token-reduction", source="Bonnaerens and Dambre 2023", url="https://arxiv.org/abs/2307.10780", citation=_CITATION,
    licence="the authors' code has no licence; this is written from the paper",
    rules="Its cost depends on the image: report the mean GMACs of the very images, clean and shifted. Thresholds are learned on other "
    "samples than those that are judged; weights stay. Differs from the paper: Adam whose steps shrink takes the place of an epoch of SGD "
    "over ImageNet; tokens keep their order when they are merged, so that the pairs are those that the thresholds were learned with; the "
    "most important patch token always stays. Gradients are exact on the chosen branch and blind to the choice.",
    hosts="plain", no_op="target=1", fit="fit_thresholds", passes="fit_passes",
)  # fmt: skip
def ltmp(
    model: Classifier, artifact: Mapping[str, Tensor], *, calibration: Data, target: Share = 0.75, samples: Count = 1000, steps: Count = 200
) -> Classifier:  # fmt: skip
    """Learned thresholds for token merging and pruning (LTMP, Bonnaerens and Dambre 2023): two thresholds in every block.

    target: the share of the operations of the blocks that thresholds are learned for; 1 changes nothing. calibration: the data that they
    are learned on, the first `samples` of it, in so many `steps` of gradient descent. Between attention and MLP of every block a patch
    token at an even position is merged into the one at an odd position whose key, averaged over heads, is nearest by cosine, where that is
    above one threshold; then the tokens go whose importance, the attention they receive as a mean over heads and queries and the largest
    of merged ones, is not above the other. Tokens are averaged by size, and attended to in proportion to it.
    """
    policy = Thresholds(depth_of(model), active=target < 1)
    if target < 1:
        policy.merge, policy.prune = (artifact[name].to(model.device) for name in ("merge", "prune"))
    return reduce_tokens(model, policy)


def fit_thresholds(
    model: Classifier, load_batch: LoadBatch, draws: Draws, *, calibration: Data, target: float, samples: int, steps: int
) -> dict[str, Tensor]:  # fmt: skip
    """merge and prune, (L,) each: the thresholds of every block. Raises HostRefused for a model whose tokens are reduced already."""
    return {} if target == 1 else learn_thresholds(model, load_batch, draws, calibration, target, samples, steps)


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample that it is applied to; a gradient pass for each row of a tile in every step, once."""
    return Passes(fit=0.0 if spec.get("target") == 1 else product_of(spec, "steps") * model.tile)


class Thresholds(TokenPolicy):
    """Merges and prunes patch tokens by a threshold each in every block. merge, prune: (L,)."""

    proportional = True
    merge: Tensor
    prune: Tensor

    def __init__(self, depth: int, active: bool) -> None:
        super().__init__()
        self.active = active
        self.register_buffer("merge", torch.full((depth,), torch.inf))
        self.register_buffer("prune", torch.full((depth,), -torch.inf))

    def reads(self, index: int) -> Collection[str]:
        """Keys, and the attention that tokens receive."""
        return ("keys", "received_attention") if self.active else ()

    def after_attention(self, index: int, tokens: Tokens) -> Tokens | list[Tokens]:
        """What is left of each image's tokens, in their order."""
        if not self.active:
            return tokens
        alive = torch.ones_like(tokens.sizes, dtype=torch.bool)
        found = partners(tokens.columns["keys"], alive, tokens.prefix)
        merged = found.similarity > self.merge[index]
        rows = zip(tokens.each(), merged, found.partner, strict=True)
        return [_pruned(_merged(one, gone, to), self.prune[index]) for one, gone, to in rows]


def _merged(one: Tokens, gone: Tensor, to: Tensor) -> Tokens:
    """The tokens of one image, those that are `gone` (T,) merged into others `to` (T,); importance is the largest of those merged."""
    gone, to = gone[one.prefix :], to[one.prefix :] - one.prefix
    left = (~gone).nonzero()[:, 0]
    own = (~gone).cumsum(dim=0) - 1
    group = torch.where(gone, own[to.clamp_min(0)], own)[None]
    importance = one.patch(one.columns["received_attention"])
    largest = torch.zeros_like(importance[:, : len(left)]).scatter_reduce(1, group, importance, "amax")
    merged = one.merge(group, len(left), places=one.places[:, left])
    received = torch.cat((one.columns["received_attention"][:, : one.prefix], largest), dim=1)
    return merged.having(columns={**merged.columns, "received_attention": received})


def _pruned(one: Tokens, threshold: Tensor) -> Tokens:
    """The tokens of one image whose importance is above the threshold, and the most important one."""
    importance = one.patch(one.columns["received_attention"])[0]
    stays = importance > threshold
    stays[importance.argmax()] = True
    return one.take(stays.nonzero()[None, :, 0])
