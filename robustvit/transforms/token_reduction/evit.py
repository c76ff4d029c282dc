"""Token reorganisation: the tokens that the class token attends to stay, the others become one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, TypeAlias

import torch
from annotated_types import Gt, Le

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.token_merging import by_attention, share_of
from robustvit.primitives.surgery.token_reduction import TokenPolicy, chosen_blocks, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens
from robustvit.spec.registry import transform

Share: TypeAlias = Annotated[float, Gt(0), Le(1)]

_CITATION = """@inproceedings{liang2022evit,
  title={Not All Patches are What You Need: Expediting Vision Transformers via Token Reorganizations},
  author={Liang, Youwei and Ge, Chongjian and Tong, Zhan and Song, Yibing and Wang, Jue and Xie, Pengtao},
  booktitle={International Conference on Learning Representations},
  year={2022}
}"""


@transform(
    family="token-reduction", source="Liang et al. 2022", url="https://arxiv.org/abs/2202.07800", citation=_CITATION,
    licence="the authors' code is Apache-2.0; this is written from the paper and its token counts",
    rules="Nothing is trained here, where the authors train with a falling keep rate: say so beside their figures. Differs from their "
    "code: distillation and register tokens are protected, too, and where logits are not read from a class token the mean of the patch "
    "tokens' queries takes its place. Gradients are exact on the chosen branch and blind to the choice: report restarts and a black-box "
    "attack, too.",
    hosts="plain", no_op="keep=1",
)  # fmt: skip
def evit(model: Classifier, *, keep: Share = 0.7, blocks: tuple[int, ...] | None = None, fuse: bool = True) -> Classifier:
    """Token reorganisation (EViT, Liang et al. 2022): keeps the patch tokens that the class token attends to most, at some blocks.

    keep: the share of patch tokens that stay at each of these blocks, rounded up; 1 changes nothing. blocks: counted from 0; default those
    at a quarter, half and three quarters of the depth, 3, 6 and 9 of 12. fuse: whether the others become one token, their sum weighted by
    the class token's attention; it counts as a patch token from then on. Tokens are chosen between attention and MLP, by attention averaged
    over heads. Raises BadParameter for blocks that the model does not have.
    """
    return reduce_tokens(model, AttentiveSelection(keep, chosen_blocks("evit", blocks, model), fuse))


class AttentiveSelection(TokenPolicy):
    """Keeps a share of the patch tokens by the class token's attention, and fuses the others."""

    def __init__(self, keep: float, blocks: tuple[int, ...], fuse: bool) -> None:
        super().__init__()
        self.keep, self.blocks, self.fuse = keep, blocks, fuse

    def reads(self, index: int) -> Collection[str]:
        """The class token's attention, at its blocks."""
        return ("class_attention",) if index in self.blocks and self.keep < 1 else ()

    def after_attention(self, index: int, tokens: Tokens) -> Tokens:
        """The kept tokens, by falling attention, and the fused one."""
        kept = share_of(tokens.patches, self.keep)
        if index not in self.blocks or kept == tokens.patches:
            return tokens
        attentive, others = by_attention(tokens, kept)
        return attentive.behind(fused(others)) if self.fuse else attentive


def fused(tokens: Tokens) -> Tokens:
    """All patch tokens as one: their sum weighted by the class token's attention, whose weights add up to less than 1."""
    everything = tokens.merge(torch.zeros_like(tokens.places), 1)
    weights = tokens.patch(tokens.columns["class_attention"])[:, :, None]
    summed = (weights * tokens.patch(tokens.values)).sum(dim=1, keepdim=True)
    return everything.having(values=torch.cat((tokens.values[:, : tokens.prefix], summed), dim=1), merged=tokens.merged)
