"""The drop-in: the signature, errors and draws of imagecorruptions."""

import subprocess
import sys

import numpy as np
import pytest

from robustvit.corruptions import corrupt, digital, get_corruption_names, imagecorruptions_api, salt_and_pepper
from robustvit.errors import MissingExtra
from robustvit.primitives.pixels import pixels, to_uint8

EVERY = get_corruption_names("all")
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _opencv(request: pytest.FixtureRequest) -> None:
    """Skips the drop-in's frost, which is resized by OpenCV, where there is none."""
    if "frost" in request.node.name:
        pytest.importorskip("cv2", exc_type=ImportError)


@pytest.mark.parametrize("name", EVERY)
def test_bytes_of_the_same_shape_come_back_and_the_image_is_left_alone(name) -> None:
    before = PHOTO.copy()
    after = corrupt(PHOTO, 3, name)
    assert after.dtype == np.uint8
    assert after.shape == PHOTO.shape
    assert np.array_equal(PHOTO, before)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "impulse_noise"])
def test_a_seed_of_numpys_global_generator_repeats_the_bytes(name) -> None:
    first, second = (np.random.seed(7), corrupt(PHOTO, 2, name))[1], (np.random.seed(7), corrupt(PHOTO, 2, name))[1]
    assert np.array_equal(first, second)


def test_gaussian_noise_is_the_global_generators(draws) -> None:
    np.random.seed(3)
    expected = np.uint8((PHOTO / 255.0 + np.random.normal(size=PHOTO.shape, scale=0.18)).clip(0, 1) * 255)
    np.random.seed(3)
    assert np.array_equal(corrupt(PHOTO, 3, "gaussian_noise"), expected)


def test_large_images_are_drawn_for_in_the_order_of_memory() -> None:
    image = np.random.default_rng(1).integers(0, 256, (170, 130, 3), dtype=np.uint8)  # more than a strip
    np.random.seed(3)
    expected = np.uint8((image / 255.0 + np.random.normal(size=image.shape, scale=0.18)).clip(0, 1) * 255)
    np.random.seed(3)
    assert np.array_equal(corrupt(image, 3, "gaussian_noise"), expected)
    generator = np.random.default_rng(5)
    hit, salt = generator.random(image.shape) <= 0.09, generator.random(image.shape) <= 0.5
    assert np.array_equal(salt_and_pepper(image, 3, np.random.default_rng(5)), np.where(hit, np.uint8(salt) * 255, image))


@pytest.mark.parametrize("name", [name for name in EVERY if name != "impulse_noise"])
def test_a_read_only_view_is_taken_as_its_copy(name) -> None:
    view = np.random.default_rng(2).integers(0, 256, (64, 90, 3), dtype=np.uint8)[::2, ::-2]
    view.flags.writeable = False
    np.random.seed(7)
    found = corrupt(view, 2, name)
    np.random.seed(7)
    assert np.array_equal(found, corrupt(view.copy(), 2, name))


def test_salt_and_pepper_takes_its_generator_and_leaves_the_global_one_alone() -> None:
    state = np.random.get_state()[1].tolist()
    first, second = (salt_and_pepper(PHOTO, 4, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, corrupt(PHOTO, 4, "impulse_noise"))
    assert np.random.get_state()[1].tolist() == state


def test_numbers_index_the_names_in_order() -> None:
    assert EVERY[12] == "elastic_transform"
    assert EVERY[15:] == ["speckle_noise", "gaussian_blur", "spatter", "saturate"] == get_corruption_names("validation")
    assert np.array_equal(corrupt(PHOTO, 2, corruption_number=13), corrupt(PHOTO, 2, "pixelate"))


def test_the_steps_are_those_of_the_registered_corruptions(draws) -> None:
    registered = to_uint8(digital.contrast(pixels(PHOTO[None]), draws(1), severity=4))[0]
    assert np.array_equal(corrupt(PHOTO, 4, "contrast"), registered)


@pytest.mark.parametrize("shape", [(40, 48), (40, 48, 1)], ids=str)
def test_a_grey_image_is_taken_as_three_equal_channels(shape) -> None:
    grey = PHOTO[..., 0].reshape(shape)
    assert np.array_equal(corrupt(grey, 1, "zoom_blur"), corrupt(np.stack([PHOTO[..., 0]] * 3, axis=2), 1, "zoom_blur"))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PHOTO.tolist(), "numpy.ndarray"),
        (PHOTO / 255.0, "float64"),
        (PHOTO[None], r"\(1, 40, 48, 3\)"),
        (PHOTO[..., :2], r"\(40, 48, 2\)"),
        (PHOTO[:31], "31x48 pixels"),
    ],
)
def test_invalid_images_raise_what_the_reference_raises(image, message) -> None:
    with pytest.raises(AttributeError, match=message):
        corrupt(image, 1, "fog")


@pytest.mark.parametrize("severity", [0, 6, 2.5, "3"])
def test_severities_out_of_range_are_refused(severity) -> None:
    with pytest.raises(AttributeError, match="severity"):
        corrupt(PHOTO, severity, "fog")


def test_a_corruption_must_be_given_and_known() -> None:
    with pytest.raises(ValueError, match="corruption_name"):
        corrupt(PHOTO)
    with pytest.raises(KeyError, match="gaussian_blur"):
        corrupt(PHOTO, 1, "gausian_blur")
    with pytest.raises(IndexError, match="19"):
        corrupt(PHOTO, 1, corruption_number=19)


def test_frost_without_opencv_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    imagecorruptions_api.frost_texture.cache_clear()
    with pytest.raises(MissingExtra, match="opencv-python-headless"):
        corrupt(PHOTO, 1, "frost")


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = "import sys, robustvit.corruptions; print(sorted({'torch', 'numpy', 'cv2', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
