"""What a model answers when it sees only some pixels of a picture: two ways of hiding the rest, which make two different classifiers.

`kept`: hidden pixels are black before normalisation, and the model looks at the whole picture as at any other. Works on every model.
`dropped`: tokens that see nothing are left out of a vision transformer, after it was told each token's place; those that see something get hidden pixels
black (Salman et al. 2022). The answers differ from `kept`, and the cost falls with the number of tokens. Works on the plain transformers of timm (ViT,
DeiT, DeiT III, with register or distillation tokens), see `plain_vit`.

Pixels that are seen are given as two masks, of rows and of columns; what both hold is seen. A row's answer depends on its own picture and masks alone.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import Answering
from robustvit.primitives.inference.token_dropping import PlainViT, unlike
from robustvit.primitives.reading import Reading
from robustvit.spec.ablations import Window

Unseen = Literal["auto", "dropped", "kept"]

_ROUNDING, _TINY = 1e-3, 1e-5  # of the spread of a picture's logits, and of their size: what another order of sums may move them by
_TILES = 2  # of `Classifier.tile` rows at once: short sequences leave room for more


class Looks(NamedTuple):
    """Looks at pictures: of which each is, (r,) on the CPU, and what it shows."""

    picture: Tensor
    window: Window


class Sight(Protocol):
    """A model behind a way of hiding pixels, made for some pictures."""

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
    return _Dropped(bare, images, rows, reading)


def ablated(model: nn.Module, images: Tensor, window: Window, unseen: Unseen = "auto") -> Tensor:
    """(N, K) what a model in training answers to pictures (N, 3, H, W) in [0, 1], of each of which it sees its own pixels. Differentiable.

    model: from such pictures to logits; tokens can be dropped where it tells its parts, `model` (from normalised pictures), `mean`, `std` and, where its
    logits are read, `reading`. Pictures that give equally many tokens go through together, so that none is padded. Raises ModelError as `sight` does.
    """
    reason = "" if unseen == "kept" else unlike(getattr(model, "model", model))
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
    return _wrapped(bare) or unlike(bare.model) or _disagreement(bare)


def _wrapped(model: Classifier) -> str:
    """What stands before the module and does more than change how it computes, which `computing` can be asked for; nothing where nothing does."""
    kind = type(model)
    if kind is Classifier:
        return ""
    host = getattr(model, "host", None)
    if kind.computing is Classifier.computing or not isinstance(host, Classifier):
        return f"it stands behind a {kind.__name__.strip('_')}, which changes what it sees or how it computes"
    return _wrapped(host)


def _bare(model: Classifier) -> tuple[Classifier, Reading | None]:
    """The model without the reading that stands before it, and that reading."""
    return (model.host, model.reading) if isinstance(model, Answering) else (model, None)


def _disagreement(model: Classifier) -> str:
    """Nothing where the model, with all tokens seen, answers as it does by itself."""
    mean, std = cast(Tensor, model.mean), cast(Tensor, model.std)
    noise = torch.rand(1, 3, *model.size, generator=torch.Generator().manual_seed(0)).to(mean)
    everything = Window(*(np.ones((1, side), dtype=bool) for side in model.size))
    plain = PlainViT(model.model, mean, std)
    with torch.no_grad(), model.computing():
        ours, theirs = plain.look(plain.cut(noise), torch.zeros(1, dtype=torch.int64), everything), model.model((noise - mean) / std)
    apart, spread = float((ours - theirs).abs().max()), float(theirs.max() - theirs.min())
    alike = apart <= _ROUNDING * spread + _TINY * float(theirs.abs().max())
    return "" if alike else f"with every token seen it computes something else ({apart:.3g})"


class _Kept:
    """Hidden pixels are black, and the model sees them all."""

    def __init__(self, model: Classifier, images: Tensor) -> None:
        self.model, self.images = model, images

    def logits(self, looks: Looks) -> Tensor:
        """(r, K), a tile of masked pictures at a time."""
        parts = []
        for start in range(0, len(looks.picture), self.model.tile):
            part = slice(start, start + self.model.tile)
            seen = _pixels(looks.window, part, self.images)
            whose = looks.picture[part].to(self.images.device)
            parts.append(self.model(torch.where(seen[:, None], self.images[whose], 0.0)))
        return torch.cat(parts)

    def tokens(self, window: Window) -> np.ndarray:
        """(r,) zeros: none is dropped."""
        return np.zeros(len(window.rows), dtype=np.int64)


def _pixels(window: Window, part: slice, like: Tensor) -> Tensor:
    """(r, H, W) bool: the pixels that are seen."""
    rows, columns = (torch.from_numpy(mask[part]).to(like.device) for mask in window)
    return rows[:, :, None] & columns[:, None, :]


class _Dropped:
    """Looks are put together by their number of tokens, in batches of one size, so that a row's bits do not depend on its companions."""

    def __init__(self, model: Classifier, images: Tensor, rows: int, reading: Reading | None) -> None:
        self.model, self.rows, self.reading = model, rows, reading
        self.plain = PlainViT(model.model, cast(Tensor, model.mean), cast(Tensor, model.std))
        self.patches = self.plain.cut(images)

    def logits(self, looks: Looks) -> Tensor:
        """(r, K), looks with equally many tokens together."""
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
        """(r,) as `PlainViT.tokens`."""
        return self.plain.tokens(window)

    def _batch(self, looks: Looks, part: np.ndarray) -> Tensor:
        """(len(part), K), computed as a whole batch of `rows`: the first look stands in for those that lack."""
        filled = np.concatenate([part, np.full(self.rows - len(part), part[0])])
        window = Window(looks.window.rows[filled], looks.window.columns[filled])
        with self.model.computing():
            logits = self.plain.look(self.patches, looks.picture[torch.from_numpy(filled)], window)[: len(part)]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return logits if self.reading is None else self.reading.read(logits)
