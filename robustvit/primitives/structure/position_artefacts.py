"""Features of an image at several shifts as a sum of what is at each place of the image and what each position adds, by least squares.

Views of an image are rolled by whole patches. With f_k(p) the features of view k at position p, and p_k(u) the position of place u in it,
f_k(p_k(u)) = F(u) + G(p_k(u)): F is the image's own, G is shared by all images. F is eliminated as the mean over views of f − G, and G then
solves linear equations whose matrix is a circular convolution, so that sums over images suffice, and a Fourier transform solves them.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SINGULAR = 1e-9  # of the largest eigenvalue: below it shifts say nothing of a frequency, as of the constant one


def rolled(images: Tensor, shifts: Tensor, patch: tuple[int, int]) -> Tensor:
    """(N, K, C, H, W): images (N, C, H, W) rolled down and to the right by so many patches. shifts: (N, K, 2) int64."""
    count, views = shifts.shape[:2]
    lines = []
    for axis, (length, side) in enumerate(zip(images.shape[2:], patch, strict=True)):
        places = torch.arange(length, device=images.device)
        lines.append((places - side * shifts[:, :, axis, None].to(images.device)) % length)
    rows, columns = lines
    channels = torch.arange(images.shape[1], device=images.device)[None, None, :, None, None]
    chosen = torch.arange(count, device=images.device)[:, None, None, None, None].expand(-1, views, 1, 1, 1)
    made: Tensor = images[chosen, channels, rows[:, :, None, :, None], columns[:, :, None, None, :]]
    return made


def positions_of_places(shifts: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, K, P) int64: at which position of each view each place of the image is, both in raster order. shifts: (N, K, 2)."""
    rows, columns = (torch.arange(length, device=shifts.device) for length in grid)
    row = (rows + shifts[:, :, 0, None]) % grid[0]
    column = (columns + shifts[:, :, 1, None]) % grid[1]
    return (row[:, :, :, None] * grid[1] + column[:, :, None, :]).flatten(2)


def added_sums(sums: dict[str, Tensor], features: Tensor, shifts: Tensor, grid: tuple[int, int]) -> dict[str, Tensor]:
    """What G is solved of, with further images: kernel, (rows, columns), and right, (rows, columns, D), both float64.

    sums: of earlier images, or nothing. features: (N, K, P, D).
    """
    count, views, patches, width = features.shape
    positions = positions_of_places(shifts, grid)
    values = features.double().gather(2, positions[..., None].expand_as(features))
    right = values.new_zeros(patches, width)
    right.index_add_(0, positions.flatten(), (values - values.mean(dim=1, keepdim=True)).flatten(0, 2))
    apart = (shifts[:, :, None] - shifts[:, None]) % torch.tensor(grid, device=shifts.device)
    kernel = torch.bincount((apart[..., 0] * grid[1] + apart[..., 1]).flatten(), minlength=patches).double() / -views
    kernel[0] += count * views
    found = {"kernel": kernel.view(grid), "right": right.view(*grid, width)}
    return {name: found[name] + sums[name] if sums else found[name] for name in found}


def position_artefacts(sums: dict[str, Tensor]) -> Tensor:
    """(P, D) float64: the G of least squares whose mean over positions is 0, and which is 0 wherever no two views differ."""
    spectrum = torch.fft.fft2(sums["kernel"]).real[..., None]
    known = spectrum > _SINGULAR * spectrum.max()
    right = torch.fft.fft2(sums["right"], dim=(0, 1))
    found = torch.where(known, right / spectrum.where(known, 1.0), 0.0)
    artefacts: Tensor = torch.fft.ifft2(found, dim=(0, 1)).real.flatten(0, 1)
    return artefacts


def without_artefacts(features: Tensor, shifts: Tensor, grid: tuple[int, int], artefacts: Tensor) -> Tensor:
    """(N, K, P, D): F at every position of every view, in the type of features (N, K, P, D). artefacts: G, (P, D)."""
    positions = positions_of_places(shifts, grid)[..., None].expand_as(features)
    clean = (features.double() - artefacts).gather(2, positions).mean(dim=1, keepdim=True)
    return torch.zeros_like(features).scatter(2, positions, clean.to(features.dtype).expand_as(features))
