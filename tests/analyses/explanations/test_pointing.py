"""Where attribution maps point: agreement by hand, and a model that can only look at the planted patch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from vits import TILE, images, made, vit

import robustvit as rv
from robustvit.analyses.explanations import pointing as module
from robustvit.analyses.explanations.pointing import pointing, pointing_passes
from robustvit.data.formats.arrays import array_dataset
from robustvit.data.planted import digits_planted
from robustvit.errors import DataMissing
from robustvit.metrics.explanations.pointing import pointing_hit, pointing_iou, pointing_mass
from robustvit.primitives.attribution.truth_maps import covered_share, true_patches, truth_pixels
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.token_grid import TokenGrid
from robustvit.primitives.passes import Passes
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse

COUNT = TILE + 2
IDS = [f"x/{row}" for row in range(COUNT)]
DRAWS = Draws(0, "x", IDS)
LABELS = torch.zeros(COUNT, dtype=torch.int64)


def masks() -> np.ndarray:
    """A patch; two; three quarters of one; a quarter and less of two; all; a patch and a half."""
    found = np.zeros((COUNT, 32, 32, 3), np.uint8)
    for row, boxes in enumerate((
        [(0, 8, 8, 16)], [(8, 8, 24, 16)], [(24, 24, 32, 30)], [(0, 0, 4, 4), (8, 8, 10, 12)], [(0, 0, 32, 32)], [(16, 0, 24, 12)],
    )):  # fmt: skip
        for top, left, bottom, right in boxes:
            found[row, top:bottom, left:right] = 255
    return found


def truth(**more: Any) -> Any:
    given = {"ids": IDS, "images": masks()} | more
    return array_dataset("masks", given["images"], np.zeros(len(given["ids"]), np.int64), ids=given["ids"], classes=["a"])


def pixels_of(data: Any) -> Tensor:
    return torch.from_numpy(np.stack([data[row].image for row in range(len(data))])).permute(0, 3, 1, 2).float() / 255


def test_agreement_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.rand(COUNT, 4, 4, generator=torch.Generator().manual_seed(3)).round(decimals=1)
    maps[0, 0, 1], maps[5] = 2.0, 0.0
    monkeypatch.setattr(module, "attribution", lambda *given: maps)
    found = pointing(made(vit), images(COUNT), LABELS, DRAWS, truth=truth())
    expected_true = [{1}, {5, 9}, {15}, {0}, set(range(16)), {8, 9}]
    inside = masks()[..., 0] > 0
    for row in range(COUNT):
        values = maps[row].flatten().tolist()
        order = sorted(range(16), key=lambda patch, values=values: (-values[patch], patch))
        top = set(order[: len(expected_true[row])])
        assert found["value_clean_hit"][row] == float(order[0] in expected_true[row])
        assert float(found["value_clean_iou"][row]) == pytest.approx(len(top & expected_true[row]) / len(top | expected_true[row]))
        spread = np.repeat(np.repeat(maps[row].numpy(), 8, axis=0), 8, axis=1)
        mass = spread[inside[row]].sum() / spread.sum() if spread.sum() else 0.0
        assert float(found["value_clean_mass"][row]) == pytest.approx(float(mass), abs=1e-6)
    assert found["value_clean_hit"].tolist()[0] == found["value_clean_iou"].tolist()[4] == 1.0


def test_shares_and_true_patches() -> None:
    share = covered_share(torch.from_numpy(masks()[..., 0] > 0), TokenGrid(1, 4, 4, True))
    assert share[2].flatten().tolist() == [0.0] * 15 + [0.75]
    assert (float(share[3, 0, 0]), float(share[3, 1, 1]), float(share[5, 2, 1])) == (0.25, 0.125, 0.5)
    assert true_patches(share).sum(dim=1).tolist() == [1, 2, 1, 1, 16, 2]


def test_truth_maps_go_by_id_through_the_view_of_the_model() -> None:
    other = list(reversed(IDS))
    turned = truth(ids=other, images=masks()[::-1].copy())
    assert torch.equal(truth_pixels("x", made(vit), turned, IDS), torch.from_numpy(masks()[..., 0] > 0))
    small = rv.Classifier(VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=2, num_classes=2), size=16)
    assert torch.equal(truth_pixels("x", small, truth(), IDS[:2])[1], torch.from_numpy(masks()[1, 1::2, 1::2, 0] > 0))
    with pytest.raises(DataMissing, match=r"pointing: 1 of 2 images have no truth map in 'masks': elsewhere"):
        truth_pixels("pointing", made(vit), truth(), [IDS[0], "elsewhere"])
    with pytest.raises(DataMissing, match=r"1 of 1 truth maps in 'masks' show nothing"):
        truth_pixels("pointing", made(vit), truth(images=np.zeros_like(masks())), IDS[:1])


def test_rows_and_sides() -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    whole = pointing(model, pixels, LABELS, DRAWS, truth=truth(), corruption=lambda some, draws: 1 - some)
    other = pointing(model, 1 - pixels, LABELS, DRAWS, truth=truth())
    for name, values in other.items():
        assert torch.equal(whole[name.replace("_clean_", "_shifted_")], values)
    rows = torch.tensor([5, 1])
    alone = pointing(model, pixels[rows], LABELS[rows], DRAWS[rows], truth=truth())
    for name, values in alone.items():
        assert torch.equal(whole[name][rows], values)
    assert not torch.equal(whole["value_clean_mass"], whole["value_shifted_mass"])


def test_passes_and_metrics() -> None:
    spec = bind(lookup("analysis", "pointing"), parse({"pointing": {"truth": "digits_planted", "attribution": "rollout"}})[0])
    assert pointing_passes(spec, made(vit), {}) == Passes(2, 0)
    assert pointing_passes(spec, made(vit), {"corruption": abs}) == Passes(4, 0)
    assert pointing_passes(spec, made(vit), {"attack": abs}) is None
    rows = pd.DataFrame({f"value_{side}_{name}": [0.25, 1.0] for side in ("clean", "shifted") for name in ("hit", "iou", "mass")})
    rows["value_shifted_mass"] = [0.0, 0.5]
    assert pointing_hit(rows).tolist() == pointing_iou(rows, side="shifted").tolist() == [0.25, 1.0]
    assert pointing_mass(rows, side="shifted", drift=True).tolist() == [-0.25, -0.5]


@pytest.fixture(scope="module")
def planted() -> Classifier:
    """A ViT that has learned the planted patches, to the last test image."""
    train = digits_planted(None, split="train")
    pixels, labels = pixels_of(train) * 2 - 1, torch.from_numpy(np.array(train.labels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=10)
        optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
        for _ in range(6):
            for rows in torch.split(torch.randperm(len(pixels)), 64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(pixels[rows]), labels[rows]).backward()
                optimizer.step()
    return rv.Classifier(net.eval(), mean=0.5, std=0.5, size=32, name="planted", tile=64)


def test_legrad_finds_the_patch_that_the_class_is_written_in_and_chance_does_not(planted: Classifier, tmp_path: Any) -> None:
    test = digits_planted(None)
    assert float((planted(pixels_of(test)).argmax(dim=1).numpy() == test.labels).mean()) > 0.98
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: mine\ntitle: Mine\ndata: digits_planted\nscenarios:\n"
        "  - pointing: {truth: {digits_planted: {show: truth}}, attribution: [legrad, rollout, gradient, random, centre]}\n"
        "metrics: [pointing_hit, pointing_iou, pointing_mass]\n"
    )
    done = rv.run(path, [planted], store=tmp_path / "s", limit=200, progress=False)
    assert (done.failed, done.undefined) == ({}, {})
    board = rv.leaderboard(tmp_path / "s")
    for metric in ("pointing_hit", "pointing_iou", "pointing_mass"):
        rows = board[board["metric"] == metric]
        of = {name: rows[rows["params"].str.contains(f"attribution={name}")].iloc[0] for name in ("legrad", "gradient", "random", "centre")}
        for chance in ("random", "centre"):
            assert of["legrad"]["low"] > of[chance]["high"], metric
            assert of["gradient"]["low"] > of[chance]["high"], metric
