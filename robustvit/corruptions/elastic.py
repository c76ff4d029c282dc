"""Elastic deformation by the two generators of ImageNet-C, which differ: the authors' own, and that of imagecorruptions."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, PORT_CITATION, PORT_RULES, PORT_SOURCE, PORT_URL, RULES, SOURCE, URL
from robustvit.corruptions.kernels import filters
from robustvit.corruptions.kernels.eight_bit import fractions, in_chunks, truncated
from robustvit.corruptions.kernels.sampling import sample_bilinear
from robustvit.corruptions.kernels.warps import affine_mirrored, inverse_affine
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_SIDE = 244  # the authors' slip for 224, kept in the released files
_SHAPES = (  # stretch of the field, its sigma, largest move of the affine part's corners: all in pixels, whatever the size of the image
    (_SIDE * 2, _SIDE * 0.7, _SIDE * 0.1),
    (_SIDE * 2, _SIDE * 0.08, _SIDE * 0.2),
    (_SIDE * 0.05, _SIDE * 0.01, _SIDE * 0.02),
    (_SIDE * 0.07, _SIDE * 0.01, _SIDE * 0.02),
    (_SIDE * 0.12, _SIDE * 0.01, _SIDE * 0.02),
)
_STRETCH = (250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12)
_SMOOTH, _PUSH = 0.01, 0.005  # of the sides: the sigma and the largest displacement before the stretch
_TRUNCATE = 3.0


@corruption(
    severity="severity", family="digital", version=2, smallest=(48, 96, 0, 0, 0),
    source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES,
)  # fmt: skip
def elastic_transform(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Elastic deformation: a random affine map, then every pixel is sampled at a smooth random displacement.

    The algorithm of the released ImageNet-C. Severities 1 and 2 are mostly the affine map, 3 to 5 mostly the displacement: the error need
    not increase between them. Lengths are in pixels at any size: at 32 px half of the image lies outside at severities 1 and 2 (14 and 26 %
    at 224), and mirror images take its place.
    """
    corners = draws.at("corners").uniform(3, 2)
    across, down = (draws.at(purpose).uniform(*images.shape[-2:]) for purpose in ("across", "down"))
    return in_chunks(lambda part, *given: _elastic_transform(part, *given, severity=severity), images, corners, across, down)


@corruption(
    severity="severity", family="digital", source=PORT_SOURCE, url=PORT_URL, licence=LICENCE, citation=PORT_CITATION, rules=PORT_RULES
)
def elastic_transform_imagecorruptions(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Elastic deformation as imagecorruptions defines it: a displacement that grows with the image, and no affine map.

    Version 1 of `elastic_transform`, with its draws.
    """
    own = Draws(draws.seed, "corruption/elastic_transform", draws.ids, draws.device)
    across, down = (own.at(purpose).uniform(*images.shape[-2:]) for purpose in ("across", "down"))
    return in_chunks(lambda part, *given: _elastic_transform_imagecorruptions(part, *given, severity=severity), images, across, down)


def _elastic_transform(images: Tensor, corners: Tensor, across: Tensor, down: Tensor, *, severity: Severity) -> Tensor:
    """corners: (N, 3, 2) uniform in [0, 1), moves of three corners of a square; across, down: (N, H, W) likewise."""
    stretch, sigma, most = _SHAPES[severity - 1]
    warped = affine_mirrored(fractions(images).float(), _affine(corners, most, images.shape[-2], images.shape[-1]))
    fields = torch.stack((down, across), dim=1).double().mul_(2.0).sub_(1.0)
    smooth = filters.gaussian_blur(fields, (sigma, sigma), _TRUNCATE, "reflect")
    return truncated(_displaced(warped, smooth.mul_(stretch)))


def _elastic_transform_imagecorruptions(images: Tensor, across: Tensor, down: Tensor, *, severity: Severity) -> Tensor:
    """across, down: (N, H, W) uniform in [0, 1)."""
    height, width = images.shape[-2:]
    push = height * _PUSH
    fields = torch.stack((down, across), dim=1).double().mul_(2 * push).add_(-push)
    smooth = filters.gaussian_blur(fields, (height * _SMOOTH, width * _SMOOTH), _TRUNCATE, "reflect")
    return truncated(_displaced(fractions(images).float(), smooth.mul_(_STRETCH[severity - 1])), images.dtype)


def _affine(corners: Tensor, most: float, height: int, width: int) -> Tensor:
    """(N, 6) float64: where each pixel of an affine map is sampled, by which three corners of a square move by up to `most` pixels.

    The square's centre is (H // 2, W // 2), taken for (x, y), as in the released generator. An image of less than three pixels, where that
    square is a point, is not mapped.
    """
    x, y, reach = height // 2, width // 2, min(height, width) // 3
    if not reach:
        return torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64, device=corners.device).expand(len(corners), -1)
    before = torch.tensor(
        [[x + reach, y + reach], [x + reach, y - reach], [x - reach, y - reach]], dtype=torch.float32, device=corners.device
    )
    after = (before + corners.double().mul_(2 * most).sub_(most).float()).double()
    down, right = (after[:, 0] - after[:, 1]) / (2.0 * reach), (after[:, 1] - after[:, 2]) / (2.0 * reach)
    start = after[:, 2] - right * (x - reach) - down * (y - reach)
    return inverse_affine(torch.stack((right, down, start), dim=2).flatten(1))


def _displaced(images: Tensor, moves: Tensor) -> Tensor:
    """Levels of float32 images (N, 3, H, W), sampled bilinearly at displacements (N, 2, H, W), down and across, rounded to float32."""
    height, width = images.shape[-2:]
    down, across = moves.float().double().unbind(1)
    rows = torch.arange(height, device=images.device)[:, None] + down
    columns = torch.arange(width, device=images.device) + across
    return sample_bilinear(images, rows, columns).float().mul_(255.0)
