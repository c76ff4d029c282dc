"""Small vision transformers with random weights, one of every architecture whose attention maps can be captured."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

SIDE, TILE = 32, 4
_SMALL: dict[str, Any] = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "num_heads": 2, "num_classes": 5, "depth": 3}


def vit(**more: Any) -> nn.Module:
    """timm's plain ViT: 4x4 tokens and a class token."""
    return VisionTransformer(**_SMALL | more)


def registers() -> nn.Module:
    """A ViT with four register tokens, no class token, and normalised queries and keys."""
    return VisionTransformer(**_SMALL, reg_tokens=4, qk_norm=True, class_token=False, global_pool="avg")


def distilled() -> nn.Module:
    """DeiT with class and distillation tokens."""
    return VisionTransformerDistilled(**_SMALL)


def swin() -> nn.Module:
    """A Swin of windows of 4x4 tokens, half of them shifted, with a relative position bias that is not zero."""
    made = SwinTransformer(img_size=SIDE, patch_size=2, embed_dim=16, depths=(2, 1), num_heads=(2, 2), window_size=4, num_classes=5)
    for name, parameter in made.named_parameters():
        if "relative_position_bias_table" in name:
            nn.init.normal_(parameter)
    return made


class Torchs(nn.Module):
    """torch's own encoder, whose attention is a MultiheadAttention: 4x4 tokens and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 24, 8, 8)
        self.blocks = nn.TransformerEncoder(nn.TransformerEncoderLayer(24, 2, 48, batch_first=True), 2)
        self.head = nn.Linear(24, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.blocks(self.embed(images).flatten(2).transpose(1, 2))
        logits: Tensor = self.head(tokens.mean(dim=1))
        return logits


class Wrapped(nn.Sequential):
    """A plain ViT in a module that holds it under a name of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(OrderedDict([(name, vit())]))


class HuggingFace(nn.Module):
    """transformers' ViT."""

    def __init__(self, implementation: str = "sdpa") -> None:
        super().__init__()
        transformers = pytest.importorskip("transformers", reason="transformers (the extra [hf]) is not installed")
        config = transformers.ViTConfig(
            image_size=SIDE, patch_size=8, hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48, num_labels=5,
            attn_implementation=implementation,
        )  # fmt: skip
        self.inner = transformers.ViTForImageClassification(config)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(pixel_values=images).logits
        return logits


def cnn() -> nn.Module:
    """A convolutional network, without attention."""
    return timm.create_model("resnet10t", num_classes=5)


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "vit": vit, "registers": registers, "distilled": distilled, "torch": Torchs, "hugging-face": HuggingFace,
}  # fmt: skip
ALL: dict[str, Callable[[], nn.Module]] = {**PLAIN, "swin": swin}


def layer_scale() -> nn.Module:
    """A ViT whose residual branches are scaled by learned factors."""
    return _with_normal(VisionTransformer(**_SMALL | {"depth": 2}, init_values=0.1), "gamma")


def pooled() -> nn.Module:
    """A ViT without class token that averages its tokens."""
    return vit(depth=2, class_token=False, global_pool="avg")


def qk_norm() -> nn.Module:
    """A ViT with normalised queries and keys."""
    return vit(depth=2, qk_norm=True)


def eva() -> nn.Module:
    """An EVA with rotary position embeddings."""
    return Eva(**_SMALL | {"depth": 2}, use_rot_pos_emb=True, use_abs_pos_emb=False, head_init_scale=1.0)


def small_cnn() -> nn.Module:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 5),
    )  # fmt: skip


def _with_normal(module: nn.Module, name: str) -> nn.Module:
    """The module with normally distributed parameters of that name."""
    for own, parameter in module.named_parameters():
        if own.endswith(name):
            nn.init.normal_(parameter)
    return module


HOSTS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: vit(depth=2), "layer-scale": layer_scale,
    "registers": lambda: vit(depth=2, reg_tokens=4, qk_norm=True, class_token=False, global_pool="avg"),
    "distilled": lambda: VisionTransformerDistilled(**_SMALL | {"depth": 2}), "average-pooled": pooled, "qk-norm": qk_norm, "swin": swin,
    "eva": eva, "cnn": small_cnn,
}  # fmt: skip
"""The kinds of models that a transform may meet, two blocks deep."""


_KWARGS = "img_size=32,patch_size=8,embed_dim=24,num_heads=2,depth=2"
ARCHITECTURES: dict[str, tuple[str, str]] = {
    "plain": ("vit_tiny_patch16_224", _KWARGS), "layer-scale": ("vit_tiny_patch16_224", f"{_KWARGS},init_values=0.1"),
    "registers": ("vit_tiny_patch16_224", f"{_KWARGS},reg_tokens=4,qk_norm=true,class_token=false,global_pool=avg"),
    "distilled": ("deit_tiny_distilled_patch16_224", _KWARGS),
    "average-pooled": ("vit_tiny_patch16_224", f"{_KWARGS},class_token=false,global_pool=avg"),
    "qk-norm": ("vit_tiny_patch16_224", f"{_KWARGS},qk_norm=true"),
    "swin": ("swin_tiny_patch4_window7_224", "img_size=32,patch_size=2,embed_dim=16,depths=[2,1],num_heads=[2,2],window_size=4"),
}  # fmt: skip
"""Of HOSTS those that timm builds by name: the architecture, and the arguments of its constructor."""


def made(make: Callable[[], nn.Module], sharp: float = 6.0) -> Classifier:
    """A Classifier around the module of `make`, with fixed random weights, matrices times `sharp` so that attention is far from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() == 2 and "table" not in name:
                parameter.mul_(sharp)
    card = Card("toy", Spec("toy"), fingerprint(module), "given")
    return Classifier(module, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2), view=View((SIDE, SIDE), SIDE), card=card, tile=TILE)


def images(rows: int) -> Tensor:
    """Uniform noise (rows, 3, 32, 32)."""
    return torch.rand(rows, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
