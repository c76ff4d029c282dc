"""The frequencies of feature maps, after every attention and MLP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.token_grid import TokenGrid
from robustvit.primitives.inference.unit_tokens import unit_tokens
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

_FLOOR = 1e-6  # of amplitudes, as the authors' code has it


@analysis(
    family="insides", severity="corruption.severity", headless=True, source="Park and Kim 2022, How Do Vision Transformers Work?",
    url="https://arxiv.org/abs/2202.06709", licence="Apache-2.0; no code is used", passes="fourier_passes",
    rules="Of the patch tokens as a map. The authors' figures read the last whole step below the highest frequency; here it is the highest "
    "that the grid has: π for an even side. Amplitudes are averaged over channels for each image, and images are averaged by the metric.",
)  # fmt: skip
def fourier(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None
) -> dict[str, Tensor]:  # fmt: skip
    """How high the frequencies of feature maps are, before the first block, after each attention and after each MLP.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    With F_k the amplitude of the two-dimensional Fourier transform of a channel at k along the diagonal of frequencies, lists with an entry
    for each of the 1 + 2·L joints: log_amplitude, the mean over channels of ln(F_k + 1e-6) at the highest k less that at 0; and
    feature_variance, the variance over the grid, averaged over channels. spectrum has ln(F_k + 1e-6) less that at 0 for every k of every
    joint. Of clean images value_clean_NAME, of shifted ones value_shifted_NAME. Raises HostRefused for a model whose blocks are not those
    of a plain transformer, or whose tokens are no square grid.
    """
    shifted = shifted_images("fourier", model, images, labels, draws, corruption, attack)
    return both(lambda some: _spectra(model, some), images, shifted)


def fourier_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One an image, and more than as much for the transforms."""
    return shifted_passes(2.2, plugins)


@torch.no_grad()
def _spectra(model: Classifier, images: Tensor) -> dict[str, Tensor]:
    spectra, variances = [], []
    for found in unit_tokens(model, images):
        maps = [_map(one, found.grid, model.card.label) for one in found.units]
        spectra.append(torch.stack([diagonal_spectrum(one) for one in maps], dim=1))
        variances.append(torch.stack([one.var(dim=(2, 3), correction=0).mean(dim=1) for one in maps], dim=1))
    every = torch.cat(spectra)
    return {
        "log_amplitude": every[:, :, -1].float(), "feature_variance": torch.cat(variances).float(),
        "spectrum": every.flatten(1).float(),
    }  # fmt: skip


def diagonal_spectrum(maps: Tensor) -> Tensor:
    """(n, S // 2 + 1): log amplitudes of (n, D, S, S) maps along the diagonal of frequencies, less that at 0, averaged over channels."""
    side = maps.shape[-1]
    place = torch.arange(side, dtype=maps.dtype, device=maps.device)
    angles = (2 * math.pi / side) * (place[:, None] + place).flatten()[:, None] * place[: side // 2 + 1]  # (S², S // 2 + 1)
    flat = maps.flatten(2)
    amplitudes = torch.hypot(flat @ angles.cos(), flat @ angles.sin())
    logs: Tensor = (amplitudes + _FLOOR).log().mean(dim=1)
    return logs - logs[:, :1]


def _map(tokens: Tensor, grid: TokenGrid, label: str) -> Tensor:
    """(n, D, S, S) float64."""
    if grid.rows != grid.columns or grid.rows < 2:
        raise HostRefused(f"fourier reads square maps of at least 2x2 patches, and '{label}' has {grid.rows}x{grid.columns}.")
    patches = tokens[:, grid.prefix :].double()
    return patches.transpose(1, 2).reshape(len(patches), -1, grid.rows, grid.columns)
