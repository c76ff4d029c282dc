"""Other labels for the digits: parity, hue of the ink, orientation."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from robustvit.data.digits import digits
from robustvit.data.downstream.digit_tasks import digit_tasks, nearest_hue

ORIENTATIONS = [2, 0, 3, 3, 3, 3, 0, 2, 3, 0, 1, 3]


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize(("task", "classes"), [("parity", 2), ("colour", 6), ("orientation", 4)])
def test_a_task_has_the_samples_of_digits_and_every_class(task: str, classes: int, split: str) -> None:
    made, original = digit_tasks(None, task=task, split=split), digits(None, split=split)
    assert made.ids == original.ids
    counts = np.bincount(made.labels, minlength=classes)
    assert len(made.classes) == len(counts) == classes
    assert counts.min() > len(made) / classes / 4
    if task != "orientation":
        assert all((made[i].image == original[i].image).all() for i in range(0, len(made), 50))


def test_parity_is_of_the_digit() -> None:
    assert (digit_tasks(None).labels == digits(None).labels % 2).all()


def test_colour_is_the_hue_of_the_pixel_with_the_most_ink() -> None:
    """By colorsys, away from the borders between hues, where 8 bits may round across."""
    made, grey = digit_tasks(None, task="colour"), digits(None, ink="grey")
    checked = 0
    for i in range(len(made)):
        ink = grey[i].image[..., 0]
        row, column = np.unravel_index(ink.argmax(), ink.shape)
        red, green, blue = (int(value) / 255 for value in made[i].image[row, column])
        hue = 6 * colorsys.rgb_to_hsv(red, green, blue)[0]
        if ink.max() == 255 and abs(hue % 1 - 0.5) > 0.1 and max(red, green, blue) - min(red, green, blue) > 0.1:
            checked += 1
            assert made.labels[i] == round(hue) % 6
    assert checked > 300


@pytest.mark.parametrize(("colour", "name"), [
    ((1, 0, 0), 0), ((1, 0.9, 0.1), 1), ((0.1, 0.8, 0), 2), ((0, 0.9, 1), 3), ((0.2, 0.1, 0.7), 4), ((1, 0, 0.9), 5), ((1, 0, 0.2), 0),
])  # fmt: skip
def test_pure_hues(colour: tuple[float, ...], name: int) -> None:
    assert nearest_hue(np.array([colour])).tolist() == [name]


def test_an_image_is_turned_left_by_its_label() -> None:
    made, original = digit_tasks(None, task="orientation"), digits(None)
    for i in range(0, 500, 7):
        turned = original[i].image
        for _ in range(int(made.labels[i])):
            turned = turned.transpose(1, 0, 2)[::-1]
        assert (made[i].image == turned).all()
    assert made.classes[1] == "a quarter turn left"


def test_the_orientation_of_an_image_is_the_same_on_every_machine() -> None:
    assert digit_tasks(None, task="orientation").labels[:12].tolist() == ORIENTATIONS
