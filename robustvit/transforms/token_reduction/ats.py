"""Adaptive token sampling: as many tokens as an image needs, by inverse transform sampling of their significance."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.surgery.token_reduction import TokenPolicy, chosen_blocks, depth_of, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens
from robustvit.spec.registry import transform

_CITATION = """@inproceedings{fayyaz2022ats,
  title={Adaptive Token Sampling For Efficient Vision Transformers},
  author={Fayyaz, Mohsen and Abbasi Koohpayegani, Soroush and Rezaei Jafari, Farnoush and Sengupta, Sunando and Vaezi Joze, Hamid Reza
    and Sommerlade, Eric and Pirsiavash, Hamed and Gall, J{\\"u}rgen},
  booktitle={European Conference on Computer Vision},
  year={2022}
}"""


@transform(
    family="token-reduction", source="Fayyaz et al. 2022", url="https://arxiv.org/abs/2111.15667", citation=_CITATION,
    licence="the authors' code is Apache-2.0; this is written from the paper and its settings",
    rules="Its cost depends on the image: report the mean GMACs of the very images, clean and shifted. Differs from the authors' code: an "
    "image's tokens go on alone, where that pads them to the longest of the batch; every prefix token is protected; the block in which "
    "tokens are sampled computes its attention for all, with the same result. Gradients are exact on the chosen branch and blind to the "
    "choice: report restarts and a black-box attack, too.",
    hosts="plain", no_op="samples=0",
)  # fmt: skip
def ats(model: Classifier, *, samples: Whole | None = None, blocks: tuple[int, ...] | None = None) -> Classifier:
    """Adaptive token sampling (ATS, Fayyaz et al. 2022): keeps the patch tokens that equidistant samples of their significance fall on.

    samples: how many in each block; default as many as the image has patches, so that nothing but redundancy decides. A token's
    significance is the class token's attention to it times the norm of its value, both over all heads; samples are evenly spaced from the
    smallest positive value of its cumulative distribution, in rising order and scaled to [0, 1], to 1, and each takes the token
    whose value is nearest. Nothing is drawn. 0 changes nothing. blocks: default those from a quarter of the depth on, 3 … 11 of 12.
    Raises BadParameter for blocks that the model does not have.
    """
    depth = depth_of(model)
    chosen = chosen_blocks("ats", tuple(range(depth // 4, depth)) if blocks is None else blocks, model)
    return reduce_tokens(model, Sampling(samples, chosen))


class Sampling(TokenPolicy):
    """Keeps the patch tokens that samples of their significance fall on."""

    def __init__(self, samples: int | None, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.samples, self.blocks = samples, blocks
        self._patches = 0

    def reads(self, index: int) -> Collection[str]:
        """The class token's attention and the norms of values, at its blocks."""
        return ("class_attention", "value_norms") if index in self.blocks and self.samples != 0 else ()

    def at_input(self, tokens: Tokens, images: Tensor) -> Tokens:
        """As they are: their number is that of the samples."""
        self._patches = tokens.patches
        return tokens

    def after_attention(self, index: int, tokens: Tokens) -> Tokens | list[Tokens]:
        """The sampled tokens of each image, by rising significance."""
        if index not in self.blocks or self.samples == 0:
            return tokens
        significance = tokens.patch(tokens.columns["class_attention"] * tokens.columns["value_norms"])
        samples = self.samples or self._patches
        return [one.take(sampled(row, samples)[None]) for one, row in zip(tokens.each(), significance, strict=True)]


@torch.no_grad()
def sampled(significance: Tensor, samples: int) -> Tensor:
    """The tokens (k,) on which so many equidistant samples of the cumulative distribution of their significance (T,) fall, rising.

    All of them where no two values of the distribution differ.
    """
    order = significance.argsort(stable=True)
    total = significance.to(torch.promote_types(significance.dtype, torch.float32))[order].cumsum(dim=0)
    span = total[-1] - total[0]
    if not span > 0:
        return order
    scaled = (total - total[0]) / span
    start = scaled[scaled > 0].min()
    at = start + (1.0 - start) * torch.linspace(0.0, 1.0, samples, dtype=total.dtype, device=total.device)
    fallen_on = torch.zeros_like(order, dtype=torch.bool).scatter(0, (at[:, None] - scaled).abs().argmin(dim=1), True)
    return order[fallen_on]
