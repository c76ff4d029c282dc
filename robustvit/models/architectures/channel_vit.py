"""ChannelViT: a vision transformer whose tokens are patches of single channels."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from robustvit.models.timm import Classes
from robustvit.primitives.architectures.channel_embedding import ChannelEmbedding
from robustvit.primitives.architectures.pyramid import patches_along
from robustvit.spec.registry import model

CITATION = """@inproceedings{bao2024channel,
  title={Channel Vision Transformers: An Image Is Worth 1 x 16 x 16 Words},
  author={Bao, Yujia and Sivanandan, Srinivasan and Karaletsos, Theofanis},
  booktitle={International Conference on Learning Representations},
  year={2024}
}"""


@model(
    name="arch/channel_vit", source="Bao et al. 2024", url="https://arxiv.org/abs/2309.16108", citation=CITATION,
    licence="the authors' code is CC BY-NC 4.0; this is written from the paper",
    rules="Channels that a model is not shown have no tokens (keep_channels, channel_subsets), without rescaling. Stochastic depth is left "
    "out.",
)  # fmt: skip
def channel_vit(
    *,
    channels: Annotated[int, Ge(1), Le(4096)] = 3,
    dim: Annotated[int, Ge(1), Le(8192)] = 384,
    heads: Annotated[int, Ge(1), Le(1024)] = 6,
    depth: Annotated[int, Ge(1), Le(1000)] = 12,
    patch_size: Annotated[int, Ge(1), Le(1024)] = 16,
    num_classes: Classes = 1000,
    img_size: Annotated[int, Ge(1), Le(16_384)] = 224,
) -> nn.Module:
    """ChannelViT: every patch of every channel is a token; the projection and the positions are shared, and each channel has an embedding.

    channels: of the images. Attention costs as the square of their number. dim=384 and heads=6 is the paper's S. Raises
    BadParameter where patches do not divide images.
    """
    patches_along("arch/channel_vit", img_size, patch_size)
    return VisionTransformer(
        img_size=img_size, patch_size=patch_size, in_chans=channels, num_classes=num_classes, embed_dim=dim, depth=depth, num_heads=heads,
        pos_embed="none", embed_layer=ChannelEmbedding,
    )  # fmt: skip
