import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import robustvit as rv
from robustvit.data.digits import digits
from robustvit.primitives.batch import Data


def all_images(data):
    return np.stack([sample.image for sample in data])


@pytest.fixture(scope="module")
def held_out():
    return digits(None)


def test_digits_are_a_data_set_of_500_images_of_32_pixels(held_out):
    assert isinstance(held_out, Data)
    assert len(held_out) == 500
    assert {held_out[i].image.shape for i in range(500)} == {(32, 32, 3)}
    assert held_out[0].image.dtype == np.uint8


def test_the_two_splits_share_no_digit_and_hold_all_of_them(held_out):
    numbers = [int(name.rpartition("/")[2]) for name in (*held_out.ids, *digits(None, split="train").ids)]
    assert sorted(numbers) == list(range(1797))


def test_the_split_is_the_same_on_every_machine(held_out):
    assert held_out.ids[:3] == ("digits/test/0005", "digits/test/0007", "digits/test/0013")
    assert np.bincount(held_out.labels).tolist() == [59, 56, 45, 58, 43, 51, 53, 45, 38, 52]


def test_an_id_names_its_place_in_scikit_learns_file():
    original, grey = load_digits(), digits(None, ink="grey")
    sample = grey[17]
    number = int(sample.id.rpartition("/")[2])
    expected = Image.fromarray(np.rint(original.images[number] * 255 / 16).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
    assert sample.label == original.target[number]
    assert (sample.image == np.asarray(expected)[:, :, None]).all()


@pytest.mark.parametrize("split", ["test", "train"])
def test_every_digit_is_lighter_than_its_ground_by_the_contrast(split):
    coloured, grey = all_images(digits(None, split=split)), all_images(digits(None, split=split, ink="grey"))[..., 0]
    light = (coloured @ np.array([0.299, 0.587, 0.114]) / 255).reshape(len(grey), -1)
    share = grey.reshape(len(grey), -1) / 255
    rows, least, most = np.arange(len(grey)), share.argmin(axis=1), share.argmax(axis=1)
    contrast = (light[rows, most] - light[rows, least]) / (share[rows, most] - share[rows, least])
    assert contrast.min() > 0.3 - 2 / 255


def test_a_coloured_digit_has_two_colours_and_what_lies_between(held_out):
    image, share = held_out[3].image.astype(float), digits(None, ink="grey")[3].image[..., :1] / 255
    ground, ink = image[share[..., 0] == 0][0], image[share[..., 0] == 1][0]
    assert np.abs(image - (ground + share * (ink - ground))).max() <= 1


def test_colours_are_the_same_on_every_machine(held_out):
    assert held_out[0].image[0, 0].tolist() == [106, 43, 107]
    assert held_out[1].image[0, 0].tolist() == [175, 18, 11]


def test_ink_changes_images_and_not_ids(held_out):
    grey = digits(None, ink="grey")
    assert grey.ids == held_out.ids
    assert grey.fingerprint != held_out.fingerprint


def test_opening_the_digits_twice_gives_one_fingerprint(held_out):
    assert digits(None).fingerprint == held_out.fingerprint
    assert digits(None, split="train").fingerprint != held_out.fingerprint


def test_its_repr_is_short() -> None:
    whole = rv.load_data("digits")
    assert repr(whole) == "<ImageDataset digits: 500 samples, 10 classes>"
    part = rv.load_data("digits?part=calibration")
    assert repr(part) == f"<DataPart digits?part=calibration: {len(part)} samples, 10 classes>"
