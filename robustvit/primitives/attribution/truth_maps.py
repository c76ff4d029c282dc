"""Truth maps: the pixels that the class of an image is known to be written in, and the tokens that they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustvit.errors import DataMissing, few
from robustvit.primitives.attribution.recorded import over_patches
from robustvit.primitives.batch import Data, traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.token_grid import TokenGrid

_WHITE = 128  # a pixel belongs to the truth map from this level on


def truth_pixels(who: str, model: Classifier, truth: Data, ids: Sequence[str]) -> Tensor:
    """(N, H, W) bool, through the model's view, by the nearest pixel. truth: images by the same ids, white where the class is written.

    who: begins the message of DataMissing, which tells how many images have no truth map, or one that the view leaves nothing of.
    """
    place = {name: index for index, name in enumerate(truth.ids)}
    missing = [name for name in ids if name not in place]
    if missing:
        raise DataMissing(f"{who}: {len(missing)} of {len(ids)} images have no truth map in '{truth.name}': {few(missing)}.")
    cut = traits(truth).cut
    view = replace(model.view if cut is None else model.view.for_precropped(cut), interpolation="nearest")
    levels = np.stack([np.asarray(view.apply(Image.fromarray(truth[place[name]].image)))[:, :, 0] for name in ids])
    found = torch.from_numpy(levels >= _WHITE)
    empty = [name for name, one in zip(ids, found.flatten(1).any(dim=1).tolist(), strict=True) if not one]
    if empty:
        raise DataMissing(f"{who}: {len(empty)} of {len(ids)} truth maps in '{truth.name}' show nothing: {few(empty)}.")
    return found


def covered_share(pixels: Tensor, grid: TokenGrid) -> Tensor:
    """(N, rows, columns) the share of each patch that (N, H, W) bool covers."""
    of_one = (pixels.shape[1] // grid.rows) * (pixels.shape[2] // grid.columns)
    return over_patches(pixels.double(), grid) / of_one


def true_patches(share: Tensor) -> Tensor:
    """(N, P) bool: patches that are covered by half or more; of an image without any, those that are covered most."""
    flat = share.flatten(1)
    return flat >= flat.amax(dim=1, keepdim=True).clamp_max(0.5)
