"""Parts that move with the image and survive what shifts it: closed forms, a reference by loops, and the metrics that read them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from vits import TILE, images, made, vit

import robustvit as rv
from robustvit.analyses.insides.part_consistency import consistency_passes, part_consistency
from robustvit.errors import BadParameter, HostRefused
from robustvit.metrics.insides.parts import part_agreement, part_count, part_equivariance, part_overlap
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.drawn_maps import drawn_affine
from robustvit.primitives.inference.part_assignments import maps_of_parts, mean_part_iou
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.passes import Passes
from robustvit.primitives.structure.part_maps import PartViT, find_parts
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

SIDE, PATCH = 16, 2
STILL: dict[str, float] = {"degrees": 0.0, "shift": 0.0, "scale": 1.0}


class Colours(nn.Module):
    """Tokens that are the mean colours of patches, from −1 to 1, times a factor."""

    embed_dim, num_prefix_tokens = 3, 0

    def __init__(self, sharp: float) -> None:
        super().__init__()
        self.sharp, self.fc_norm = sharp, nn.Identity()
        self.patch_embed: Any = SimpleNamespace(grid_size=(SIDE // PATCH,) * 2)

    def forward_features(self, pixels: Tensor) -> Tensor:
        return self.sharp * nn.functional.avg_pool2d(pixels, PATCH).flatten(2).transpose(1, 2)


def painted(sharp: float = 8.0, count: int = 2) -> Classifier:
    """A model whose parts are the red and the green pixels, and whose background is black."""
    torch.manual_seed(0)
    module = PartViT(Colours(sharp), count, 2, 0.0)
    with torch.no_grad():
        module.assignment.prototypes.copy_(sharp * torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, -1]]))
    card = Card("painted", Spec("toy"), fingerprint(module), "given")
    return Classifier(module, mean=(0.5,) * 3, std=(0.5,) * 3, view=View((SIDE, SIDE), SIDE), card=card, tile=TILE)


def drawn(count: int) -> Draws:
    return Draws(0, "x", [str(row) for row in range(count)])


def none(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


def halves() -> Tensor:
    """Red on the left, green on the right."""
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    pixels[:, 0, :, : SIDE // 2], pixels[:, 1, :, SIDE // 2 :] = 1, 1
    return pixels


def test_overlap_and_agreement_of_halves_in_closed_form() -> None:
    def darken(some: Tensor, draws: Draws) -> Tensor:
        """Makes the upper half of red black, and a quarter of green red."""
        found = some.clone()
        found[:, :, : SIDE // 2, : SIDE // 2] = 0
        found[:, :, SIDE * 3 // 4 :, SIDE // 2 :] = torch.tensor([1.0, 0, 0]).view(3, 1, 1)
        return found

    found = part_consistency(painted(), halves(), none(1), drawn(1), corruption=darken, **STILL)
    assert float(found["value_part_agreement"]) == 1 - 1 / 4 - 1 / 8
    assert float(found["value_part_overlap"]) == pytest.approx(((1 / 4) / (1 / 2 + 1 / 8) + (3 / 8) / (1 / 2)) / 2)
    assert float(found["value_clean_part_count"]) == float(found["value_shifted_part_count"]) == 2
    assert float(found["value_clean_part_iou"]) == float(found["value_shifted_part_iou"]) == 1
    black = part_consistency(painted(), halves(), none(1), drawn(1), corruption=lambda some, draws: 0 * some)
    assert [float(black[f"value_{name}"]) for name in ("part_agreement", "part_overlap", "shifted_part_iou", "shifted_part_count")] == [
        0
    ] * 4


def test_what_does_not_move_is_equivariant_and_the_rest_is_what_loops_find() -> None:
    model, pixels = painted(sharp=0.7), torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    still = part_consistency(model, pixels, none(3), drawn(3), **STILL)
    assert still["value_clean_part_iou"].tolist() == [1, 1, 1]
    found = part_consistency(model, pixels, none(3), drawn(3), degrees=25.0, shift=0.2, scale=1.3)
    maps = drawn_affine(drawn(3).at("affine map"), (SIDE, SIDE), 25.0, 0.2, (1 / 1.3, 1.3)).numpy()
    for row in range(3):
        moved = np.array([at(pixels[row].numpy(), *source(maps[row], y, x)) for y in range(SIDE) for x in range(SIDE)])
        own = assignment(pixels[row].double().numpy())
        other = assignment(moved.T.reshape(3, SIDE, SIDE)).argmax(axis=0)
        here = np.array([at(own, *source(maps[row], y, x)).argmax() for y in range(SIDE) for x in range(SIDE)]).reshape(SIDE, SIDE)
        seen = [[all(0 <= one <= SIDE - 1 for one in source(maps[row], y, x)) for x in range(SIDE)] for y in range(SIDE)]
        values = []
        for part in (0, 1):
            one, two = (here == part) & seen, (other == part) & seen
            values += [(one & two).sum() / (one | two).sum()] if (one | two).any() else []
        assert len(values) == 2
        assert float(found["value_clean_part_iou"][row]) == pytest.approx(sum(values) / 2, abs=1e-6)
        assert 0.1 < sum(values) / 2 < 0.95


def source(matrix: Any, y: int, x: int) -> tuple[float, float]:
    """The row and column in the image that a pixel of the moved one shows."""
    middle = (SIDE - 1) / 2
    across, down, _ = matrix @ np.array([x - middle, y - middle, 1.0])
    return down + middle, across + middle


def at(image: Any, y: float, x: float) -> Any:
    """(C,): an image read bilinearly, the border repeated."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, across in ((left, 1 - (x - left)), (left + 1, x - left)):
            total = total + down * across * image[:, min(max(row, 0), SIDE - 1), min(max(column, 0), SIDE - 1)]
    return total


