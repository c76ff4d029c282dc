"""Patches anywhere: the grid is the model, crops against Pillow, positions against a loop, draws by their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vits
from PIL import Image

import robustvit as rv
from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.resolution import patch_boxes
from robustvit.primitives.resolution.patch_boxes import Sampling, drawn_boxes, forward_boxes, grid_boxes

PLAIN = ("plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm")
GRID, SIDE = (4, 4), (8, 8)
IDS = [str(one) for one in range(40)]


@pytest.mark.parametrize("make", PLAIN)
def test_the_grid_is_the_model(make: str) -> None:
    host, images = vits.made(vits.HOSTS[make]), vits.images(3)
    boxes = grid_boxes(GRID, SIDE).expand(3, -1, -1)
    normal = (images - host.mean) / host.std
    assert torch.allclose(forward_boxes(host.model, normal, boxes), host(images), atol=1e-4)
    assert torch.allclose(forward_boxes(host.model.double(), normal.double(), boxes), host.double()(images.double()), atol=1e-9)


@pytest.mark.parametrize("make", ["plain", "distilled"])
def test_whole_cells_left_out_are_tokens_left_out(make: str) -> None:
    """In another order, which no position embedding follows but their own."""
    host, images = vits.made(vits.HOSTS[make]), vits.images(2)
    kept = torch.tensor([7, 2, 11])
    found = forward_boxes(host.model, images, grid_boxes(GRID, SIDE)[kept].expand(2, -1, -1))
    vit = host.model
    tokens = vit._pos_embed(vit.patch_embed(images))
    tokens = torch.cat((tokens[:, : vit.num_prefix_tokens], tokens[:, vit.num_prefix_tokens :][:, kept]), dim=1)
    assert torch.allclose(found, vit.forward_head(vit.norm(vit.blocks(vit.norm_pre(tokens)))), atol=1e-4)


def test_a_box_is_resampled_as_pillow_resizes_a_crop() -> None:
    """Bilinear upwards, where Pillow takes two pixels in each direction; of whole multiples downwards, the mean of pixels."""
    image = torch.rand(1, 1, 24, 24, dtype=torch.float64)
    boxes = torch.tensor([[[8.0, 4.0, 12.0, 8.0]]], dtype=torch.float64)
    found = patch_boxes._cut(image, boxes, (8, 8), 1)[0, 0, 0]
    plane = Image.fromarray(image[0, 0].float().numpy(), mode="F")
    wanted = np.asarray(plane.resize((8, 8), Image.Resampling.BILINEAR, box=(4, 8, 8, 12)))
    assert np.allclose(found[1:-1, 1:-1], wanted[1:-1, 1:-1], atol=1e-6), "at the border Pillow sees nothing outside the box"
    boxes = torch.tensor([[[0.0, 8.0, 16.0, 24.0]]], dtype=torch.float64)
    means = patch_boxes._cut(image, boxes, (8, 8), 2)[0, 0, 0]
    assert torch.allclose(means, image[0, 0, :16, 8:].reshape(8, 2, 8, 2).mean(dim=(1, 3)))


def test_positions_are_interpolated_between_their_neighbours() -> None:
    host = vits.made(vits.HOSTS["plain"], sharp=1.0).double()
    vit: Any = host.model
    torch.nn.init.zeros_(vit.patch_embed.proj.weight)
    torch.nn.init.zeros_(vit.patch_embed.proj.bias)
    torch.nn.init.normal_(vit.pos_embed)
    seen = []
    vit.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    boxes = torch.tensor([[[6.0, 11.0, 14.0, 19.0], [0.0, 0.0, 2.0, 2.0]]], dtype=torch.float64)  # their middles: (10, 15) and (1, 1)
    forward_boxes(vit, torch.rand(1, 3, 32, 32, dtype=torch.float64), boxes)
    grid = vit.pos_embed[0, 1:].reshape(4, 4, -1)
    down, right = (10 / 8 - 0.5) % 1, (15 / 8 - 0.5) % 1  # from cell (0, 1)
    wanted = (1 - down) * ((1 - right) * grid[0, 1] + right * grid[0, 2]) + down * ((1 - right) * grid[1, 1] + right * grid[1, 2])
    assert torch.allclose(seen[0][0, 1], wanted, atol=1e-9)
    assert torch.allclose(seen[0][0, 2], grid[0, 0], atol=1e-9), "beyond the last middle it is that of the corner"


@pytest.mark.parametrize(("sampling", "count"), [
    (Sampling(3.0, 0.0, 0.0, None), 16), (Sampling(1.0, 0.5, 0.0, None), 16), (Sampling(1.0, 0.0, 0.7, None), 5),
    (Sampling(1.0, 0.0, 0.0, 2.0), 32), (Sampling(2.0, 2.0, 0.5, 0.5), 4), (Sampling(1.0, 0.0, 0.99, None), 1),
])  # fmt: skip
def test_what_is_drawn_stays_in_its_limits(sampling: Sampling, count: int) -> None:
    boxes = drawn_boxes(Draws(0, "t", IDS), GRID, SIDE, sampling)
    sides = boxes[..., 2:] - boxes[..., :2]
    assert boxes.shape == (40, count, 4)
    assert boxes.min() >= 0
    assert boxes.max() <= 32
    assert torch.allclose(sides[..., 0], sides[..., 1])
    assert sides.min() >= 8 - 1e-9
    assert sides.max() <= 8 * sampling.size
    if sampling.size > 1:
        assert sides.min() < 8 * (1 + 0.1 * (sampling.size - 1))
        assert sides.max() > 8 * (1 + 0.9 * (sampling.size - 1))
    if sampling == Sampling(1.0, 0.5, 0.0, None):
        apart = boxes - grid_boxes(GRID, SIDE)
        assert 3.5 < apart.abs().max() <= 4
        assert abs(float(apart[:, 5, :2].mean())) < 1
    if sampling == Sampling(1.0, 0.0, 0.7, None):
        cells = {tuple(box) for box in grid_boxes(GRID, SIDE).tolist()}
        chosen = [tuple(map(tuple, one)) for one in boxes.tolist()]
        assert all(len(set(one)) == 5 and set(one) <= cells for one in chosen)
        assert len(set(chosen)) > 35
    if sampling == Sampling(1.0, 0.0, 0.0, 2.0):
        assert boxes[..., 0].max() > 22
        assert boxes[..., 0].min() < 2


def test_a_sample_has_its_own_patches_whatever_it_is_asked_with() -> None:
    made = rv.transformed(vits.made(vits.HOSTS["plain"]), "elastic_patches", jitter=0.5, missing=0.25)
    images, draws = vits.images(6), Draws(3, "cell", IDS[:6])
    whole = keyed_by(made, draws)(images)
    some = torch.tensor([4, 1])
    assert torch.equal(keyed_by(made, draws[some])(images[some]), whole[some])
    assert not torch.allclose(keyed_by(made, Draws(4, "cell", IDS[:6]))(images), whole)
    same = images[:1].expand(6, -1, -1, -1)
    assert len({tuple(row) for row in keyed_by(made, draws)(same).tolist()}) == 6
    with pytest.raises(ModelError, match="keyed by 6 samples"):
        keyed_by(made, draws)(images[:2])


def test_it_runs_as_a_cell_and_is_the_same_in_pieces(tmp_path) -> None:
    models = ["demo+elastic_patches(missing=0.5)", "demo+elastic_patches(size=2)"]
    suite = tmp_path / "s.yaml"
    suite.write_text(
        "{name: s, title: s, data: digits, scenarios: [clean, fog: {severity: 3}, pgd: {eps: 4/255, steps: 2}], metrics: [top1, nll]}"
    )
    rv.run(suite, models, limit=12, store=tmp_path / "a")
    for limit in (5, 12):
        rv.run(suite, models, limit=limit, store=tmp_path / "b")
    first, second = (rv.leaderboard(tmp_path / name)[["model", "scenario", "metric", "value"]] for name in "ab")
    assert first.equals(second)


@pytest.mark.parametrize("make", ["swin", "cnn", "eva"])
def test_other_models_are_refused_by_name(make: str) -> None:
    with pytest.raises(
        HostRefused, match="'elastic_patches' takes timm's plain vision transformers of a grid of patches, and 'toy' is none"
    ):
        rv.transformed(vits.made(vits.HOSTS[make]), "elastic_patches", missing=0.5)


def test_a_grid_that_is_no_grid_any_more_is_refused() -> None:
    with pytest.raises(HostRefused, match="its patches overlap"):
        rv.load_model("demo+overlapping_patches(overlap=2)+elastic_patches(jitter=1)")
