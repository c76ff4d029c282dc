"""Token dropping: the logits of timm's plain vision transformers on some of an image's tokens.

Images are normalised and cut into patches once; no masked image is made. Tokens without a visible pixel are dropped after the position
embedding is added, and where logits come from prefix tokens alone the last block computes only these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import with_article
from robustvit.spec.ablations import Window

PLAIN = {("timm.models.vision_transformer", "VisionTransformer"), ("timm.models.deit", "VisionTransformerDistilled")}
_PLAIN_BLOCK = ("timm.models.vision_transformer", "Block")


def why_not_plain(model: Any) -> str:
    """Why a module is no plain transformer of timm; "" where it is one."""
    if (type(model).__module__, type(model).__name__) not in PLAIN:
        return f"it is {with_article(type(model).__name__)}, and no plain VisionTransformer of timm"
    embed = model.patch_embed
    if type(embed).__name__ != "PatchEmbed" or not embed.flatten or embed.dynamic_img_pad or model.dynamic_img_size:
        return f"its {type(embed).__name__} does not cut images of one size into patches"
    if any(_is_modified(module) for module in (model, embed, embed.proj)):
        return "its forward, or that of its patch embedding, has hooks or was replaced"
    if type(embed.proj) is not nn.Conv2d:
        return f"its patch embedding is {with_article(type(embed.proj).__name__)}"
    if not isinstance(model.patch_drop, nn.Identity):
        return "it drops patches of its own"
    if embed.proj.kernel_size != embed.proj.stride or any(embed.proj.padding):
        return "its patches overlap"
    if any(getattr(module, "whole_grid", False) for module in model.modules()):
        return "it reads tokens in their places, and takes all of an image"
    return ""


@dataclass(frozen=True)
class PlainViT:
    """A plain transformer of timm that computes on some of the tokens. mean, std: (1, 3, 1, 1), of its normalisation.

    Differentiable, in the dtype of the model's weights; also for training, where dropout and the like stay random.
    """

    model: Any
    mean: Tensor
    std: Tensor

    @property
    def _side(self) -> tuple[int, int]:
        """(height, width) of a patch."""
        height, width = self.model.patch_embed.patch_size
        return int(height), int(width)

    @property
    def _prefix(self) -> int:
        return int(self.model.num_prefix_tokens)

    def patchify(self, images: Tensor) -> Tensor:
        """(N, T, 3 · h · w) normalised patches of images (N, 3, H, W) in [0, 1], in the order of the embedding's weights."""
        height, width = self._side
        normal = (images.to(self.mean.dtype) - self.mean) / self.std
        parts = normal.unfold(2, height, height).unfold(3, width, width)
        return parts.permute(0, 2, 3, 1, 4, 5).reshape(len(images), -1, images.shape[1] * height * width)

    def token_counts(self, window: Window) -> np.ndarray:
        """(r,) how many tokens the model receives of each view, prefix tokens included."""
        down, across = self._visible_tokens(window)
        return np.asarray(down.sum(axis=1) * across.sum(axis=1) + self._prefix)

    def logits(self, patches: Tensor, image: Tensor, window: Window) -> Tensor:
        """(r, K) logits of views that show equally many tokens. patches: from `patchify`; image: (r,) the index of each view's image."""
        visible = np.logical_and(*(mask[:, axis] for mask, axis in zip(self._visible_tokens(window), self._grid, strict=True)))
        places = torch.from_numpy(visible).nonzero()[:, 1].view(len(image), -1).to(patches.device)
        index = image.to(patches.device)[:, None]
        return self._of_patches(torch.where(self._visible_pixels(window, places), patches[index, places], self._black), places)

    def logits_of_places(self, patches: Tensor, places: Tensor) -> Tensor:
        """(N, K) logits of images of which only the patches at places (N, n), counted by row, are tokens. patches: from `patchify`."""
        return self._of_patches(patches[torch.arange(len(patches), device=patches.device)[:, None], places], places)

    @property
    def pools_prefix(self) -> bool:
        """Whether the head reads prefix tokens alone, so that there are logits without any patch."""
        return bool(self.model.global_pool == "token" and getattr(self.model, "attn_pool", None) is None)

    def _of_patches(self, masked: Tensor, places: Tensor) -> Tensor:
        """(r, K) logits of normalised patches (r, n, 3 · h · w) at places (r, n)."""
        model = self.model
        embedded = model.patch_embed.norm(functional.linear(masked, model.patch_embed.proj.weight.flatten(1), model.patch_embed.proj.bias))
        embedding = model._pos_embed(embedded.new_zeros(1, len(self._grid[0]), embedded.shape[2]))
        prefix, positions = embedding[:, : self._prefix], embedding[0, self._prefix :]
        tokens = torch.cat([prefix.expand(len(masked), -1, -1), embedded + positions[places]], dim=1)
        return self._from_tokens(model.norm_pre(tokens))

    def _from_tokens(self, tokens: Tensor) -> Tensor:
        """Logits from the input of the first block."""
        blocks = list(self.model.blocks)
        short = self.pools_prefix and _is_plain(blocks[-1])  # logits come from prefix tokens alone: the last block computes no others
        for block in blocks[: len(blocks) - short]:
            tokens = block(tokens)
        if short:
            tokens = _prefix_after(blocks[-1], tokens, self._prefix)
        logits: Tensor = self.model.forward_head(self.model.norm(tokens))
        return logits

    @property
    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        """The row, and the column, of each token."""
        down, across = self.model.patch_embed.grid_size
        return np.repeat(np.arange(down), across), np.tile(np.arange(across), down)

    def _by_token(self, window: Window) -> tuple[np.ndarray, ...]:
        """(r, tokens down, h) and (r, tokens across, w) bool: the window's masks by token."""
        return tuple(mask.reshape(len(mask), -1, side) for mask, side in zip(window, self._side, strict=True))

    def _visible_tokens(self, window: Window) -> tuple[np.ndarray, ...]:
        """(r, tokens down) and (r, tokens across) bool: where tokens have a visible pixel."""
        return tuple(np.any(mask, axis=2) for mask in self._by_token(window))

    def _visible_pixels(self, window: Window, places: Tensor) -> Tensor:
        """(r, n, 3 · h · w) bool: the visible pixels of the tokens at these places."""
        axes = (torch.from_numpy(axis).to(places.device)[places] for axis in self._grid)
        masks = (torch.from_numpy(mask).to(places.device) for mask in self._by_token(window))
        view = torch.arange(len(places), device=places.device)[:, None]
        down, across = (mask[view, axis] for mask, axis in zip(masks, axes, strict=True))
        return (down[..., :, None] & across[..., None, :]).flatten(2).repeat(1, 1, self.mean.shape[1])

    @property
    def _black(self) -> Tensor:
        """(3 · h · w,) a hidden patch: normalised black."""
        height, width = self._side
        return (-self.mean / self.std).expand(1, -1, height, width).flatten()


