"""HiLo: attention of high-frequency heads within windows, and of low-frequency heads to averages of windows."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from torch import nn

from robustvit.errors import BadParameter
from robustvit.models.timm import Classes
from robustvit.primitives.architectures.hilo_attention import HiLoAttention
from robustvit.primitives.architectures.pyramid import PatchMap, Pyramid, patches_along
from robustvit.spec.registry import model

CITATION = """@inproceedings{pan2022hilo,
  title={Fast Vision Transformers with HiLo Attention},
  author={Pan, Zizheng and Cai, Jianfei and Zhuang, Bohan},
  booktitle={NeurIPS},
  year={2022}
}"""


@model(
    name="arch/hilo", source="Pan et al. 2022 (LITv2)", url="https://arxiv.org/abs/2205.13213", licence="Apache-2.0", citation=CITATION,
    rules="HiLo attention in a transformer of one width. LITv2's stages, of which the first two have no attention, its convolutions in the "
    "feed-forward layers and its deformable merging are left out, so that its published accuracies are of other models.",
)  # fmt: skip
def hilo(
    *,
    alpha: Annotated[float, Ge(0), Le(1)] = 0.5,
    window: Annotated[int, Ge(1), Le(1024)] = 2,
    dim: Annotated[int, Ge(1), Le(8192)] = 384,
    heads: Annotated[int, Ge(1), Le(1024)] = 6,
    depth: Annotated[int, Ge(1), Le(1000)] = 12,
    patch_size: Annotated[int, Ge(1), Le(1024)] = 16,
    num_classes: Classes = 1000,
    img_size: Annotated[int, Ge(1), Le(16_384)] = 224,
) -> nn.Module:
    """HiLo attention in every block, learned positions, no class token.

    alpha: share of the heads, rounded down, that attend from every token to averages of windows (low frequencies); the others attend within
    each window (high frequencies). window: its side in tokens; 1 is attention between all tokens. The transform lesion_hilo takes one part
    away. Raises BadParameter where patches do not divide images, or windows the grid of patches.
    """
    side = patches_along("arch/hilo", img_size, patch_size)
    if side % window:
        raise BadParameter(f"arch/hilo: {side}x{side} patches do not divide into windows of {window}x{window}.")
    return Pyramid(
        PatchMap(patch_size, dim), [], lambda _, width: HiLoAttention(width, heads, alpha, window), widths=[dim], depths=[depth],
        size=(img_size, img_size), num_classes=num_classes,
    )  # fmt: skip
