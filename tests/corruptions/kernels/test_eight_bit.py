"""The 8-bit grid."""

import numpy as np
import torch

from robustvit.corruptions.kernels.eight_bit import fractions, in_chunks, in_planes, in_strips, levels, truncated
from robustvit.primitives.pixels import of_levels, pixels

EVERY = torch.arange(256)


def test_levels_of_grid_pixels_are_whole() -> None:
    assert torch.equal(levels(of_levels(EVERY)), EVERY.double())


def test_an_ulp_beside_the_grid_is_still_on_it() -> None:
    images = of_levels(EVERY)
    for beside in (torch.nextafter(images, torch.ones(1)), torch.nextafter(images, torch.zeros(1))):
        assert torch.equal(levels(beside), EVERY.double())


def test_other_pixels_keep_their_fraction_of_a_level() -> None:
    assert float(levels(torch.tensor([0.5]))) == 127.5
    assert float(fractions(torch.tensor([0.5]))) == 0.5


def test_levels_are_clipped_and_truncated() -> None:
    values = torch.tensor([-3.0, 0.99, 1.0, 7.999, 255.0, 300.0], dtype=torch.float64)
    assert torch.equal(truncated(values), of_levels(torch.tensor([0, 0, 1, 7, 255, 255])))


def test_levels_come_back_as_the_pixels_a_decoded_image_has() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert torch.equal(truncated(levels(pixels(image))), pixels(image))


def test_chunks_are_put_together_in_order() -> None:
    images = torch.rand(7, 3, 4, 4)
    assert torch.equal(in_chunks(lambda part, other: part + other, images, images, rows=3), images + images)


def test_bytes_are_levels_and_come_back_as_bytes() -> None:
    given = EVERY.to(torch.uint8)
    assert torch.equal(levels(given), EVERY.double())
    assert torch.equal(fractions(given), fractions(of_levels(EVERY)))
    found = truncated(torch.tensor([-3.0, 0.99, 7.999, 300.0]), torch.uint8)
    assert found.dtype == torch.uint8
    assert found.tolist() == [0, 0, 7, 255]


def test_bytes_stay_bytes_in_parts_of_an_image() -> None:
    images = torch.randint(256, (2, 3, 100, 200), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for parts in (in_chunks, in_planes, in_strips):
        found = parts(lambda part: part // 2, images)
        assert found.dtype == torch.uint8
        assert torch.equal(found, images // 2)
