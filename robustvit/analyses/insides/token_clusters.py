"""Whether the classes of images show as clusters of their features, block by block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.batch import NO_CLASS
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.unit_tokens import unit_tokens
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

_STARTS = 4  # of k-means, of which the best is taken
_COLUMNS = ("cluster_purity", "cluster_nmi", "cluster_ari")


@analysis(
    family="insides", severity="corruption.severity", headless=True, group="group",
    source="Walmer et al. 2023, Teaching Matters", url="https://arxiv.org/abs/2212.03862", licence="MIT; no code is used",
    passes="clusters_passes",
    rules="As many clusters as the group has classes, of which each needs several images: take larger groups where there are many "
    "classes. Numbers depend on the size of the group: compare equal sizes.",
)  # fmt: skip
def token_clusters(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None,
    group: Literal[64, 128, 256, 512] = 64, of: Literal["class", "patches"] = "patches",
) -> dict[str, Tensor]:  # fmt: skip
    """How well clusters of the features of a group of images, found by k-means, agree with their classes.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    group: how many images are clustered together, the next in evaluation order. of: the class token (the mean of the patches in a model
    without) or the mean of the patch tokens. Lists with an entry for each block, shared by the group: cluster_purity, the share of images
    of the commonest class of their cluster; cluster_nmi, mutual information of clusters and classes over the mean of their entropies;
    cluster_ari, the adjusted Rand index, 0 by chance and 1 where both are the same. Of clean images value_clean_NAME, of shifted ones
    value_shifted_NAME. Raises HostRefused for a model whose blocks are not those of a plain transformer.
    """
    if bool((labels == NO_CLASS).any()):
        raise BadParameter("token_clusters compares clusters with classes, and some images are of no class of the data.")
    shifted = shifted_images("token_clusters", model, images, labels, draws, corruption, attack)
    starts = [int(one) for one in draws.at("starts").integers(low=0, high=2**31 - 1).tolist()[::group]]

    def measure(some: Tensor) -> dict[str, Tensor]:
        rows = torch.split(torch.arange(len(some)), group)
        features = _features(model, some, of)
        found = np.stack([
            [agreement(block[part].numpy(), labels[part].cpu().numpy(), start) for block in features]
            for part, start in zip(rows, starts, strict=True)
        ])  # fmt: skip
        return {
            name: torch.from_numpy(found[:, :, place]).float()
            for place, name in enumerate(("cluster_purity", "cluster_nmi", "cluster_ari"))
        }

    return both(measure, images, shifted)


def clusters_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One an image, and some more for the clusters, which take longer than a small model."""
    return shifted_passes(1.2, plugins)


def agreement(features: np.ndarray, labels: np.ndarray, start: int) -> tuple[float, float, float]:
    """Purity, normalised mutual information and adjusted Rand index of clusters of (n, D) features and (n,) labels. start: a seed."""
    found = KMeans(len(np.unique(labels)), n_init=_STARTS, random_state=start).fit_predict(features)
    purity = contingency_matrix(labels, found).max(axis=0).sum() / len(labels)
    return float(purity), float(normalized_mutual_info_score(labels, found)), float(adjusted_rand_score(labels, found))


@torch.no_grad()
def _features(model: Classifier, images: Tensor, of: str) -> list[Tensor]:
    """(n, D) float64 after each block."""
    tiles = []
    for found in unit_tokens(model, images):
        tokens = (one[:, 0] if of == "class" and found.grid.class_token else one[:, found.grid.prefix :].mean(dim=1) for one in found.mlp)
        tiles.append([one.double().cpu() for one in tokens])
    return [torch.cat(block) for block in zip(*tiles, strict=True)]
