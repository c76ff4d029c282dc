"""Maps of the plane as matrices from a pixel of the result to the place in the image that it shows, for `resampled`.

Each composes all that is done to an image, so that it is resampled once. Coordinates are pixels to the right of and below the centre.
"""

from __future__ import annotations

import torch
from torch import Tensor


def affine_maps(degrees: Tensor, right: Tensor, down: Tensor, scale: Tensor | None = None, shear: Tensor | None = None) -> Tensor:
    """(N, 3, 3) float64: images are sheared, scaled and rotated about the centre, then moved. All parameters are (N,).

    degrees: clockwise; multiples of 90 are exact. right, down: pixels. scale: above 1 enlarges. shear: degrees by which the vertical axis
    leans to the left. As torchvision's `affine` with a shear along x alone.
    """
    degrees, right, down = degrees.double(), right.double(), down.double()
    cosine, sine = turned(degrees)
    lean = torch.zeros_like(cosine) if shear is None else torch.deg2rad(shear.double()).tan()
    size = torch.ones_like(cosine) if scale is None else scale.double()
    a, b = (cosine - lean * sine) / size, (sine + lean * cosine) / size
    d, e = -sine / size, cosine / size
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    rows = (a, b, -(a * right + b * down), d, e, -(d * right + e * down), zero, zero, one)
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def turned(degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of angles in degrees, any shape, float64; exact at multiples of 90."""
    quarters = (degrees.detach() / 90.0).round()
    rest = torch.deg2rad(degrees.double() - 90.0 * quarters).contiguous()
    cosine, sine = rest.cos(), rest.sin()
    turn = quarters.long().remainder(4)
    first = torch.where(turn == 0, cosine, torch.where(turn == 1, -sine, torch.where(turn == 2, -cosine, sine)))
    second = torch.where(turn == 0, sine, torch.where(turn == 1, cosine, torch.where(turn == 2, -sine, -cosine)))
    return first, second


def perspective_maps(corners: Tensor, height: int, width: int) -> Tensor:
    """(N, 3, 3) float64: images of height x width whose corners land at `corners`, (N, 4, 2), in pixels (x, y) from the centre.

    In the order upper left, upper right, lower right, lower left; they must form a convex quadrilateral. The map from the unit square to it
    is Heckbert's closed form (1989, Fundamentals of Texture Mapping and Image Warping, section 2.2.3), inverted by its adjugate.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (corners.double()[:, place].contiguous().T for place in range(4))
    ax, ay, bx, by = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    sx, sy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    area = ax * by - ay * bx
    g, h = (sx * by - sy * bx) / area, (ax * sy - ay * sx) / area
    forward = ((x1 - x0 + g * x1, x3 - x0 + h * x3, x0), (y1 - y0 + g * y1, y3 - y0 + h * y3, y0), (g, h, torch.ones_like(g)))
    inverse = _adjugate(forward)
    tall, broad = max(height - 1, 1), max(width - 1, 1)
    across, down, depth = inverse
    rows = (
        [broad * (one - 0.5 * last) for one, last in zip(across, depth, strict=True)],
        [tall * (one - 0.5 * last) for one, last in zip(down, depth, strict=True)],
        depth,
    )
    whole = torch.stack([torch.stack(list(row), dim=1) for row in rows], dim=1)
    return whole / whole[:, 2:, 2:]


def image_corners(height: int, width: int) -> Tensor:
    """(4, 2) float64: the corners of an image as `perspective_maps` takes them."""
    x, y = (width - 1) / 2, (height - 1) / 2
    return torch.tensor([[-x, -y], [x, -y], [x, y], [-x, y]], dtype=torch.float64)


def _adjugate(matrix: tuple[tuple[Tensor, ...], ...]) -> tuple[tuple[Tensor, ...], ...]:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    return (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