def _is_plain(block: Any) -> bool:
    """Whether a block is residual attention and then a residual MLP, without hooks."""
    if (type(block).__module__, type(block).__name__) != _PLAIN_BLOCK or type(block.attn).__name__ != "Attention":
        return False
    if not type(block.attn.qkv) is type(block.attn.proj) is nn.Linear:
        return False
    return getattr(block.attn, "gate", None) is None and not any(_is_modified(module) for module in block.modules())


def _is_modified(module: nn.Module) -> bool:
    """Whether calling a module does more than its class does: it has hooks, or a forward of its own."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _prefix_after(block: Any, tokens: Tensor, prefix: int) -> Tensor:
    """(r, prefix, D): the prefix tokens after a block, in which they attend to all."""
    first = tokens[:, :prefix]
    first = first + block.drop_path1(block.ls1(_prefix_attention(block.attn, block.norm1(tokens), prefix)))
    after: Tensor = first + block.drop_path2(block.ls2(block.mlp(block.norm2(first))))
    return after


def _prefix_attention(attention: Any, tokens: Tensor, prefix: int) -> Tensor:
    """(r, prefix, D): the attention module's output for the prefix tokens."""
    weight, bias = attention.qkv.weight, attention.qkv.bias
    split = weight.shape[0] // 3
    queries = functional.linear(tokens[:, :prefix], weight[:split], None if bias is None else bias[:split])
    keys_values = functional.linear(tokens, weight[split:], None if bias is None else bias[split:])
    heads = attention.num_heads
    query = attention.q_norm(queries.view(*queries.shape[:2], heads, -1).transpose(1, 2))
    key, value = keys_values.view(*keys_values.shape[:2], 2, heads, -1).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(
        query, attention.k_norm(key), value, dropout_p=attention.attn_drop.p if attention.training else 0.0
    )
    mixed = getattr(attention, "norm", nn.Identity())(mixed.transpose(1, 2).flatten(2))
    output: Tensor = attention.proj_drop(attention.proj(mixed))
    return output
