"""Hierarchical pooling: the sequence of patch tokens is max-pooled after some blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Count
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.token_reduction import TokenPolicy, chosen_blocks, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens
from robustvit.spec.registry import transform

_CITATION = """@inproceedings{pan2021hvt,
  title={Scalable Vision Transformers with Hierarchical Pooling},
  author={Pan, Zizheng and Zhuang, Bohan and Liu, Jing and He, Haoyu and Cai, Jianfei},
  booktitle={IEEE/CVF International Conference on Computer Vision},
  year={2021}
}"""


@transform(
    family="token-reduction", source="Pan et al. 2021", url="https://arxiv.org/abs/2103.10619", citation=_CITATION,
    licence="the authors' code is Apache-2.0; this is written from the paper and its token counts",
    rules="Nothing is trained here, where the authors train from scratch without a class token and with new position embeddings after "
    "every pooling: on a trained model prefix tokens are kept aside, and what is pooled gets no new position. Report it under that name.",
    hosts="plain", no_op="kernel=1, stride=1",
)  # fmt: skip
def pool_tokens(model: Classifier, *, kernel: Count = 3, stride: Count = 2, blocks: tuple[int, ...] = (0,)) -> Classifier:
    """Hierarchical pooling of tokens (HVT, Pan et al. 2021): max pooling over the sequence of patch tokens, after some blocks.

    kernel, stride: of the pooling, in tokens in raster order, rows running on into the next; 1 and 1 change nothing. L tokens become
    ⌊(L − kernel) / stride⌋ + 1. blocks: after which, counted from 0. Raises BadParameter for blocks that the model does not have, and
    where a kernel is wider than the sequence.
    """
    chosen, left = chosen_blocks("pool_tokens", blocks, model), int(plain_vit(model.model).patch_embed.num_patches)
    for index in chosen:
        check_width(kernel, index, left)
        left = (left - kernel) // stride + 1
    return reduce_tokens(model, SequencePooling(kernel, stride, chosen))


def check_width(kernel: int, index: int, patches: int) -> None:
    """Raises BadParameter where a kernel is wider than the sequence of patch tokens after a block."""
    if patches < kernel:
        raise BadParameter(
            f"transform 'pool_tokens': kernel is {kernel}; after block {index} an image has {patches} patch tokens left, and the kernel "
            "can be no wider."
        )


class SequencePooling(TokenPolicy):
    """Max-pools the patch tokens after some blocks."""

    def __init__(self, kernel: int, stride: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel, self.stride, self.blocks = kernel, stride, blocks

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        """The pooled tokens, each at the place of the middle of its window; sizes and what is read of attention are averaged."""
        if index not in self.blocks or (self.kernel, self.stride) == (1, 1):
            return tokens
        check_width(self.kernel, index, tokens.patches)
        raster = tokens.take(tokens.places.argsort(dim=1, stable=True))
        middles = torch.arange(self.kernel // 2, tokens.patches - (self.kernel - 1) // 2, self.stride, device=tokens.places.device)
        return raster.having(
            values=self._pooled(raster, raster.values, functional.max_pool1d), sizes=self._pooled(raster, raster.sizes),
            places=raster.places[:, middles],
            columns={name: self._pooled(raster, column) for name, column in raster.columns.items()},
        )  # fmt: skip

    def _pooled(self, tokens: Tokens, of: Tensor, pool: Callable[..., Tensor] = functional.avg_pool1d) -> Tensor:
        """(N, prefix + L', …): something of all tokens (N, T, …), pooled behind the prefix."""
        wide = tokens.patch(of).flatten(2) if of.dim() > 2 else tokens.patch(of)[:, :, None]
        pooled = pool(wide.transpose(1, 2), self.kernel, self.stride).transpose(1, 2)
        return torch.cat((of[:, : tokens.prefix], pooled if of.dim() > 2 else pooled[:, :, 0]), dim=1)
