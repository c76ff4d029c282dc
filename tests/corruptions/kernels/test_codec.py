"""The JPEG codec, in torch and in compiled loops, against Pillow's files."""

import io
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, features
from torch import Tensor

from robustvit.corruptions import digital
from robustvit.corruptions.kernels import codec
from robustvit.primitives import compiled
from robustvit.primitives.pixels import of_levels, pixels, to_uint8

Codec = Callable[[Tensor, int], Tensor]
QUALITIES = (1, 7, 10, 15, 18, 25, 49, 50, 75, 85, 95)
turbo = pytest.mark.skipif(not features.check_feature("libjpeg_turbo"), reason="this Pillow was built with another libjpeg")


def by_file(images: Tensor, quality: int) -> Tensor:
    files = [io.BytesIO() for _ in images]
    for image, file in zip(to_uint8(images), files, strict=True):
        Image.fromarray(image).save(file, "JPEG", quality=quality)
    return pixels(np.stack([np.asarray(Image.open(file)) for file in files]))


@pytest.fixture(params=["torch", "numba"])
def round_trip(request) -> Codec:
    if request.param == "torch":
        return codec.jpeg_round_trip
    pytest.importorskip("numba")
    return digital._jpeg


@pytest.fixture
def corners() -> Callable[[int, int, int], Tensor]:
    """The strongest contrasts: every channel of every pixel is 0 or 255, in squares of a size."""

    def make(height: int, width: int, side: int) -> Tensor:
        small = torch.randint(2, (1, 3, height, width), generator=torch.Generator().manual_seed(side)).float()
        return small.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :height, :width].contiguous()

    return make


@turbo
def test_sides_of_any_length_are_padded_as_in_a_file(round_trip, noise_images) -> None:
    for height, width in itertools.product((*range(1, 18), 40), (*range(5, 22), 33)):
        images, quality = noise_images(1, height, width, seed=height * width), 7 + (height + width) % 80
        assert torch.equal(round_trip(images, quality), by_file(images, quality)), (height, width)


@turbo
@pytest.mark.parametrize("quality", QUALITIES)
def test_every_quality_gives_the_files_bits(round_trip, noise_images, corners, quality) -> None:
    for images in (noise_images(2, 37, 52), *(corners(37, 52, side) for side in (1, 3, 8, 11))):
        assert torch.equal(round_trip(images, quality), by_file(images, quality))


@turbo
@pytest.mark.parametrize("quality", [1, 25, 85])
def test_flat_colours_give_the_files_bits(round_trip, quality) -> None:
    colours = torch.tensor(list(itertools.product((0, 1, 77, 128, 254, 255), repeat=3)))
    images = of_levels(colours[:, :, None, None].expand(-1, 3, 9, 17).contiguous())
    assert torch.equal(round_trip(images, quality), by_file(images, quality))


@turbo
@pytest.mark.parametrize("size", [(224, 224), (500, 375)], ids=str)
def test_photographs_give_the_files_bits(round_trip, size) -> None:
    photograph = Image.fromarray(pytest.importorskip("skimage.data").astronaut()).resize(size)
    images = pixels(np.asarray(photograph)[None])
    for quality in (1, 10, 50, 95):
        assert torch.equal(round_trip(images, quality), by_file(images, quality))


def test_pixels_off_the_8_bit_grid_are_rounded_first(round_trip) -> None:
    images = torch.rand(2, 3, 21, 30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(round_trip(images, 50), round_trip(pixels(to_uint8(images)), 50))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_the_narrowest_images_are_pillows_with_numba_too(noise_images, width) -> None:
    images = noise_images(1, 12, width)
    assert torch.equal(digital.jpeg(images, None, quality=30), by_file(images, 30))


def test_pillow_is_used_on_a_cpu_without_numba(noise_images) -> None:
    images = noise_images(1, 12, 20)
    with compiled.without():
        assert torch.equal(digital.jpeg(images, None, quality=30), by_file(images, 30))


@pytest.mark.parametrize("quality", QUALITIES)
def test_quantization_tables_are_those_in_the_file(quality) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    written = Image.open(file).quantization
    assert [codec.quantization_tables(quality)[table].ravel().tolist() for table in (0, 1)] == [written[0], written[1]]


def test_the_dct_matrix_is_that_of_the_definition() -> None:
    frequency, pixel = np.mgrid[:8, :8]
    exact = np.cos((2 * pixel + 1) * frequency * np.pi / 16) * np.where(frequency == 0, 1, np.sqrt(2)) * 2**13
    assert np.abs(codec._dct_matrix(torch.device("cpu")).numpy() - exact).max() < 2
