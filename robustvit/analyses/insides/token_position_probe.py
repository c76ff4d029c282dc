"""Whether a token tells where it is: a linear probe of the place of a patch, block by block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.unit_tokens import UnitTokens, unit_tokens
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.primitives.quantisation.calibration import LoadBatch
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec

_ROWS = 256  # training images that are loaded at once


@analysis(
    family="insides", severity="corruption.severity", headless=True, fit="fit_probe",
    source="Ghiasi et al. 2022, What do Vision Transformers Learn? A Visual Exploration; Raghu et al. 2021",
    url="https://arxiv.org/abs/2212.06727", licence="none; no code is used", passes="probe_passes",
    rules="One probe for each block, fitted to clean training images by ridge regression in closed form.",
)  # fmt: skip
def token_position_probe(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor], *, train: Data,
    samples: Annotated[int, Ge(1)] = 512, ridge: Annotated[float, Gt(0)] = 1e-3, corruption: Corruption | None = None,
    attack: Attack | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """The share of patch tokens of each image from which a linear probe tells the place of the patch.

    train: images that the probes are fitted to; their labels are not used; samples: how many of them, the first in evaluation order. A
    probe regresses which of the P patches a token is of on the token, standardised, with this ridge as a share of the number of tokens, and
    names the patch with the largest value; by chance it is right for 1/P. corruption, attack: what shifts the images, one of them or
    neither; an attack is run whether or not the image is classified correctly. Columns: value_clean_position, a list with an entry for each
    block; of shifted images value_shifted_position. Raises HostRefused for a model whose blocks are not those of a plain transformer.
    """
    shifted = shifted_images("token_position_probe", model, images, labels, draws, corruption, attack)
    fitted = {name: values.to(images.device) for name, values in artifact.items()}
    return both(lambda some: _right(model, some, fitted), images, shifted)


def probe_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One an image, and one for each training image."""
    own = shifted_passes(1.0, plugins)
    training = min(product_of(spec, "samples"), len(plugins["train"])) / GRADIENT
    return None if own is None else Passes(forward=own.forward, fit=training)


@torch.no_grad()
def fit_probe(
    model: Classifier, load_batch: LoadBatch, draws: Draws, *, train: Data, samples: int, ridge: float, **others: Any
) -> dict[str, Tensor]:  # fmt: skip
    """weight: (L, D + 1, P): of each block, from a token and a 1 to a value for each patch."""
    chosen = order(train.ids)[:samples]
    squares: Tensor | None = None
    sums = torch.zeros(0)
    for start in range(0, len(chosen), _ROWS):
        for found in unit_tokens(model, load_batch(train, chosen[start : start + _ROWS]).images):
            tokens = _with_one(found)  # (L, n, P, D + 1)
            own = torch.einsum("lnpd,lnpe->lde", tokens, tokens)
            by_place = tokens.sum(dim=1).transpose(1, 2)
            squares, sums = (own, by_place) if squares is None else (squares + own, sums + by_place)
    assert squares is not None
    count, size = squares[0, -1, -1], squares.shape[-1]
    means = squares[:, -1:, :-1] / count
    variances = squares[:, :-1, :-1].diagonal(dim1=1, dim2=2) / count - means[:, 0] ** 2
    penalty = torch.zeros(len(squares), size, dtype=squares.dtype, device=squares.device)
    penalty[:, :-1] = ridge * count * variances.clamp_min(torch.finfo(torch.float32).tiny)
    return {"weight": torch.linalg.solve(squares + torch.diag_embed(penalty), sums)}


@torch.no_grad()
def _right(model: Classifier, images: Tensor, fitted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tiles = []
    for found in unit_tokens(model, images):
        tokens = _with_one(found)
        named = torch.einsum("lnpd,ldk->lnpk", tokens, fitted["weight"]).argmax(dim=3)
        tiles.append((named == torch.arange(tokens.shape[2], device=named.device)).double().mean(dim=2).T)
    return {"position": torch.cat(tiles).float()}


def _with_one(found: UnitTokens) -> Tensor:
    """(L, n, P, D + 1) float64: the patch tokens after every block, and a 1."""
    tokens = torch.stack([one[:, found.grid.prefix :].double() for one in found.mlp])
    return torch.cat((tokens, torch.ones_like(tokens[..., :1])), dim=3)