def assignment(image: Any) -> Any:
    """(3, 16, 16): part maps of a painted model of factor .7, made of patches and enlarged bilinearly, by loops."""
    cells, grid = SIDE // PATCH, np.zeros((3, SIDE // PATCH, SIDE // PATCH))
    prototypes = 0.7 * np.array([[1.0, -1, -1], [-1, 1, -1], [-1, -1, -1]])
    for row in range(cells):
        for column in range(cells):
            token = 0.7 * (2 * image[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean(axis=(1, 2)) - 1)
            near = np.exp(-((token - prototypes) ** 2).sum(axis=1))
            grid[:, row, column] = near / near.sum()
    found = np.zeros((3, SIDE, SIDE))
    for y in range(SIDE):
        for x in range(SIDE):
            down, across = (min(max((one + 0.5) / PATCH - 0.5, 0), cells - 1) for one in (y, x))
            top, left = min(int(down), cells - 2), min(int(across), cells - 2)
            for row, high in ((top, 1 - (down - top)), (top + 1, down - top)):
                for column, wide in ((left, 1 - (across - left)), (left + 1, across - left)):
                    found[:, y, x] += high * wide * grid[:, row, column]
    return found


def test_the_overlap_of_parts_by_sets() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(4, (5, 3, 4), generator=generator) for _ in range(2))
    inside = torch.rand(5, 3, 4, generator=generator) < 0.7
    first[4], second[4] = 3, 3
    first[3][first[3] == 1], second[3][second[3] == 1] = 0, 3
    expected = []
    for one, two, seen in zip(first, second, inside, strict=True):
        places = [(y, x) for y in range(3) for x in range(4) if seen[y, x]]
        sets = [({at for at in places if one[at] == part}, {at for at in places if two[at] == part}) for part in range(3)]
        shares = [len(a & b) / len(a | b) for a, b in sets if a | b]
        expected.append(sum(shares) / len(shares) if shares else 0.0)
    assert expected[4] == 0
    assert mean_part_iou(first, second, 3, inside).tolist() == pytest.approx(expected)


def test_shifted_numbers_are_those_of_the_shifted_images_and_attacks_are_taken() -> None:
    model, pixels = parted(), images(TILE + 2)
    clean, labels = part_consistency(model, pixels, none(TILE + 2), drawn(TILE + 2)), none(TILE + 2)
    assert set(clean) == {"value_clean_part_iou", "value_clean_part_count"}
    other = part_consistency(model, 0.5 * pixels, labels, drawn(TILE + 2))
    for given in ({"corruption": lambda some, draws: 0.5 * some}, {"attack": lambda model, some, labels, draws: 0.5 * some}):
        found = part_consistency(model, pixels, labels, drawn(TILE + 2), **given)
        for name in ("part_iou", "part_count"):
            assert torch.equal(found[f"value_clean_{name}"], clean[f"value_clean_{name}"])
            assert torch.equal(found[f"value_shifted_{name}"], other[f"value_clean_{name}"])
        assert found["value_part_agreement"].dtype == found["value_part_overlap"].dtype == torch.float32
    with pytest.raises(BadParameter, match="give corruption or attack, one of the two"):
        part_consistency(model, pixels, labels, drawn(TILE + 2), corruption=abs, attack=abs)


