"""Images whose class is written in one patch: what is where, and what tells nothing."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
from vits import made, vit

import robustvit as rv
from robustvit.data.digits import digits
from robustvit.data.planted import digits_planted


def array(data: Any) -> np.ndarray:
    return np.stack([data[index].image for index in range(len(data))])


@pytest.mark.parametrize("background", ["digits", "noise"])
def test_colour_is_in_the_patch_alone_and_is_the_class(background: Any) -> None:
    data = digits_planted(None, background=background)
    images, corners = array(data), data.traits.facts["fact_patch"]
    truth = array(digits_planted(None, background=background, show="truth"))
    for image, mask, label, (top, left) in zip(images, truth, data.labels, corners, strict=True):
        inside = np.zeros((32, 32), bool)
        inside[top : top + 8, left : left + 8] = True
        assert np.array_equal(mask, np.repeat(np.where(inside, 255, 0)[..., None], 3, axis=2))
        assert np.array_equal(image.min(axis=2) != image.max(axis=2), inside)
        (colour,) = np.unique(image[inside], axis=0)
        assert colorsys.rgb_to_hsv(*(colour / 255))[0] == pytest.approx(label / 10, abs=0.003)


def test_the_rest_is_the_grey_digit_or_noise_and_tells_nothing_of_the_class() -> None:
    data, plain = digits_planted(None), digits(None, ink="grey")
    images, theirs = array(data), array(plain)
    truth = array(digits_planted(None, show="truth"))
    assert np.array_equal(np.where(truth > 0, 0, images), np.where(truth > 0, 0, theirs))
    assert list(data.ids) == [f"digits_planted/{name.removeprefix('digits/')}" for name in plain.ids]
    assert 0.05 < float((data.labels == plain.labels).mean()) < 0.16
    noise = array(digits_planted(None, background="noise"))
    assert abs(float(noise[truth == 0].mean()) - 127.5) < 1
    assert np.array_equal(noise[truth > 0], images[truth > 0])


def test_classes_and_places_are_drawn_evenly_and_parts_share_nothing() -> None:
    train, test = digits_planted(None, split="train"), digits_planted(None)
    assert (len(train), len(test)) == (1297, 500)
    assert not set(train.ids) & set(test.ids)
    assert (train.labels.dtype, len(train.classes)) == (np.int64, 10)
    for values, count in ((train.labels, 10), ([row // 8 * 4 + column // 8 for row, column in train.traits.facts["fact_patch"]], 16)):
        found = np.bincount(values, minlength=count)
        expected = 1297 / count
        assert ((found - expected) ** 2 / expected).sum() < 2.2 * count  # far beyond any chi-squared of an even draw
    cells = np.array(train.traits.facts["fact_patch"]) // 8
    for label in range(10):
        assert len(np.unique(cells[train.labels == label], axis=0)) >= 14, "a class is in nearly every place"
    kinds = [digits_planted(None), digits_planted(None, background="noise"), digits_planted(None, show="truth"), train]
    assert len({one.fingerprint for one in kinds}) == 4


def test_it_is_found_by_its_name_and_records_carry_the_place(tmp_path: Any) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: mine\ntitle: Mine\ndata: digits_planted\nscenarios: [clean]\nmetrics: [top1]\n")
    rv.run(path, [made(lambda: vit(num_classes=10))], store=tmp_path / "s", limit=8, progress=False)
    ((_, frame),) = list(rv.load_records(tmp_path / "s"))
    data = digits_planted(None)
    known = dict(zip(data.ids, data.traits.facts["fact_patch"], strict=True))
    assert [list(place) for place in frame["fact_patch"]] == [known[name] for name in frame["sample"]]
