"""Reading between pixels, against scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from robustvit.corruptions.kernels.sampling import sample_bilinear, zoom


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.3, 2.5, 4.5])
@pytest.mark.parametrize("shape", [(24, 24), (33, 20)])
def test_zoom_is_scipys_zoom_of_the_centre(factor, shape) -> None:
    image = np.random.default_rng(0).random(shape)
    kept = [int(np.ceil(side / factor)) for side in shape]
    start = [(side - keep) // 2 for side, keep in zip(shape, kept, strict=True)]
    expected = ndimage.zoom(image[start[0] : start[0] + kept[0], start[1] : start[1] + kept[1]], factor, order=1)
    assert np.allclose(zoom(torch.from_numpy(image)[None, None], factor)[0, 0].numpy(), expected, rtol=0, atol=1e-12)


def test_what_rounding_puts_past_the_corner_is_zero_as_in_scipy() -> None:
    expected = ndimage.zoom(np.ones((4, 4)), 188 / 4, order=1)
    assert expected[-1, -1] == 0
    image = torch.zeros(1, 1, 186, 186, dtype=torch.float64)
    image[..., 91:95, 91:95] = 1.0
    assert np.allclose(zoom(image, 188 / 4)[0, 0].numpy(), expected)


def test_sampling_is_scipys_with_mirrored_borders() -> None:
    random = np.random.default_rng(1)
    image, rows, columns = random.random((9, 11)), random.uniform(-25, 30, (9, 11)), random.uniform(-25, 30, (9, 11))
    expected = ndimage.map_coordinates(image, [rows, columns], order=1, mode="reflect")
    found = sample_bilinear(*(torch.from_numpy(values)[None] for values in (image[None], rows, columns)))
    assert np.allclose(found[0, 0].numpy(), expected, rtol=0, atol=1e-12)


def test_sampling_at_the_pixels_is_the_identity() -> None:
    image = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    rows, columns = (grid.double().expand(2, 5, 6) for grid in torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij"))
    assert torch.equal(sample_bilinear(image, rows, columns), image)