def parted() -> Classifier:
    return made(lambda: find_parts(vit(depth=2), 4), sharp=3.0)


def test_rows_do_not_depend_on_their_company() -> None:
    model, pixels, draws = parted(), images(TILE + 2), drawn(TILE + 2)
    dim: Any = {"corruption": lambda some, draws: some * draws.uniform(1, 1, 1, low=0.2)}
    whole = part_consistency(model, pixels, none(TILE + 2), draws, **dim)
    assert float(whole["value_part_overlap"].std()) > 0
    for rows in (torch.tensor([TILE + 1]), torch.tensor([1, 2])):
        alone = part_consistency(model, pixels[rows], none(len(rows)), draws[rows], **dim)
        assert all(torch.equal(values, whole[name][rows]) for name, values in alone.items())


def test_maps_are_those_of_the_model_and_others_have_none() -> None:
    model, pixels = parted(), images(TILE + 2)
    net: Any = model.model
    given = (pixels - model.mean) / model.std
    tokens = net.backbone.forward_features(given)[:, 1:]
    torch.testing.assert_close(maps_of_parts(model, pixels), net.assignment(tokens).maps.detach(), atol=1e-5, rtol=0)
    with pytest.raises(HostRefused, match="'toy' finds no parts of images; train one with the defense 'parts'"):
        part_consistency(made(vit), images(1), none(1), drawn(1))


def test_metrics_read_a_side_or_the_difference() -> None:
    rows = pd.DataFrame({
        "value_clean_part_iou": [0.5, 1.0], "value_shifted_part_iou": [0.25, 0.5], "value_part_agreement": [0.1, 0.2],
        "value_part_overlap": [0.3, 0.4], "value_clean_part_count": [2.0, 3.0], "value_shifted_part_count": [1.0, 0.0],
    })  # fmt: skip
    assert part_equivariance(rows).tolist() == [0.5, 1.0]
    assert part_equivariance(rows, side="shifted").tolist() == [0.25, 0.5]
    assert part_equivariance(rows, side="shifted", drift=True).tolist() == [-0.25, -0.5]
    assert (part_agreement(rows).tolist(), part_overlap(rows).tolist()) == ([0.1, 0.2], [0.3, 0.4])
    assert (part_count(rows).tolist(), part_count(rows, side="shifted").tolist()) == ([2, 3], [1, 0])
    with pytest.raises(BadParameter, match="give side=shifted, too"):
        part_equivariance(rows, drift=True)


def test_passes_are_those_of_the_image_and_of_the_moved_one() -> None:
    given: Any = None
    assert consistency_passes(given, given, {}) == Passes(forward=2.5)
    assert consistency_passes(given, given, {"corruption": abs}) == Passes(forward=5.0)
    assert consistency_passes(given, given, {"attack": abs}) is None


def test_in_a_suite_models_without_parts_are_undefined_and_the_rest_goes_on(tmp_path: Any) -> None:
    path = tmp_path / "parts.yaml"
    path.write_text(
        "name: mine\ntitle: Mine\ndata: digits\nscenarios: [part_consistency, "
        "{part_consistency: {corruption: {gaussian_noise: {severity: 3}}}}]\n"
        "metrics: [part_equivariance, part_agreement, part_overlap, part_count]\n"
    )
    done = rv.run(path, ["demo+parts(count=4)", "demo"], store=tmp_path / "s", limit=8, progress=False)
    assert not done.failed
    assert len(done.undefined) == 2
    board = rv.leaderboard(tmp_path / "s")
    known = board[board["value"].notna()]
    assert set(known["transforms"]) == {"parts(count=4)"}
    assert set(known["metric"]) == {"part_equivariance", "part_agreement", "part_overlap", "part_count"}
    assert known.loc[known["metric"] != "part_count", "value"].between(0, 100).all()
