"""Fractals: their dimension, what conjugation does, contraction, and images that depend on their id alone."""

from __future__ import annotations

import numpy as np
import pytest

from robustvit.data.fractals.fractals import FILL, category_system, drawn, fractals
from robustvit.data.fractals.iterated_functions import IteratedFunctions, contracting, orbit, random_system
from robustvit.errors import BadParameter
from robustvit.evaluation.loading import load_data
from robustvit.primitives.batch import Data, traits
from robustvit.primitives.draws import Draws

SIERPINSKI = IteratedFunctions(np.tile(np.eye(2) / 2, (3, 1, 1)), np.array([[0.0, 0.0], [0.5, 0.0], [0.25, 0.5]]))
DRAWS = Draws(0, "fractal", ("a",))


def test_the_sierpinski_triangle_has_its_dimension() -> None:
    points = orbit(SIERPINSKI, DRAWS, 1 << 16).points
    sides = 2 ** np.arange(2, 7)
    boxes = [len(np.unique(np.floor(points * side), axis=0)) for side in sides]
    assert np.polyfit(np.log(sides), np.log(boxes), 1)[0] == pytest.approx(np.log(3) / np.log(2), abs=0.05)


def test_its_points_are_evenly_in_its_three_parts_and_none_in_the_hole() -> None:
    x, y = orbit(SIERPINSKI, DRAWS, 1 << 14).points.T
    top, right = y > 0.5, (y < 0.5) & (x > 0.5)
    assert [top.mean(), right.mean()] == pytest.approx([1 / 3, 1 / 3], abs=0.02)
    hole = (y < 0.5) & (np.abs(x - 0.5) < y / 2 - 1e-9)
    assert not hole.any()


def test_conjugated_maps_have_the_transformed_attractor() -> None:
    turn, shift = np.array([[0.6, -1.1], [0.7, 0.4]]), np.array([0.3, -0.2])
    system = random_system(DRAWS)
    inverse = np.linalg.inv(turn)
    matrices = turn @ system.matrices @ inverse
    other = IteratedFunctions(matrices, system.shifts @ turn.T + shift - (matrices @ shift))
    expected = orbit(system, DRAWS, 2000).points @ turn.T + shift
    assert np.allclose(orbit(other, DRAWS, 2000).points, expected, atol=1e-9)


def test_every_map_of_a_system_contracts_and_one_that_did_is_as_it_was() -> None:
    entries = Draws(0, "m", ("a",)).uniform(200, 2, 2, low=-1.0)[0].double().numpy()
    found = contracting(entries)
    before, after = (np.linalg.norm(one, 2, axis=(1, 2)) for one in (entries, found))
    assert after == pytest.approx(np.minimum(before, 0.95))
    assert (found[before < 0.95] == entries[before < 0.95]).all()
    counts = {len(random_system(Draws(0, "n", (str(one),))).matrices) for one in range(60)}
    assert counts == {2, 3, 4, 5, 6, 7}


def test_a_system_with_one_entry_changed_still_contracts() -> None:
    system = random_system(DRAWS)
    assert (system.scaled(4, 1.8).shifts == system.shifts * [1.8, 1.0]).all()
    assert (system.scaled(5, 0.2).matrices == system.matrices).all()
    assert (system.scaled(2, 0.2).matrices == contracting(system.matrices * [[1.0, 1.0], [0.2, 1.0]])).all()
    assert np.linalg.norm(system.scaled(1, 1.8).matrices, 2, axis=(1, 2)).max() <= 0.95 + 1e-12


def test_colours_are_means_along_the_orbit() -> None:
    same = IteratedFunctions(np.tile(np.eye(2) / 2, (1, 1, 1)), np.zeros((1, 2)))
    colours = orbit(same, DRAWS, 256).colours
    assert (colours == DRAWS.at("palette").uniform(7, 3)[0, 0].double().numpy()).all()
    assert len(np.unique(orbit(SIERPINSKI, DRAWS, 256).colours, axis=0)) > 20


@pytest.mark.parametrize("category", range(4))
def test_the_attractor_of_a_category_covers_a_fifth_of_the_image(category: int) -> None:
    points = orbit(category_system(3, category), Draws(0, "more", ("a",)), 1 << 15).points
    # 56 of 64 pixels of a side: the others are the margin
    assert (np.histogram2d(*points.T, bins=56)[0] > 0).sum() / 64**2 > FILL


def test_it_is_a_data_set_with_a_class_for_each_system() -> None:
    data = load_data("fractals?categories=3&instances=2&side=16")
    assert isinstance(data, Data)
    assert data.ids == tuple(f"fractals/0/0000{category}/00{instance}" for category in range(3) for instance in range(2))
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (data.classes, data.source, traits(data).cut) == (("0", "1", "2"), "generated", 16)
    assert (data[4].image.shape, data[4].image.dtype, data[4].label) == ((16, 16, 3), np.uint8, 2)


def test_an_image_depends_on_its_id_alone() -> None:
    few, many = fractals(None, categories=2, side=16), fractals(None, categories=3, instances=3, side=16)
    assert few.ids[1] == many.ids[3]
    assert (few[1].image == many[3].image).all()
    assert not (few[0].image == few[1].image).all()
    assert not (fractals(None, categories=2, side=16, seed=1)[1].image == few[1].image).all()
    assert fractals(None, categories=2, side=16).fingerprint == few.fingerprint
    assert fractals(None, categories=2, side=16, ink="grey").fingerprint != few.fingerprint


def test_the_first_instances_are_mirror_images() -> None:
    system = random_system(DRAWS)
    first, across, down, both = (drawn(system, DRAWS, instance, 16, "coloured") for instance in range(4))
    assert (across == first[:, ::-1]).all()
    assert (down == first[::-1]).all()
    assert (both == first[::-1, ::-1]).all()
    assert not (across == first).all()


def test_further_instances_change_an_entry_and_the_last_draw_strokes() -> None:
    system = random_system(DRAWS)
    changed = drawn(system.scaled(1, 0.6), DRAWS, 0, 24, "coloured")
    assert (drawn(system, DRAWS, 4 * (1 + 4 + 1), 24, "coloured") == changed).all()
    points, strokes = (drawn(system, DRAWS, instance, 24, "grey")[..., 0] > 0 for instance in (0, 100))
    bits = int(DRAWS.at("stroke").integers(low=1, high=512))
    expected = np.zeros((26, 26), bool)
    for bit in range(9):
        if bits >> bit & 1:
            expected[2 - bit // 3 : 26 - bit // 3, 2 - bit % 3 : 26 - bit % 3] |= points
    assert (strokes == expected[1:-1, 1:-1]).all()


def test_grey_images_are_of_two_levels_within_a_margin() -> None:
    image = fractals(None, categories=2, side=32, ink="grey")[0].image
    assert set(np.unique(image)) == {0, 127}
    rows, columns = np.nonzero(image[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 29, 2, 29)


@pytest.mark.parametrize("wrong", ["categories=1", "instances=1001", "side=4", "ink=red", "seed=-1"])
def test_what_no_fractal_has_is_refused(wrong: str) -> None:
    with pytest.raises(BadParameter, match=wrong.partition("=")[0]):
        load_data(f"fractals?{wrong}")
