"""Both elastic deformations against scipy, and the released one against bytes of the released generator's steps with OpenCV 4.11."""

import numpy as np
import parity
import pytest
import torch
from scipy import ndimage

from robustvit.corruptions import elastic
from robustvit.corruptions.kernels import filters
from robustvit.corruptions.kernels.warps import affine_mirrored, inverse_affine
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import of_levels, to_uint8

EVERY = [1, 2, 3, 4, 5]
RELEASED = [(488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)]
DIGESTS = {  # of the result for default_rng(0)'s noise after np.random.seed(1000 + severity)
    (32, 32): ("8dfe5b86fc962791", "6f42f44b22f12942", "712d2e99cd84ca60", "424e548952ef20c7", "fc2936abaf3cf6ad"),
    (64, 48): ("c40137265fea5b83", "0c1f690fa5930779", "18cd8afff6f2cddc", "fc75e33eaf34562b", "311732d85bc2db1c"),
}


def smooth_image(height: int, width: int) -> np.ndarray:
    """(H, W) in [0, 1], smooth enough that 1/32 of a pixel is less than a level."""
    rows, columns = np.mgrid[:height, :width]
    return 0.5 + 0.4 * np.sin(rows / 17.0) * np.cos(columns / 23.0)


@pytest.mark.parametrize("size", DIGESTS)
@pytest.mark.parametrize("severity", EVERY)
def test_the_bytes_are_the_released_generators(size, severity) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert parity.digest(parity.ours("hendrycks", "elastic_transform", severity, image)) == DIGESTS[size][severity - 1]


@pytest.mark.parametrize("severity", EVERY)
def test_the_released_one_is_an_affine_map_and_scipys_smooth_field(severity) -> None:
    stretch, sigma, most = RELEASED[severity - 1]
    height, width = 90, 110
    corners, across, down = (np.random.default_rng(severity).random(shape) for shape in ((3, 2), (height, width), (height, width)))
    before = np.array([[75, 85], [75, 25], [15, 25]])  # (45, 55) ± 30, as (x, y)
    after = before + (2 * corners - 1) * most
    to_source = np.linalg.solve(np.c_[after, np.ones(3)], before)  # (x, y, 1) of the result to (x, y) of the image
    x_part, y_part = to_source[:2].T
    matrix = np.array([y_part[::-1], x_part[::-1]])
    start = smooth_image(height, width)
    warped = ndimage.affine_transform(start, matrix, to_source[2][::-1], order=1, mode="mirror")
    moves = [ndimage.gaussian_filter(2 * field - 1, sigma, mode="reflect", truncate=3) * stretch for field in (down, across)]
    at = [grid + move for grid, move in zip(np.mgrid[:height, :width], moves, strict=True)]
    expected = ndimage.map_coordinates(warped, at, order=1, mode="reflect") * 255
    given = (torch.from_numpy(one)[None] for one in (corners, across, down))
    images = torch.from_numpy(start).float().expand(1, 3, -1, -1).contiguous()
    found = elastic._elastic_transform(images, *given, severity=severity)[0, 0].double().numpy() * 255
    assert np.abs(found + 0.5 - expected).max() < 1.2  # truncated to a level, and sampled in steps of 1/32


@pytest.mark.parametrize("severity", EVERY)
def test_imagecorruptions_is_scipys_sampling_of_a_smooth_field(noise_images, severity) -> None:
    image, random = noise_images(1, 36, 52), np.random.default_rng(0)
    across, down = random.random((2, 36, 52))
    push, stretch = 36 * 0.005, [12.5, 16.25, 21.25, 25.0, 30.0][severity - 1]
    smooth = [ndimage.gaussian_filter((f * 2 - 1) * push, (0.36, 0.52), mode="reflect", truncate=3) * stretch for f in (down, across)]
    at = [grid + move for grid, move in zip(np.mgrid[:36, :52], smooth, strict=True)]
    expected = [ndimage.map_coordinates(channel, at, order=1, mode="reflect") * 255 for channel in image[0].double().numpy()]
    given = (torch.from_numpy(field)[None] for field in (across, down))
    found = elastic._elastic_transform_imagecorruptions(image, *given, severity=severity)[0].double().numpy() * 255
    assert np.abs(found - (np.floor(expected))).max() <= 1
    assert (np.abs(found - np.floor(expected)) > 0.5).mean() < 0.005


def test_imagecorruptions_has_the_draws_of_version_1_of_elastic_transform(noise_images) -> None:
    images, first = noise_images(2), Draws(3, "corruption/elastic_transform", ["a", "b"])
    fields = (first.at(purpose).uniform(24, 31) for purpose in ("across", "down"))
    own = Draws(3, "corruption/elastic_transform_imagecorruptions", ["a", "b"])
    expected = elastic._elastic_transform_imagecorruptions(images, *fields, severity=4)
    assert torch.equal(elastic.elastic_transform_imagecorruptions(images, own, severity=4), expected)


@pytest.mark.parametrize("size", [(24, 24), (24, 31), (2, 9)])
def test_corners_that_stay_move_no_pixel(noise_images, size) -> None:
    image = noise_images(1, *size)
    still = torch.full((1, 3, 2), 0.5), torch.full((1, *size), 0.5), torch.full((1, *size), 0.5)
    assert torch.equal(elastic._elastic_transform(image, *still, severity=2), image)


def test_a_shift_is_a_shift_and_borders_are_mirrored_without_the_edge() -> None:
    image = of_levels(torch.arange(4 * 5).view(1, 1, 4, 5)).expand(1, 3, 4, 5).contiguous()
    shifted = affine_mirrored(image, torch.tensor([[1.0, 0.0, 2.0, 0.0, 1.0, -1.0]], dtype=torch.float64))
    expected = np.pad(np.arange(20).reshape(4, 5), ((1, 0), (0, 2)), mode="reflect")[:4, 2:]
    assert to_uint8(shifted)[0, ..., 1].tolist() == expected.tolist()


def test_a_map_and_its_inverse_cancel() -> None:
    maps = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    last = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(4, 1, 3)
    forth, back = (torch.cat((some.view(-1, 2, 3), last), 1) for some in (maps, inverse_affine(maps)))
    assert torch.allclose(forth @ back, torch.eye(3, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize(("size", "sigma"), [((20, 33), 19.5), ((33, 20), 170.8), ((1, 5), 170.8)], ids=str)
def test_a_kernel_longer_than_the_image_is_scipys(size, sigma) -> None:
    field = np.random.default_rng(0).random(size)
    expected = ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3)
    found = filters.gaussian_blur(torch.from_numpy(field)[None, None], (sigma, sigma), 3.0, "reflect")[0, 0].numpy()
    assert np.abs(found - expected).max() < 1e-14
