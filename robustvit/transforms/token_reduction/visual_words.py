"""Visual words: patches of little variance are dropped, or patches of one word become one, before the first block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.token_merging import share_of
from robustvit.primitives.surgery.token_reduction import TokenPolicy, reduce_tokens
from robustvit.primitives.surgery.tokens import NO_PATCH, Tokens, gathered
from robustvit.spec.registry import transform
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec
from robustvit.transforms.token_reduction.evit import Share

LoadBatch: TypeAlias = Callable[[Data, np.ndarray], Batch]
"""Data and positions in it → their batch."""


@transform(
    family="token-reduction", source="Gee et al. 2024", url="https://arxiv.org/abs/2411.15397",
    licence="the authors' code is GPL-3.0; this is written from the paper",
    rules="No weight is trained. Its choice goes by pixels alone, so that whoever writes pixels writes it: an attack that keeps its "
    "patches at a high variance, or away from all words, is the adaptive one, and a gradient does not see it. Between images the cost "
    "depends on the image: report mean GMACs. Differs from the authors' code: an image's tokens go on alone, where that pads and masks "
    "them, and a head that averages tokens weighs them by size.",
    hosts="plain-patches", no_op="keep=1", fit="fit_vocabulary", passes="fit_passes",
)  # fmt: skip
def visual_words(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    kind: Literal["intra", "inter"] = "intra",
    keep: Share = 0.5,
    words: Count = 1000,
    threshold: Annotated[float, Ge(0), Le(2)] = 0.1,
    calibration: Data | None = None,
    samples: Count = 256,
) -> Classifier:
    """Visual word tokenisation (VWT, Gee et al. 2024): fewer tokens by the statistics of patches, within or between images.

    kind: intra drops the patches of the least variance of normalised pixels, all channels together; `keep` is the share that stays, rounded
    up, in their order and of equal ones the first; 1 changes nothing. inter averages the tokens of all patches of an image that are one
    visual word: that whose centre is nearest by cosine, at a distance 1 − cos of at most `threshold`; others stay as they are. The
    vocabulary of so many `words` is learned by mini-batch K-means of the normalised patches of the first `samples` of `calibration`. Raises
    BadParameter for inter without calibration, or with fewer patches than words.
    """
    patch = plain_vit(model.model).patch_embed.patch_size
    if kind == "inter":
        return reduce_tokens(model, SharedWords(artifact["words"].to(model.device), threshold, patch))
    return reduce_tokens(model, VariedPatches(keep, patch))


def fit_vocabulary(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, kind: str, keep: float, words: int, threshold: float, calibration: Data | None, samples: int,
) -> dict[str, Tensor]:  # fmt: skip
    """words, (count, 3 · h · w): the centres of normalised patches; nothing for `intra`."""
    if kind == "intra":
        return {}
    if calibration is None:
        raise BadParameter("visual_words: kind inter takes calibration, a data set of other samples than those that are judged.")
    from sklearn.cluster import MiniBatchKMeans  # late: slow to import

    patch, chosen = plain_vit(model.model).patch_embed.patch_size, order(calibration.ids)[:samples]
    tiles = [load_batch(calibration, chosen[start : start + model.tile]).images for start in range(0, len(chosen), model.tile)]
    mean, std = model.get_buffer("mean"), model.get_buffer("std")
    found = torch.cat([patches_of((tile.to(mean.dtype) - mean) / std, patch).flatten(0, 1).float().cpu() for tile in tiles])
    if len(found) < words:
        raise BadParameter(
            f"visual_words: words is {words}; the samples of its calibration have {len(found)} patches, and it takes no more."
        )
    seed = int(draws.at("k-means").integers(1, low=0, high=1 << 31))
    return {"words": torch.from_numpy(MiniBatchKMeans(words, random_state=seed, n_init=1).fit(found.numpy()).cluster_centers_)}


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """None: a vocabulary is made of pixels."""
    return Passes()


class VariedPatches(TokenPolicy):
    """Drops the patches of the least pixel variance before the first block. patch: (height, width) in pixels."""

    def __init__(self, keep: float, patch: tuple[int, int]) -> None:
        super().__init__()
        self.keep, self.patch = keep, patch

    def at_input(self, tokens: Tokens, images: Tensor) -> Tokens:
        """The tokens of varied patches, and those that are at no patch's place."""
        kept = share_of(tokens.patches, self.keep)
        if kept == tokens.patches:
            return tokens
        variance = patches_of(images, self.patch).var(dim=2, correction=0).gather(1, tokens.places.clamp_min(0))
        variance = variance.masked_fill(tokens.places == NO_PATCH, torch.inf)
        return tokens.take(variance.argsort(dim=1, descending=True, stable=True)[:, :kept].sort(dim=1).values)


class SharedWords(TokenPolicy):
    """Averages the tokens of patches that are one word before the first block. words: (count, 3 · h · w); patch: (height, width)."""

    words: Tensor

    def __init__(self, words: Tensor, threshold: float, patch: tuple[int, int]) -> None:
        super().__init__()
        self.threshold, self.patch = threshold, patch
        self.register_buffer("words", words)

    def at_input(self, tokens: Tokens, images: Tensor) -> list[Tokens]:
        """The tokens of each image, at the places of the first patch of each word."""
        patches = gathered(patches_of(images, self.patch), tokens.places.clamp_min(0))
        best = (functional.normalize(patches, dim=2) @ functional.normalize(self.words.to(patches.dtype), dim=1).T).max(dim=2)
        alike = (1.0 - best.values <= self.threshold) & (tokens.places != NO_PATCH)
        alone = len(self.words) + torch.arange(tokens.patches, device=patches.device)  # behind all words, a number of its own
        return [_joined(one, word) for one, word in zip(tokens.each(), torch.where(alike, best.indices, alone), strict=True)]


def _joined(one: Tokens, word: Tensor) -> Tokens:
    """The tokens of one image averaged by word (T,), in the order of their first ones."""
    first = (word[:, None] == word).to(torch.int64).argmax(dim=1)
    leads = first == torch.arange(len(word), device=word.device)
    group = (leads.cumsum(dim=0) - 1)[first]
    return one.merge(group[None], int(leads.sum()), places=one.places[:, leads])


def patches_of(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """(N, patches, C · h · w): the pixels of each patch of images (N, C, H, W), in raster order."""
    height, width = patch
    parts = images.unfold(2, height, height).unfold(3, width, width)
    return parts.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
