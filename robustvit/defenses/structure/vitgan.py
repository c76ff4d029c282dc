"""What ViTGAN trains its discriminator with: overlapping patches and an improved spectral normalisation."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from robustvit.primitives.defense import Defense
from robustvit.primitives.limits import Count
from robustvit.primitives.structure.overlapping_patches import overlap_patches
from robustvit.primitives.surgery.linear import linear_of
from robustvit.primitives.surgery.modules import named_layers, replace_layer
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{lee2022vitgan,
  title={ViTGAN: Training GANs with Vision Transformers},
  author={Lee, Kwonjoon and Chang, Huiwen and Jiang, Lu and Zhang, Han and Tu, Zhuowen and Liu, Ce},
  booktitle={International Conference on Learning Representations},
  year={2022}
}"""


@defense(
    family="structure", source="Lee et al. 2022 (ViTGAN)", url="https://arxiv.org/abs/2107.04589", citation=_CITATION,
    rules="From a discriminator of images to a classifier of them: the paper trains none.",
)  # fmt: skip
def overlapping_patches(*, overlap: Count = 2) -> Defense:
    """Overlapping patches (ViTGAN, Lee et al. 2022): a kernel of P + 2·overlap at stride P embeds as many patches as before.

    overlap: pixels on each side. The kernel has the old one in its middle and begins at zero around it, so that training begins at the
    model. The checkpoint names the transform `overlapping_patches`. Takes timm's plain vision transformers.
    """
    return Defense(
        "overlapping_patches", prepare=lambda model: overlap_patches(plain_host(model, "overlapping_patches"), overlap),
        surgery=named_surgery("overlapping_patches", overlap=overlap),
    )  # fmt: skip


@defense(
    family="structure", source="Lee et al. 2022 (ViTGAN)", url="https://arxiv.org/abs/2107.04589", citation=_CITATION,
    rules="From a discriminator of images to a classifier of them: the paper trains none. Queries, keys and values are one matrix. What is "
    "kept is a plain model.",
)  # fmt: skip
def improved_spectral_norm() -> Defense:
    """Improved spectral normalisation (ISN; ViTGAN, Lee et al. 2022): every matrix of the blocks keeps its first spectral norm.

    W' = σ(W₀)·W/σ(W), with the exact norm σ(W₀) of the matrix with which training begins, and of W by one more step of power iteration in
    every forward pass of training; gradients flow through σ(W). The model that is kept has W' by the exact σ(W). Takes timm's plain vision
    transformers.
    """

    def prepare(model: nn.Module) -> nn.Module:
        vit: Any = plain_host(model, "improved_spectral_norm")
        for part in list(vit.blocks.modules()):
            if type(part) is nn.Linear:
                parametrize.register_parametrization(part, "weight", KeptSpectralNorm(part.weight))
        return model

    return Defense("improved_spectral_norm", prepare=prepare, export=_without_norms)


class KeptSpectralNorm(nn.Module):
    """A matrix times σ(W₀)/σ(W). left, right: the approximate singular vectors of the largest singular value; first: σ(W₀)."""

    left: Tensor
    right: Tensor
    first: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        left, values, right = torch.linalg.svd(weight.detach(), full_matrices=False)
        for name, tensor in (("left", left[:, 0]), ("right", right[0]), ("first", values[0])):
            self.register_buffer(name, tensor.clone())

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) → (out, in)."""
        if self.training:
            self._iterate(weight.detach())
        norm = self.left.clone() @ weight @ self.right.clone()  # clones: a later forward pass changes the vectors in place
        kept: Tensor = weight * (self.first / norm)
        return kept

    def exact(self, weight: Tensor) -> Tensor:
        """The same by the exact norm."""
        kept: Tensor = weight * (self.first / torch.linalg.matrix_norm(weight, 2))
        return kept

    @torch.no_grad()
    def _iterate(self, weight: Tensor) -> None:
        self.right.copy_(functional.normalize(weight.T @ self.left, dim=0))
        self.left.copy_(functional.normalize(weight @ self.right, dim=0))


@torch.no_grad()
def _without_norms(model: nn.Module) -> nn.Module:
    """A copy with plain matrices, in new layers: copies of a parametrized layer share its class, from which nothing may be removed."""
    made = copy.deepcopy(model)
    for name, part in list(named_layers(made, nn.Linear)):
        if parametrize.is_parametrized(part, "weight"):
            own: Any = part
            parametrization = own.parametrizations["weight"]
            replace_layer(made, name, linear_of(parametrization[0].exact(parametrization.original), own.bias))
    return made
