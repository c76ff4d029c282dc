"""What a model answers when it sees only some pixels of a picture: two ways of hiding the rest, which make two different classifiers.

`kept`: hidden pixels are black before normalisation, and the model looks at the whole picture as at any other. Works on every model.
`dropped`: tokens that see nothing are left out of a vision transformer, after it was told each token's place; those that see something get hidden pixels
black (Salman et al. 2022). The answers differ from `kept`, and the cost falls with the number of tokens. Works on the plain transformers of timm (ViT,
DeiT, DeiT III, with register or distillation tokens): patches are cut and normalised once for each picture, no masked picture is ever made, and where the
answer is read from class tokens the last block computes these alone.

Pixels that are seen are given as two masks, of rows and of columns; what both hold is seen. A row's answer depends on its own picture and masks alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.ablations import Window
from robustvit.classifier import Answering, Classifier
from robustvit.errors import ModelError
from robustvit.reading import Reading

Unseen = Literal["auto", "dropped", "kept"]

_PLAIN = {("timm.models.vision_transformer", "VisionTransformer"), ("timm.models.deit", "VisionTransformerDistilled")}
_PLAIN_BLOCK = ("timm.models.vision_transformer", "Block")
_ROUNDING = 1e-3  # relative; what another order of sums may move logits by
_TILES = 2  # of `Classifier.tile` rows at once: short sequences leave room for more


class Looks(NamedTuple):
    """Looks at pictures: of which each is, (r,) on the CPU, and what it shows."""

    picture: Tensor
    window: Window


class Sight(Protocol):
    """A model behind a way of hiding pixels. `tokens`: those of the largest look at a window, 0 where the model sees the whole picture with black in it."""

    def logits(self, looks: Looks) -> Tensor:
        """(r, K) of looks at the pictures it was made for."""
        ...

    def tokens(self, window: Window) -> np.ndarray:
        """(r,) how many tokens each look gives the model, those without a place among them; 0 where blackened ones are kept."""
        ...


def sight(model: Classifier, images: Tensor, unseen: Unseen = "auto") -> Sight:
    """The model on these pictures, (N, 3, H, W) in [0, 1]. auto: `dropped` where that is possible, else `kept`.

    Raises ModelError for `dropped` on a model whose tokens cannot be dropped, with the reason.
    """
    reason = "" if unseen == "kept" else undroppable(model)
    if unseen == "dropped" and reason:
        raise ModelError(
            f"model '{model.card.label}' cannot drop unseen tokens: {reason}. Ask `unseen: kept`, which shows it the whole picture with black in it."
        )
    if unseen == "kept" or reason:
        return _Kept(model, images)
    bare, reading = _bare(model)
    rows = _TILES * model.tile
    return _Dropped(PlainViT(bare.model, bare.mean, bare.std), images, rows, reading)  # type: ignore[arg-type]


def ablated(model: nn.Module, images: Tensor, window: Window, unseen: Unseen = "auto") -> Tensor:
    """(N, K) what a model in training answers to pictures (N, 3, H, W) in [0, 1], of each of which it sees its own pixels. Differentiable.

    model: from such pictures to logits; tokens can be dropped where it tells its parts, `model` (from normalised pictures), `mean`, `std` and, where its
    logits are read, `reading`. Pictures that give equally many tokens go through together, so that none is padded. Raises ModelError as `sight` does.
    """
    reason = "" if unseen == "kept" else _unlike(getattr(model, "model", model))
    if unseen == "dropped" and reason:
        raise ModelError(f"unseen tokens of the model in training cannot be dropped: {reason}. Ask `unseen: kept`.")
    if unseen == "kept" or reason or not all(hasattr(model, part) for part in ("mean", "std")):
        seen = _pixels(window, slice(None), images)
        kept: Tensor = model(torch.where(seen[:, None], images, 0.0))
        return kept
    plain = PlainViT(cast(Any, model.model), cast(Tensor, model.mean), cast(Tensor, model.std))
    patches, counts = plain.cut(images), plain.tokens(window)
    groups = [np.flatnonzero(counts == count) for count in np.unique(counts)]
    parts = [plain.look(patches, torch.from_numpy(rows), Window(window.rows[rows], window.columns[rows])) for rows in groups]
    logits = torch.cat(parts)[torch.from_numpy(np.concatenate(groups).argsort()).to(images.device)]
    return cast(Reading, model.reading).read(logits) if hasattr(model, "reading") else logits


def undroppable(model: Classifier) -> str:
    """Why a model's unseen tokens cannot be dropped; nothing where they can. Looks at noise once to see that it computes as expected."""
    bare, _ = _bare(model)
    if type(bare) is not Classifier:
        return f"it stands behind a {type(bare).__name__.strip('_')}, which changes what it sees or how it computes"
    reason = _unlike(bare.model)
    return reason or _disagreement(bare)


