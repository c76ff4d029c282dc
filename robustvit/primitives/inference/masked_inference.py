"""Masked inference: the logits of a model that sees only some pixels of an image.

Hidden pixels are treated in one of two ways, which make two different classifiers.
`kept`: hidden pixels are black before normalisation, and the model receives the whole image. Works on every model. `dropped`: tokens
without a visible pixel are dropped from a vision transformer after the position embedding is added; in the other tokens hidden pixels are
black (Salman et al. 2022). The logits differ from those of `kept`, and the cost falls with the number of tokens. Works on the plain
transformers of timm (ViT, DeiT, DeiT III, with register or distillation tokens), see `token_dropping`.

Visible pixels are given as two masks, of rows and of columns; a pixel is visible where both are true. A row's logits depend on its own
image and masks alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier, why_wrapped
from robustvit.primitives.inference.keyed import bound_rows, padded
from robustvit.primitives.inference.token_dropping import PlainViT, why_not_plain
from robustvit.primitives.modules.model_output import of_classes
from robustvit.primitives.reading import Reading
from robustvit.spec.ablations import Window

Unseen = Literal["auto", "dropped", "kept"]

_ROUNDING, _TINY = 1e-3, 1e-5  # relative to the spread of an image's logits, and to their size: how far another order of sums may move them
_TILES = 2  # of `Classifier.tile` rows in a batch: short sequences leave room for more


class MaskedViews(NamedTuple):
    """Masked views of images. image: (r,) on the CPU, the index of the image that each view shows; window: its visible pixels."""

    image: Tensor
    window: Window


class MaskedModel(Protocol):
    """A model with one way of treating hidden pixels, prepared for some images."""

    def logits(self, views: MaskedViews) -> Tensor:
        """(r, K) logits of masked views of these images."""
        ...

    def token_counts(self, window: Window) -> np.ndarray:
        """(r,) how many tokens the model receives of each view, prefix tokens included; 0 where hidden pixels are kept black."""
        ...


def mask_model(model: Classifier, images: Tensor, unseen: Unseen = "auto") -> MaskedModel:
    """Prepares a model for masked inference on images (N, 3, H, W) in [0, 1]. auto: `dropped` where that is possible, else `kept`.

    Raises ModelError for `dropped` on a model whose tokens cannot be dropped, with the reason.
    """
    reason = "" if unseen == "kept" else why_not_droppable(model)
    if unseen == "dropped" and reason:
        raise ModelError(
            f"model '{model.card.label}' cannot drop masked tokens: {reason}. Set `unseen: kept`, which gives it the whole image "
            "with hidden pixels black."
        )
    if unseen == "kept" or reason:
        return _BlackPixels(model, images)
    host, reading = _split_reading(model)
    rows = _TILES * model.tile
    return _DroppedTokens(host, images, rows, reading)


def kept_tokens(model: Classifier, images: Tensor) -> Callable[[Tensor], Tensor]:
    """From places (N, n) of patches, counted by row, to the logits (N, K) of images (N, 3, H, W) whose other patches are left out.

    Raises HostRefused for a model whose tokens cannot be dropped, or that averages its patches, so that it has no logits without one.
    """
    host, reading = _split_reading(model)
    reason = why_not_droppable(model)
    if not reason and not PlainViT(host.model, cast(Tensor, host.mean), cast(Tensor, host.std)).pools_prefix:
        reason = "its head reads its patches, and has nothing to read where none is left"
    if reason:
        raise HostRefused(f"model '{model.card.label}' cannot leave out tokens: {reason}. Remove patches otherwise, for instance by mean.")
    plain = PlainViT(host.model, cast(Tensor, host.mean), cast(Tensor, host.std))
    patches = plain.patchify(images)

    def logits(places: Tensor) -> Tensor:
        parts = []
        for some in torch.split(torch.arange(len(images), device=images.device), host.tile):
            filled = some[padded(len(some), host.tile, images.device)]
            with host.module_context():
                made = of_classes(plain.logits_of_places(patches[filled], places[filled]))[: len(some)]
            parts.append(made if made.dtype == torch.float64 else made.float())
        joined = torch.cat(parts)
        return joined if reading is None else reading.read(joined)

    return logits


def masked_forward(model: nn.Module, images: Tensor, window: Window, unseen: Unseen = "auto") -> Tensor:
    """(N, K) logits of a model in training on one masked view of each image (N, 3, H, W) in [0, 1]. Differentiable.

    model: from such images to logits; tokens can be dropped where it has the attributes `model` (from normalised images), `mean`, `std`
    and, where its logits are read, `reading`. Images with equally many tokens form one batch, so that no sequence is padded. Raises
    ModelError as `mask_model` does.
    """
    reason = "" if unseen == "kept" else why_not_plain(getattr(model, "model", model))
    if unseen == "dropped" and reason:
        raise ModelError(f"masked tokens of the model in training cannot be dropped: {reason}. Set `unseen: kept`.")
    if unseen == "kept" or reason or not all(hasattr(model, part) for part in ("mean", "std")):
        visible = _visible_pixels(window, slice(None), images)
        kept: Tensor = model(torch.where(visible[:, None], images, 0.0))
        return kept
    plain = PlainViT(cast(Any, model.model), cast(Tensor, model.mean), cast(Tensor, model.std))
    patches, counts = plain.patchify(images), plain.token_counts(window)
    groups = [np.flatnonzero(counts == count) for count in np.unique(counts)]
    parts = [plain.logits(patches, torch.from_numpy(rows), Window(window.rows[rows], window.columns[rows])) for rows in groups]
    logits = torch.cat(parts)[torch.from_numpy(np.concatenate(groups).argsort()).to(images.device)]
    reading = cast(Reading | None, getattr(model, "reading", None))
    return logits if reading is None else reading.read(logits)


def why_not_droppable(model: Classifier) -> str:
    """Why a model's masked tokens cannot be dropped; "" where they can.

    Compares logits of one noise image to see that the model computes as expected.
    """
    host, _ = _split_reading(model)
    wrapped = why_wrapped(host)
    return f"it {wrapped}" if wrapped else why_not_plain(host.model) or _disagreement(host)


def _split_reading(model: Classifier) -> tuple[Classifier, Reading | None]:
    """The classifier without the reading around it, and that reading."""
    return (model.host, model.reading) if isinstance(model, ReadClassifier) else (model, None)


def _disagreement(model: Classifier) -> str:
    """ "" where token dropping with every token visible gives the logits of the model itself; otherwise by how much they differ."""
    mean, std = cast(Tensor, model.mean), cast(Tensor, model.std)
    noise = torch.rand(1, model.channels, *model.size, generator=torch.Generator().manual_seed(0)).to(mean)
    everything = Window(*(np.ones((1, side), dtype=bool) for side in model.size))
    plain = PlainViT(model.model, mean, std)
    with torch.no_grad(), model.module_context():
        ours, theirs = plain.logits(plain.patchify(noise), torch.zeros(1, dtype=torch.int64), everything), model.model((noise - mean) / std)
    apart, spread = float((ours - theirs).abs().max()), float(theirs.max() - theirs.min())
    equal = apart <= _ROUNDING * spread + _TINY * float(theirs.abs().max())
    return "" if equal else f"with every token visible it computes something else ({apart:.3g})"


class _BlackPixels:
    """Hidden pixels are black, and the model receives every token."""

    def __init__(self, model: Classifier, images: Tensor) -> None:
        self.model, self.images = model, images

    def logits(self, views: MaskedViews) -> Tensor:
        """(r, K), a tile of masked images at a time."""
        parts = []
        for start in range(0, len(views.image), self.model.tile):
            part = slice(start, start + self.model.tile)
            visible = _visible_pixels(views.window, part, self.images)
            index = views.image[part].to(self.images.device)
            parts.append(bound_rows(self.model, index)(torch.where(visible[:, None], self.images[index], 0.0)))
        return torch.cat(parts)

    def token_counts(self, window: Window) -> np.ndarray:
        """(r,) zeros: no token is dropped."""
        return np.zeros(len(window.rows), dtype=np.int64)


def _visible_pixels(window: Window, part: slice, like: Tensor) -> Tensor:
    """(r, H, W) bool: the pixels that some of the views show."""
    rows, columns = (torch.from_numpy(mask[part]).to(like.device) for mask in window)
    return rows[:, :, None] & columns[:, None, :]


class _DroppedTokens:
    """Tokens without a visible pixel are dropped.

    Views with equally many tokens form batches of one size, so that a row's bits depend on no other row.
    """

    def __init__(self, model: Classifier, images: Tensor, rows: int, reading: Reading | None) -> None:
        self.model, self.rows, self.reading = model, rows, reading
        self.plain = PlainViT(model.model, cast(Tensor, model.mean), cast(Tensor, model.std))
        self.patches = self.plain.patchify(images)

    def logits(self, views: MaskedViews) -> Tensor:
        """(r, K), views with equally many tokens in one batch."""
        counts = self.token_counts(views.window)
        logits: Tensor | None = None
        for group in (np.flatnonzero(counts == count) for count in np.unique(counts)):
            for start in range(0, len(group), self.rows):
                part = group[start : start + self.rows]
                computed = self._batch(views, part)
                logits = computed.new_empty(len(counts), computed.shape[1]) if logits is None else logits
                logits[torch.from_numpy(part).to(logits.device)] = computed
        assert logits is not None
        return logits

    def token_counts(self, window: Window) -> np.ndarray:
        """(r,) as `PlainViT.token_counts`."""
        return self.plain.token_counts(window)

    def _batch(self, views: MaskedViews, part: np.ndarray) -> Tensor:
        """(len(part), K), computed as a full batch of `rows` views: the first view fills up what is missing."""
        filled = np.concatenate([part, np.full(self.rows - len(part), part[0])])
        window = Window(views.window.rows[filled], views.window.columns[filled])
        with self.model.module_context():
            logits = self.plain.logits(self.patches, views.image[torch.from_numpy(filled)], window)[: len(part)]
        logits = of_classes(logits if logits.dtype == torch.float64 else logits.float())
        return logits if self.reading is None else self.reading.read(logits)
