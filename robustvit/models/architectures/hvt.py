"""HVT: a vision transformer whose sequence of tokens is max-pooled between its blocks."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.models.timm import Classes
from robustvit.primitives.architectures.pyramid import GlobalAttention, PatchMap, Pyramid, patches_along
from robustvit.spec.registry import model

CITATION = """@inproceedings{pan2021hvt,
  title={Scalable Vision Transformers with Hierarchical Pooling},
  author={Pan, Zizheng and Zhuang, Bohan and Liu, Jing and He, Haoyu and Cai, Jianfei},
  booktitle={ICCV},
  year={2021}
}"""
_KERNEL, _STRIDE = 3, 2


@model(
    name="arch/hvt", source="Pan et al. 2021", url="https://arxiv.org/abs/2103.10619", licence="Apache-2.0", citation=CITATION,
    rules="Pooling joins the end of one row of patches with the beginning of the next, as in the paper's code. Stochastic depth, which the "
    "paper trains with, is left out.",
)  # fmt: skip
def hvt(
    *,
    pool_width: Annotated[int, Ge(0), Le(1000)] = 12,
    dim: Annotated[int, Ge(1), Le(8192)] = 384,
    heads: Annotated[int, Ge(1), Le(1024)] = 6,
    depth: Annotated[int, Ge(1), Le(1000)] = 12,
    patch_size: Annotated[int, Ge(1), Le(1024)] = 16,
    num_classes: Classes = 1000,
    img_size: Annotated[int, Ge(1), Le(16_384)] = 224,
) -> nn.Module:
    """HVT: attention between all tokens, no class token, and a max-pooling of the sequence (3 wide, stride 2) between blocks.

    pool_width: pooling follows the first block and every pool_width-th after it, with new learned positions; 0 pools nowhere. The paper's
    HVT-S-0, 1, 2, 3 and 4 are 0, 12, 6, 4 and 3; HVT-Ti-1 is 12 with dim=192 and heads=3. Raises BadParameter where no token is left, or
    patches do not divide images.
    """
    depths = _depths(depth, pool_width)
    tokens = patches_along("arch/hvt", img_size, patch_size) ** 2
    for _ in depths[1:]:
        if tokens < _KERNEL:
            raise BadParameter(
                f"arch/hvt: images of {img_size} pixels have {(img_size // patch_size) ** 2} patches of {patch_size}, too few for "
                f"{len(depths) - 1} poolings; raise pool_width, or lower patch_size."
            )
        tokens = (tokens - _KERNEL) // _STRIDE + 1
    return Pyramid(
        PatchMap(patch_size, dim), [SequencePool() for _ in depths[1:]], lambda _, width: GlobalAttention(width, heads),
        widths=[dim] * len(depths), depths=depths, size=(img_size, img_size), num_classes=num_classes,
    )  # fmt: skip


class SequencePool(nn.Module):
    """Max-pooling of a map's tokens as one sequence in raster order: L tokens become ⌊(L − 3) / 2⌋ + 1."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, H, W, D) → (N, L, 1, D)."""
        pooled = functional.max_pool1d(tokens.flatten(1, 2).mT, _KERNEL, _STRIDE)
        return pooled.mT.unsqueeze(2)


def _depths(depth: int, pool_width: int) -> list[int]:
    """The blocks between poolings, which follow block 0, pool_width, 2·pool_width, …: none after a pooling that follows the last."""
    ends = [*range(1, depth + 1, pool_width), depth] if pool_width else [depth]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