def _bare(model: Classifier) -> tuple[Classifier, Reading | None]:
    """The model without the reading that stands before it, and that reading."""
    return (model.host, model.reading) if isinstance(model, Answering) else (model, None)


def _unlike(model: Any) -> str:
    """What keeps a module from being a plain transformer."""
    if (type(model).__module__, type(model).__name__) not in _PLAIN:
        return f"it is a {type(model).__name__}, and no plain VisionTransformer of timm"
    embed = model.patch_embed
    if type(embed).__name__ != "PatchEmbed" or not embed.flatten or embed.dynamic_img_pad or model.dynamic_img_size:
        return f"its {type(embed).__name__} does not cut pictures of one size into patches"
    if not isinstance(model.patch_drop, nn.Identity):
        return "it drops patches of its own"
    if embed.proj.kernel_size != embed.proj.stride or any(embed.proj.padding):
        return "its patches overlap"
    return ""


def _disagreement(model: Classifier) -> str:
    """Nothing where the model, with all tokens seen, answers as it does by itself."""
    noise = torch.rand(2, 3, *model.size, generator=torch.Generator().manual_seed(0)).to(model.mean)  # type: ignore[arg-type,call-overload]
    everything = Window(*(np.ones((2, side), dtype=bool) for side in model.size))
    whole = _Dropped(PlainViT(model.model, model.mean, model.std), noise, 2, None)  # type: ignore[arg-type]
    with torch.no_grad():
        ours, theirs = whole.logits(Looks(torch.arange(2), everything)), model(noise)
    apart = float((ours - theirs).abs().max())
    return (
        "" if apart <= _ROUNDING * (1.0 + float(theirs.abs().max())) else f"with every token seen it computes something else ({apart:.3g})"
    )


class _Kept:
    """Hidden pixels are black, and the model sees them all."""

    def __init__(self, model: Classifier, images: Tensor) -> None:
        self.model, self.images = model, images

    def logits(self, looks: Looks) -> Tensor:
        parts = []
        for start in range(0, len(looks.picture), self.model.tile):
            part = slice(start, start + self.model.tile)
            seen = _pixels(looks.window, part, self.images)
            whose = looks.picture[part].to(self.images.device)
            parts.append(self.model(torch.where(seen[:, None], self.images[whose], 0.0)))
        return torch.cat(parts)

    def tokens(self, window: Window) -> np.ndarray:
        return np.zeros(len(window.rows), dtype=np.int64)


def _pixels(window: Window, part: slice, like: Tensor) -> Tensor:
    """(r, H, W) bool: the pixels that are seen."""
    rows, columns = (torch.from_numpy(mask[part]).to(like.device) for mask in window)
    return rows[:, :, None] & columns[:, None, :]


class _Dropped:
    """Looks are put together by their number of tokens, in batches of one size, so that a row's bits do not depend on its companions."""

    def __init__(self, plain: PlainViT, images: Tensor, rows: int, reading: Reading | None) -> None:
        self.plain, self.rows, self.reading = plain, rows, reading
        self.patches = plain.cut(images)

    def logits(self, looks: Looks) -> Tensor:
        counts = self.tokens(looks.window)
        found: Tensor | None = None
        for group in (np.flatnonzero(counts == count) for count in np.unique(counts)):
            for start in range(0, len(group), self.rows):
                part = group[start : start + self.rows]
                answered = self._batch(looks, part)
                found = answered.new_empty(len(counts), answered.shape[1]) if found is None else found
                found[torch.from_numpy(part).to(found.device)] = answered
        assert found is not None
        return found

    def tokens(self, window: Window) -> np.ndarray:
        return self.plain.tokens(window)

    def _batch(self, looks: Looks, part: np.ndarray) -> Tensor:
        """(len(part), K), computed as a whole batch of `rows`: the first look stands in for those that lack."""
        filled = np.concatenate([part, np.full(self.rows - len(part), part[0])])
        window = Window(looks.window.rows[filled], looks.window.columns[filled])
        logits = self.plain.look(self.patches, looks.picture[torch.from_numpy(filled)], window)[: len(part)]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return logits if self.reading is None else self.reading.read(logits)


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
    hooked = any(one._forward_hooks or one._forward_pre_hooks for one in block.modules())
    return getattr(block.attn, "gate", None) is None and not hooked


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
