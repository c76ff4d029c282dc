"""Statistics of attention maps: closed forms, and loops written from the definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention_statistics import map_statistics
from robustvit.primitives.inference.token_grid import TokenGrid

NONE = TokenGrid(0, 4, 4, False)


def of(maps: Tensor, grid: TokenGrid = NONE, pixels: tuple[float, float] = (8.0, 8.0)) -> dict[str, float]:
    """The statistics of one map (T, T)."""
    return {name: float(value[0]) for name, value in map_statistics(maps[None, None], grid, pixels)._asdict().items()}


def shifted(grid: TokenGrid, down: int, right: int) -> Tensor:
    """Every patch attends to one neighbour, those without it to themselves."""
    made = torch.zeros(grid.rows * grid.columns, grid.rows * grid.columns)
    for row in range(grid.rows):
        for column in range(grid.columns):
            there = 0 <= row + down < grid.rows and 0 <= column + right < grid.columns
            place = (row + down) * grid.columns + column + right if there else row * grid.columns + column
            made[row * grid.columns + column, place] = 1.0
    return made


def test_uniform_attention() -> None:
    places = [(row * 8.0, column * 8.0) for row in range(4) for column in range(4)]
    found = of(torch.full((16, 16), 1 / 16))
    assert found["distance"] == pytest.approx(sum(math.dist(a, b) for a in places for b in places) / 256)
    assert found["entropy"] == pytest.approx(math.log(16))
    for name in ("nmi", "deviation", "offset", "offset_heads", "prefix"):
        assert found[name] == pytest.approx(0.0, abs=1e-7)


def test_attention_to_oneself() -> None:
    found = of(torch.eye(16))
    assert found["nmi"] == pytest.approx(1.0)
    assert found["deviation"] == pytest.approx(math.sqrt(1 / 16 * 15 / 16))
    for name in ("distance", "entropy", "offset", "offset_heads"):
        assert found[name] == 0.0


@pytest.mark.parametrize(("down", "right"), [(0, 1), (1, 0), (-1, -1), (1, -1), (0, -1)])
def test_attention_to_one_neighbour(down: int, right: int) -> None:
    grid = TokenGrid(0, 4, 6, False)
    found, share = of(shifted(grid, down, right), grid, (4.0, 8.0)), (4 - abs(down)) * (6 - abs(right)) / 24
    assert found["offset_heads"] == 1.0
    assert found["offset"] == pytest.approx(share * math.hypot(down, right))
    assert found["distance"] == pytest.approx(share * math.hypot(4.0 * down, 8.0 * right))


def test_all_queries_on_one_key_collapse_without_being_undefined() -> None:
    maps = torch.zeros(16, 16)
    maps[:, 5] = 1.0
    assert (of(maps)["nmi"], of(maps)["entropy"], of(maps)["deviation"]) == (0.0, 0.0, 0.0)


def test_more_than_half_is_needed_of_a_neighbour_that_is_one_and_the_same() -> None:
    right, left = shifted(NONE, 0, 1), shifted(NONE, 0, -1)
    assert of(0.5 * right + 0.5 * left)["offset_heads"] == 0.0
    assert of(0.51 * right + 0.49 * left)["offset_heads"] == 1.0
    two = shifted(TokenGrid(0, 4, 4, False), 0, 2)
    assert of(two)["offset_heads"] == 0.0


def test_they_are_those_of_loops_over_queries_and_keys() -> None:
    grid, size = TokenGrid(2, 3, 5, True), 17
    maps = Draws(0, "maps", ["a", "b"]).normal(4, size, size).mul(2).softmax(dim=-1)
    maps[0, 1, 4] = torch.eye(size)[0]  # a patch that attends to a prefix token alone
    found = map_statistics(maps, grid, (4.0, 8.0))
    for image in range(2):
        expected = [_by_loops(maps[image, head].double(), grid, (4.0, 8.0)) for head in range(4)]
        for name, values in found._asdict().items():
            assert float(values[image]) == pytest.approx(sum(one[name] for one in expected) / 4, abs=1e-9), name


def _by_loops(whole: Tensor, grid: TokenGrid, pixels: tuple[float, float]) -> dict[str, float]:
    count = grid.rows * grid.columns
    places = [(row, column) for row in range(grid.rows) for column in range(grid.columns)]
    rows, prefix = {}, 0.0
    for query in range(count):
        weights = [float(whole[grid.prefix + query, grid.prefix + key]) for key in range(count)]
        prefix += (1.0 - sum(weights)) / count
        if sum(weights) > 0:
            rows[query] = [one / sum(weights) for one in weights]
    n = len(rows)
    keys = [sum(row[key] for row in rows.values()) / n for key in range(count)]
    mutual = sum(row[key] / n * math.log(row[key] / keys[key]) for row in rows.values() for key in range(count) if row[key] > 0)
    of_keys = -sum(one * math.log(one) for one in keys if one > 0)
    apart = {
        (i, j): ((places[j][0] - places[i][0]) * pixels[0], (places[j][1] - places[i][1]) * pixels[1]) for i in rows for j in range(count)
    }
    step = [sum(row[j] * (places[j][axis] - places[i][axis]) for i, row in rows.items() for j in range(count)) / n for axis in (0, 1)]
    near = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            there = [
                row[places.index((places[i][0] + down, places[i][1] + right))]
                for i, row in rows.items()
                if (down, right) != (0, 0) and (places[i][0] + down, places[i][1] + right) in places
            ]
            near += [sum(there) / len(there)] if there else []
    return {
        "distance": sum(row[j] * math.hypot(*apart[i, j]) for i, row in rows.items() for j in range(count)) / n,
        "entropy": -sum(one * math.log(one) for row in rows.values() for one in row if one > 0) / n,
        "nmi": mutual / math.sqrt(math.log(n) * of_keys), "prefix": prefix, "offset": math.hypot(*step),
        "deviation": sum(math.sqrt(sum((row[j] - keys[j]) ** 2 for row in rows.values()) / n) for j in range(count)) / count,
        "offset_heads": float(max(near) > 0.5),
    }  # fmt: skip
