"""Token merging: similar tokens become one, the same number in every block."""

from __future__ import annotations

from collections.abc import Collection

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.surgery.token_merging import merge_pairs
from robustvit.primitives.surgery.token_reduction import TokenPolicy, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens
from robustvit.spec.registry import transform

_CITATION = """@inproceedings{bolya2023tome,
  title={Token Merging: Your {ViT} But Faster},
  author={Bolya, Daniel and Fu, Cheng-Yang and Dai, Xiaoliang and Zhang, Peizhao and Feichtenhofer, Christoph and Hoffman, Judy},
  booktitle={International Conference on Learning Representations},
  year={2023}
}"""


@transform(
    family="token-reduction", source="Bolya et al. 2023", url="https://arxiv.org/abs/2210.09461", citation=_CITATION,
    licence="the authors' code is CC BY-NC 4.0; this is written from the paper",
    rules="Nothing is trained. Report GMACs beside accuracy. Differs from the authors' code: LayerScale and every prefix token are "
    "honoured, and tokens that are not merged keep their order also where there is no class token. Gradients are exact on the chosen "
    "branch and blind to the choice: report restarts and a black-box attack, too.",
    hosts="plain", no_op="r=0",
)  # fmt: skip
def tome(model: Classifier, *, r: Whole = 8, prop_attn: bool = True) -> Classifier:
    """Token merging (ToMe, Bolya et al. 2023): merges the r most similar pairs of patch tokens between attention and MLP of every block.

    r: tokens fewer with every block, at most half of the patch tokens that are left; 0 changes nothing. prop_attn: whether a token
    of n patches receives attention as n tokens would. Tokens at even positions each propose the one at an odd position whose key, averaged
    over heads, is nearest by cosine; the r best proposals are merged, averaged by size. A head that averages tokens weighs them by size.
    """
    return reduce_tokens(model, PairMerging(r, prop_attn))


class PairMerging(TokenPolicy):
    """Merges `r` patch tokens into similar ones in every block."""

    def __init__(self, r: int, proportional: bool) -> None:
        super().__init__()
        self.r, self.proportional = r, proportional

    def reads(self, index: int) -> Collection[str]:
        """Keys."""
        return ("keys",) if self.r else ()

    def after_attention(self, index: int, tokens: Tokens) -> Tokens:
        """The tokens with up to `r` of them merged: first those at even positions that are left, then those at odd positions."""
        r = min(self.r, tokens.patches // 2)
        return merge_pairs(tokens, tokens.patch(tokens.columns["keys"]), r) if r else tokens
