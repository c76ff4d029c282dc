"""ImageNet-C̄ against its released generator: given the same random numbers, the same bytes.

`cbar.npz` holds an image, what imagenet_c_bar/corrupt.py (facebookresearch/augmentation-corruption, MIT, at ba4d5a5) makes of it at
severities 1 and 5, and the numbers it drew. Where this was written no byte differs, nor did one at 48 and 224 pixels, over twenty and
five images of each. On another processor sines may differ in the last bit, and a value may be truncated to the level below:
three in 3072 may differ.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from robustvit.corruptions.imagenet_cbar import caustic, lattice, sparkle, spectra, waves
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.spec.registry import entries

GIVEN = {
    "blue_noise_sample": spectra._blue_noise_sample,
    "brownish_noise": spectra._brownish_noise,
    "caustic_refraction": caustic._caustic_refraction,
    "checkerboard_cutout": lattice._checkerboard_cutout,
    "cocentric_sine_waves": waves._rings,
    "inverse_sparkles": sparkle._inverse_sparkles,
    "perlin_noise": lattice._perlin_noise,
    "plasma_noise": waves._plasma,
    "single_frequency_greyscale": waves._stripes,
    "sparkles": sparkle._sparkles,
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name("cbar.npz")) as file:
        return dict(file)


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("name", GIVEN)
def test_the_bytes_are_those_of_the_released_generator(golden, name, severity) -> None:
    drawn = [golden[key] for key in sorted(golden) if key.startswith(f"{name}/{severity}/")]
    tensors = [torch.from_numpy(numbers.astype(np.int64) if numbers.dtype == np.int16 else numbers) for numbers in drawn]
    made = GIVEN[name](pixels(golden["image"][None]), *tensors, severity=severity)
    assert np.count_nonzero(to_uint8(made)[0] != golden[f"{name}/{severity}"]) <= 3


def test_no_corruption_of_the_family_is_left_out() -> None:
    assert set(GIVEN) == {name for name, entry in entries("corruption").items() if entry.family == "c-bar"}
