"""Masking: random square holes, dropped patches of a grid, and a central square. Pixels outside the mask keep their bits."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from robustvit.primitives.draws import Draws
from robustvit.primitives.patches import window_pixels
from robustvit.spec.registry import corruption

_SLACK = 1e-9  # patches or pixels; 0.29 of 100 is 29 despite rounding of the product
_LICENCE = "a published definition; no code is used"

Share = Annotated[float, Ge(0), Le(1)]


@corruption(
    severity="fraction",
    family="masking",
    any_channels=True,
    source="Paul & Chen 2022, Vision Transformers are Robust Learners (AAAI), section on masking; after DeVries & Taylor 2017",
    url="https://github.com/sayakpaul/robustness-vit",
    licence=_LICENCE,
    citation="""@inproceedings{paul2022vision,
  title={Vision Transformers are Robust Learners},
  author={Paul, Sayak and Chen, Pin-Yu},
  booktitle={AAAI Conference on Artificial Intelligence},
  year={2022}
}""",
    rules="The paper's: one black hole of 0.05, 0.1, 0.2 and 0.5 of the image at 224 px. Not truncated to 8 bits.",
)
def holes(images: Tensor, draws: Draws, *, fraction: Share, count: Annotated[int, Ge(1)] = 1, fill: Share = 0.0) -> Tensor:
    """Cutout: masks square holes whose centres are uniform over the image. Fraction 0 is the identity.

    fraction: area of each hole relative to the image; the side is √(fraction · H · W), rounded down. As in albumentations' Cutout, a hole
    is moved inside at the upper and left edge and cut off at the right and lower one. fill: value in [0, 1] of all channels.
    """
    height, width = images.shape[-2:]
    side = int(math.sqrt(fraction * height * width))
    down = _covered(draws.at("rows").integers(count, low=0, high=height + 1), side, height)
    across = _covered(draws.at("columns").integers(count, low=0, high=width + 1), side, width)
    hidden = (down[:, :, :, None] & across[:, :, None, :]).any(dim=1)
    return torch.where(hidden[:, None], fill, images)


@corruption(
    severity="fraction",
    family="masking",
    any_channels=True,
    source="Naseer et al. 2021, Intriguing Properties of Vision Transformers (NeurIPS), random PatchDrop",
    url="https://github.com/Muzammal-Naseer/IPViT",
    licence=_LICENCE,
    citation="""@inproceedings{naseer2021intriguing,
  title={Intriguing Properties of Vision Transformers},
  author={Naseer, Muzammal and Ranasinghe, Kanchana and Khan, Salman and Hayat, Munawar and Khan, Fahad Shahbaz and Yang, Ming-Hsuan},
  booktitle={Advances in Neural Information Processing Systems},
  year={2021}
}""",
    rules="The paper's: black patches of 16 px at 224 px, 0.1 … 0.9 of the 196. Drawn per image here, per batch there.",
)
def patch_drop(images: Tensor, draws: Draws, *, fraction: Share, patch: Annotated[int, Ge(1)] = 16, fill: Share = 0.0) -> Tensor:
    """Random PatchDrop: masks a uniformly random set of patches of the grid. Fraction 0 is the identity.

    fraction: of the patches, rounded down to a whole number. patch: the side in pixels; the grid starts in the upper left corner, and
    patches at the right and lower edge may be cut off. fill: value in [0, 1] of all channels.
    """
    height, width = images.shape[-2:]
    rows, columns = (-(-side // patch) for side in (height, width))
    dropped = math.floor(fraction * rows * columns + _SLACK)
    grid = (draws.at("patches").permutation(rows * columns) < dropped).view(-1, rows, columns)
    hidden = grid.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)[:, :height, :width]
    return torch.where(hidden[:, None], fill, images)


@corruption(
    severity="side_share",
    family="masking",
    any_channels=True,
    source="Heo et al. 2021, Rethinking Spatial Dimensions of Vision Transformers (ICCV), robustness benchmarks: Occ",
    url="https://github.com/naver-ai/pit",
    licence=_LICENCE,
    citation="""@inproceedings{heo2021rethinking,
  title={Rethinking Spatial Dimensions of Vision Transformers},
  author={Heo, Byeongho and Yun, Sangdoo and Han, Dongyoon and Chun, Sanghyuk and Choe, Junsuk and Oh, Seong Joon},
  booktitle={IEEE/CVF International Conference on Computer Vision},
  year={2021}
}""",
    rules="The paper's: the central 112x112 of 224 px are black. Black is 0 before normalisation. Not truncated to 8 bits.",
)
def center_occlusion(images: Tensor, draws: Draws, *, side_share: Share = 0.5, fill: Share = 0.0) -> Tensor:
    """Masks the centre of the image. Share 0 is the identity, 1 masks the whole image.

    side_share: of each side, rounded down to whole pixels; where the remainder is odd, the smaller border is above and to the left.
    fill: value in [0, 1] of all channels.
    """
    rows, columns = (_central(size, side_share, images.device) for size in images.shape[-2:])
    return torch.where(rows[:, None] & columns, fill, images)


def _central(size: int, share: float, device: torch.device) -> Tensor:
    """(size,) bool: the central part of one axis."""
    side = int(share * size + _SLACK)
    return window_pixels(torch.tensor((size - side) // 2, device=device), side, size)


def _covered(centres: Tensor, side: int, size: int) -> Tensor:
    """(N, count, size) bool: the part of one axis that each hole covers."""
    return window_pixels((centres - side // 2).clamp_(min=0), side, size)
