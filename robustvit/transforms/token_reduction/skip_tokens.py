"""Tokens that skip some blocks and come back in their places."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated

from annotated_types import Ge, Lt

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Count
from robustvit.primitives.surgery.token_reduction import TokenPolicy, depth_of, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens
from robustvit.spec.registry import transform

_ROUNDING = 1e-9  # of a product of a share and a whole number, which must not come out below the whole number that it is
_FIRST, _LAST, _OF = 5, 9, 12  # the default blocks of twelve


@transform(
    family="token-reduction", source="Ataiefard et al. 2024", url="https://arxiv.org/abs/2401.15293",
    rules="Nothing is trained here. Reconstructed from the abstract: the range of blocks is ours, and the ranking is that of the attention "
    "in the block before it, so that no attention of the skipped tokens is computed. Report it under that name. Gradients are exact on the "
    "chosen branch and blind to the choice.",
    hosts="plain", no_op="share=0",
)  # fmt: skip
def skip_tokens(
    model: Classifier, *, share: Annotated[float, Ge(0), Lt(1)] = 0.55, first: Count | None = None, last: Count | None = None
) -> Classifier:  # fmt: skip
    """Token-level skip connection (SkipViT, Ataiefard et al. 2024): the least attended patch tokens bypass some blocks unchanged.

    share: of the patch tokens, rounded down, that skip blocks first … last, counted from 0, and then rejoin the others in their places; 0
    changes nothing. They are those to which the class token attends least in block first − 1, the mean over heads; where logits are not
    read from a class token, the mean of the patch tokens' queries. first, last: default 5 and 9 of 12 blocks, and in proportion. Raises
    BadParameter for blocks that the model does not have.
    """
    depth = depth_of(model)
    first = max(1, depth * _FIRST // _OF) if first is None else first
    last = max(first, depth * _LAST // _OF) if last is None else last
    if not 1 <= first <= last < depth:
        raise BadParameter(
            f"transform 'skip_tokens': first is {first} and last is {last}; model '{model.card.label}' has {depth} blocks, counted from 0, "
            f"and 1 ≤ first ≤ last ≤ {depth - 1} is needed, as the block before the first ranks the tokens."
        )
    return reduce_tokens(model, Bypass(share, first, last))


class Bypass(TokenPolicy):
    """Sets the least attended patch tokens aside before one block and returns them after another."""

    def __init__(self, share: float, first: int, last: int) -> None:
        super().__init__()
        self.share, self.first, self.last = share, first, last

    def reads(self, index: int) -> Collection[str]:
        """The class token's attention, in the block before the first that is skipped."""
        return ("class_attention",) if index == self.first - 1 else ()

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        """The tokens that go on, in their order; after the last block, all of them."""
        if index == self.first - 1:
            return self._parted(tokens)
        if index == self.last and id(self) in tokens.aside:
            return self._rejoined(tokens)
        return tokens

    def _parted(self, tokens: Tokens) -> Tokens:
        kept = tokens.patches - math.floor(self.share * tokens.patches + _ROUNDING)
        if kept == tokens.patches:
            return tokens
        order = tokens.patch(tokens.columns["class_attention"]).argsort(dim=1, descending=True, stable=True)
        going, skipping = (tokens.take(part.sort(dim=1).values) for part in (order[:, :kept], order[:, kept:]))
        return going.having(aside={**tokens.aside, id(self): skipping.having(columns={}, aside={})})

    def _rejoined(self, tokens: Tokens) -> Tokens:
        left = {policy: one for policy, one in tokens.aside.items() if policy != id(self)}
        together = tokens.having(columns={}, aside=left).behind(tokens.aside[id(self)])
        return together.take(together.places.argsort(dim=1, stable=True))
