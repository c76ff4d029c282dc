"""CPVT: a vision transformer whose positions come from a convolution of its own tokens."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from torch import nn

from robustvit.models.timm import Classes
from robustvit.primitives.architectures.pyramid import GlobalAttention, PatchMap, Pyramid, patches_along
from robustvit.spec.registry import model

CITATION = """@article{chu2021cpvt,
  title={Conditional Positional Encodings for Vision Transformers},
  author={Chu, Xiangxiang and Tian, Zhi and Zhang, Bo and Wang, Xinlong and Shen, Chunhua},
  journal={arXiv preprint arXiv:2102.10882},
  year={2021}
}"""


@model(
    name="arch/cpvt", source="Chu et al. 2021 (CPVT-GAP)", url="https://arxiv.org/abs/2102.10882", licence="Apache-2.0", citation=CITATION,
    rules="The variant that averages its tokens; that with a class token is left out, and so is stochastic depth.",
)  # fmt: skip
def cpvt(
    *,
    dim: Annotated[int, Ge(1), Le(8192)] = 192,
    heads: Annotated[int, Ge(1), Le(1024)] = 3,
    depth: Annotated[int, Ge(1), Le(1000)] = 12,
    patch_size: Annotated[int, Ge(1), Le(1024)] = 16,
    num_classes: Classes = 1000,
    img_size: Annotated[int, Ge(1), Le(16_384)] = 224,
) -> nn.Module:
    """CPVT: no position embedding; after the first block a 3×3 depth-wise convolution of the tokens, padded by zeros, is added to them.

    It takes images of any size that patches divide; BadParameter for another. CPVT-Ti and CPVT-S are dim=192, heads=3 and dim=384, heads=6.
    """
    patches_along("arch/cpvt", img_size, patch_size)
    return Pyramid(
        PatchMap(patch_size, dim), [], lambda _, width: GlobalAttention(width, heads), widths=[dim], depths=[depth],
        size=(img_size, img_size), num_classes=num_classes, positions="peg",
    )  # fmt: skip
