"""Whether what is selected by its similarity to a few annotated patches is what the class is written in, and stays so when images shift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.attribution.agreement import rank_correlation
from robustvit.primitives.attribution.recorded import patch_grid
from robustvit.primitives.attribution.truth_maps import covered_share, true_patches, truth_pixels
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.block_features import BlockFeatures, blocks_of, patch_values
from robustvit.primitives.inference.token_grid import TokenGrid
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

_THRESHOLDS = tuple(step / 10 for step in range(10))
_DECIMALS = 6  # of a cosine: what float32 tokens tell, so that all annotated tokens are equally similar to themselves
_SMALLEST = 1e-30  # norm of a token, below which it is taken as zero and similar to none


class _Annotation(NamedTuple):
    """Patches of each image, (N, points) indices; used: (N, points) bool, false where an image has fewer."""

    patches: Tensor
    used: Tensor


@analysis(
    family="explanations", severity="corruption.severity", headless=True,
    source="Engel, Sick and Ropinski 2024, Leveraging Self-Supervised Vision Transformers for Segmentation-based Transfer Function Design; "
    "the measures are ours", url="https://arxiv.org/abs/2309.01408", licence="a published idea; no code is used", passes="selection_passes",
    rules="Of images in place of volumes, without the paper's refinement by a bilateral solver. The annotated patches count, too: where "
    "the truth map covers few patches, most of a clean overlap is theirs. Corruptions and attacks must leave pixels in their places.",
)  # fmt: skip
def selection(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, truth: Data, points: Count = 8,
    layer: Annotated[int, Ge(0)] | None = None, corruption: Corruption | None = None, attack: Attack | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """How well the patch tokens that are similar to a few annotated ones of the clean image agree with a truth map.

    truth: images by the same ids, white where the class is written, as for the analysis pointing. points: how many of the true patches of
    the clean image are annotated, drawn without replacement; all of them where there are fewer. layer: the block after which tokens are
    taken, counted from 0; None is the last. corruption, attack: what shifts the images, one of them or neither; an attack is run whether or
    not the image is classified correctly. The similarity of a token, of the clean or of the shifted image, is its largest cosine with an
    annotated token of the clean image, to six decimals; selected are those that reach a threshold, one for each image: the one of 0, 0.1, …
    0.9 that gives the best overlap on the clean image, of equal ones the lowest. Columns: value_clean_selection and
    value_shifted_selection, intersection over union of the selected and the true patches; with shifted images value_selection_rank, the
    rank correlation of the similarities of both, NaN where those of one are all equal. Raises DataMissing for images without a truth map,
    HostRefused for a model without one sequence of blocks, BadParameter for a layer that it does not have.
    """
    layer = _checked(model, layer)
    shifted = shifted_images("selection", model, images, labels, draws, corruption, attack)
    grid = patch_grid(model)
    true = true_patches(covered_share(truth_pixels("selection", model, truth, draws.ids).to(images.device), grid))
    annotation = _annotated(true, points, draws.at("points"))
    tokens = _tokens(model, images, layer, grid)
    anchors = tokens.gather(1, annotation.patches[:, :, None].expand(-1, -1, tokens.shape[2]))
    clean = _similarity(tokens, anchors, annotation.used)
    threshold = _best_threshold(clean, true)
    columns = {"value_clean_selection": _overlap(clean >= threshold, true).float()}
    if shifted is not None:
        other = _similarity(_tokens(model, shifted, layer, grid), anchors, annotation.used)
        columns["value_shifted_selection"] = _overlap(other >= threshold, true).float()
        columns["value_selection_rank"] = rank_correlation(clean, other).float()
    return columns


def selection_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One an image; that of a blank image is not counted."""
    return shifted_passes(1.0, plugins)


def _checked(model: Classifier, layer: int | None) -> int:
    depth = len(blocks_of(model))
    if layer is not None and layer >= depth:
        raise BadParameter(f"selection: layer is {layer}, and model '{model.card.label}' has {depth} blocks, 0 to {depth - 1}.")
    return depth - 1 if layer is None else layer


def _annotated(true: Tensor, points: int, draws: Draws) -> _Annotation:
    """true: (N, P) bool, one patch at least of each image."""
    order = draws.permutation(true.shape[1]).to(true.device)
    first = order.gather(1, (~true.gather(1, order)).int().argsort(dim=1, stable=True))[:, :points]
    return _Annotation(first, true.gather(1, first))


@torch.no_grad()
def _tokens(model: Classifier, images: Tensor, layer: int, grid: TokenGrid) -> Tensor:
    """(N, P, D) the patch tokens, of norm 1."""
    found = BlockFeatures(model, (layer,), patch_values)(images).reshape(len(images), grid.rows * grid.columns, -1).double()
    if not bool(torch.isfinite(found).all()):
        raise ModelError(f"model '{model.card.label}': its tokens after block {layer} have values that are not finite numbers.")
    unit: Tensor = found / found.square().sum(dim=2, keepdim=True).sqrt().clamp_min(_SMALLEST)
    return unit


def _similarity(tokens: Tensor, anchors: Tensor, used: Tensor) -> Tensor:
    """(N, P) the largest cosine with an anchor in use. tokens (N, P, D), anchors (N, points, D): of norm 1; used: (N, points)."""
    # a sum of products for each row: a matrix product may round a row otherwise among others
    found = [(tokens * anchors[:, one : one + 1]).sum(dim=2).where(used[:, one, None], -torch.inf) for one in range(anchors.shape[1])]
    return torch.stack(found).amax(dim=0).round(decimals=_DECIMALS)


def _best_threshold(similarity: Tensor, true: Tensor) -> Tensor:
    """(N, 1) the threshold of best overlap, of equal ones the lowest. similarity, true: (N, P)."""
    overlaps = torch.stack([_overlap(similarity >= one, true) for one in _THRESHOLDS], dim=1)
    thresholds = torch.tensor(_THRESHOLDS, dtype=torch.float64, device=similarity.device)
    return thresholds.where(overlaps == overlaps.amax(dim=1, keepdim=True), torch.inf).amin(dim=1, keepdim=True)


def _overlap(selected: Tensor, true: Tensor) -> Tensor:
    return (selected & true).sum(dim=1).double() / (selected | true).sum(dim=1)
