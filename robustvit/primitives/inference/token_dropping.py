"""Plain vision transformers of timm, shown some of their tokens.

Patches are cut and normalised once for each picture; no masked picture is made. Tokens that see nothing are left out after each was told its place, and
where the answer is read from class tokens the last block computes these alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.spec.ablations import Window

_PLAIN = {("timm.models.vision_transformer", "VisionTransformer"), ("timm.models.deit", "VisionTransformerDistilled")}
_PLAIN_BLOCK = ("timm.models.vision_transformer", "Block")


def unlike(model: Any) -> str:
    """What keeps a module from being a plain transformer; nothing where it is one."""
    if (type(model).__module__, type(model).__name__) not in _PLAIN:
        return f"it is a {type(model).__name__}, and no plain VisionTransformer of timm"
    embed = model.patch_embed
    if type(embed).__name__ != "PatchEmbed" or not embed.flatten or embed.dynamic_img_pad or model.dynamic_img_size:
        return f"its {type(embed).__name__} does not cut pictures of one size into patches"
    if any(_hung_on(one) for one in (model, embed, embed.proj)):
        return "something is hung on its forward or on its patches'"
    if not isinstance(model.patch_drop, nn.Identity):
        return "it drops patches of its own"
    if embed.proj.kernel_size != embed.proj.stride or any(embed.proj.padding):
        return "its patches overlap"
    return ""


@dataclass(frozen=True)
class PlainViT:
    """A plain transformer of timm that is shown some of the tokens. mean, std: (1, 3, 1, 1), what its pixels are normalised with.

    Differentiable, in the type of the model's weights; also for training, where modules draw as they do.
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

    def cut(self, images: Tensor) -> Tensor:
        """(N, T, 3 · h · w) patches of normalised pictures (N, 3, H, W) in [0, 1], in the order of the embedding's weights."""
        height, width = self._side
        normal = (images.to(self.mean.dtype) - self.mean) / self.std
        parts = normal.unfold(2, height, height).unfold(3, width, width)
        return parts.permute(0, 2, 3, 1, 4, 5).reshape(len(images), -1, 3 * height * width)

    def tokens(self, window: Window) -> np.ndarray:
        """(r,) how many tokens each look gives the model, those without a place among them."""
        down, across = self._seen(window)
        counts: np.ndarray = down.sum(axis=1) * across.sum(axis=1) + self._prefix
        return counts

    def look(self, patches: Tensor, picture: Tensor, window: Window) -> Tensor:
        """(r, K) logits of looks that all see equally many tokens. patches: of `cut`; picture: (r,) whose."""
        seen = torch.from_numpy(np.logical_and(*(mask[:, wide] for mask, wide in zip(self._seen(window), self._grid, strict=True))))
        places = seen.nonzero()[:, 1].view(len(picture), -1).to(patches.device)
        whose = picture.to(patches.device)[:, None]
        shown = torch.where(self._shown(window, places), patches[whose, places], self._black)
        model = self.model
        embedded = model.patch_embed.norm(functional.linear(shown, model.patch_embed.proj.weight.flatten(1), model.patch_embed.proj.bias))
        around = model._pos_embed(embedded.new_zeros(1, patches.shape[1], embedded.shape[2]))
        prefix, where = around[:, : self._prefix], around[0, self._prefix :]
        tokens = torch.cat([prefix.expand(len(picture), -1, -1), embedded + where[places]], dim=1)
        return self._read(model.norm_pre(tokens))

    def _read(self, tokens: Tensor) -> Tensor:
        """Logits from what goes into the first block."""
        blocks = list(self.model.blocks)
        short = _reads_prefix(self.model) and _is_plain(blocks[-1])
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

    def _seen(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(r, tokens down) and (r, tokens across) bool: where tokens see something."""
        high, wide = self._side
        return np.any(window.rows.reshape(len(window.rows), -1, high), axis=2), np.any(
            window.columns.reshape(len(window.columns), -1, wide), axis=2
        )

    def _shown(self, window: Window, places: Tensor) -> Tensor:
        """(r, n, 3 · h · w) bool: which pixels of some tokens are seen."""
        row, column = (torch.from_numpy(wide).to(places.device)[places] for wide in self._grid)
        masks = (
            torch.from_numpy(mask.reshape(len(mask), -1, side)).to(places.device) for mask, side in zip(window, self._side, strict=True)
        )
        look = torch.arange(len(places), device=places.device)[:, None]
        down, across = (mask[look, place] for mask, place in zip(masks, (row, column), strict=True))
        return (down[..., :, None] & across[..., None, :]).flatten(2).repeat(1, 1, 3)

    @property
    def _black(self) -> Tensor:
        """(3 · h · w,) a hidden patch: black, normalised."""
        height, width = self._side
        return (-self.mean / self.std).expand(1, 3, height, width).flatten()


def _reads_prefix(model: Any) -> bool:
    """Whether the answer is read from class tokens alone."""
    return model.global_pool == "token" and getattr(model, "attn_pool", None) is None


def _is_plain(block: Any) -> bool:
    """Whether a block is attention and then a perceptron, each added to what comes in, and nothing else is hung on it."""
    if (type(block).__module__, type(block).__name__) != _PLAIN_BLOCK or type(block.attn).__name__ != "Attention":
        return False
    return getattr(block.attn, "gate", None) is None and not any(_hung_on(one) for one in block.modules())


def _hung_on(module: nn.Module) -> bool:
    """Whether calling a module does more than its class says: it has hooks, or a forward of its own."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _prefix_after(block: Any, tokens: Tensor, prefix: int) -> Tensor:
    """(r, prefix, D): the first tokens after a block, which attend to all."""
    first = tokens[:, :prefix]
    first = first + block.drop_path1(block.ls1(_attended(block.attn, block.norm1(tokens), prefix)))
    after: Tensor = first + block.drop_path2(block.ls2(block.mlp(block.norm2(first))))
    return after


def _attended(attention: Any, tokens: Tensor, prefix: int) -> Tensor:
    """What the first tokens make of all, (r, prefix, D)."""
    split = attention.qkv.weight.shape[0] // 3
    weight, bias = attention.qkv.weight, attention.qkv.bias
    ask = functional.linear(tokens[:, :prefix], weight[:split], None if bias is None else bias[:split])
    offer = functional.linear(tokens, weight[split:], None if bias is None else bias[split:])
    heads = attention.num_heads
    query = attention.q_norm(ask.view(*ask.shape[:2], heads, -1).transpose(1, 2))
    key, value = offer.view(*offer.shape[:2], 2, heads, -1).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(
        query, attention.k_norm(key), value, dropout_p=attention.attn_drop.p if attention.training else 0.0
    )
    mixed = getattr(attention, "norm", nn.Identity())(mixed.transpose(1, 2).flatten(2))
    answer: Tensor = attention.proj_drop(attention.proj(mixed))
    return answer
