"""Token-aware average pooling: a structure that is trained with a model."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.defense import Defense
from robustvit.primitives.limits import Count
from robustvit.primitives.structure.token_aware_pooling import pool_before_attention
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{guo2023robustifying,
  title={Robustifying Token Attention for Vision Transformers},
  author={Guo, Yong and Stutz, David and Schiele, Bernt},
  booktitle={IEEE/CVF International Conference on Computer Vision},
  year={2023}
}"""


@defense(
    family="structure", source="Guo et al. 2023", url="https://arxiv.org/abs/2303.11126", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="With `adl` it is TAPADL. For training from the start, or of many epochs: on a trained model attention gets other tokens than it "
    "was trained on. Differs from the paper, whose models have no class token: prefix tokens are not pooled.",
)  # fmt: skip
def tap(*, scales: Count = 4) -> Defense:
    """Token-aware average pooling (TAP, Guo et al. 2023): attention gets of each patch token a weighted mean of those around it.

    scales: pools; 0 is the token itself and d the mean of nine tokens d patches apart. Two small convolutions, with batch normalisation
    between them, give each token its weights, which are trained. 1 is the model itself. The checkpoint names the transform
    `token_aware_pooling`. Takes timm's plain vision transformers.
    """

    def prepare(model: nn.Module) -> nn.Module:
        return pool_before_attention(plain_host(model, "tap"), scales)

    return Defense("tap", prepare=prepare, surgery=named_surgery("token_aware_pooling", scales=scales))
