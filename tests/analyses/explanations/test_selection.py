"""Selection by similarity: regions of one-hot tokens, steps by hand in plain Python, and rows by themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from linear_patches import linear_patches
from scipy.stats import spearmanr
from torch import Tensor
from vits import TILE, Torchs, images, made, pooled, registers, swin, vit

import robustvit as rv
from robustvit.analyses.explanations import selection as module
from robustvit.analyses.explanations.selection import selection, selection_passes
from robustvit.data.formats.arrays import array_dataset
from robustvit.errors import BadParameter, DataMissing, HostRefused, ModelError
from robustvit.metrics.explanations.selection import selection_iou, selection_rank_correlation
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes

COUNT = TILE + 2
LABELS = torch.zeros(COUNT, dtype=torch.int64)
TRUE = [{1}, {5, 9}, {15}, {0, 1, 2, 3, 4, 6}, set(range(16)), {8, 9, 12, 13}]  # patches of a grid of 4 x 4


def drawn(count: int = COUNT) -> Draws:
    return Draws(0, "x", [f"x/{row}" for row in range(count)])


def truth(true: list[set[int]] = TRUE, patch: int = 8) -> Any:
    """White patches of a grid of 4 x 4."""
    found = np.zeros((len(true), 4, patch, 4, patch, 3), np.uint8)
    for row, patches in enumerate(true):
        for one in patches:
            found[row, one // 4, :, one % 4] = 255
    pixels = found.reshape(len(true), 4 * patch, 4 * patch, 3)
    return array_dataset("masks", pixels, np.zeros(len(true), np.int64), ids=drawn(len(true)).ids, classes=["a"])


def coloured(true: list[set[int]], inside: int, outside: int) -> Tensor:
    """(n, 3, 16, 16) images with one channel in the true patches and another elsewhere."""
    masks = torch.zeros(len(true), 16, dtype=torch.bool)
    for row, patches in enumerate(true):
        masks[row, list(patches)] = True
    whole = masks.reshape(-1, 4, 4).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    found = torch.zeros(len(true), 3, 16, 16)
    found[:, inside], found[:, outside] = whole.float(), (~whole).float()
    return found


def identity() -> Classifier:
    """Whose tokens after its one block are the pixels of 4 x 4 patches."""
    return linear_patches([0.0] * 16)


def by_hand(model: Classifier, clean: Tensor, shifted: Tensor, points: int, layer: int, prefix: int) -> list[tuple[float, float, float]]:
    order = drawn().at("points").permutation(16).tolist()
    found = []
    for row in range(COUNT):
        ours, theirs = (tokens_of(model, some[row : row + 1], layer)[prefix:] for some in (clean, shifted))
        chosen = [ours[patch] for patch in order[row] if patch in TRUE[row]][:points]
        one, two = ([round(max(cosine(token, anchor) for anchor in chosen), 6) for token in some] for some in (ours, theirs))
        best = max((iou(one, step / 10, TRUE[row]), -step) for step in range(10))
        found.append((best[0], iou(two, -best[1] / 10, TRUE[row]), float(spearmanr(one, two).statistic)))
    return found


def tokens_of(model: Classifier, pixels: Tensor, layer: int) -> list[list[float]]:
    kept: list[Tensor] = []
    hook = model.model.blocks[layer].register_forward_hook(lambda block, given, output: kept.append(output))
    with torch.no_grad():
        model(torch.cat((pixels, torch.zeros(TILE - 1, *pixels.shape[1:]))))
    hook.remove()
    rows: list[list[float]] = kept[0][0].tolist()
    return rows


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


def iou(similarity: list[float], threshold: float, true: set[int]) -> float:
    chosen = {patch for patch, value in enumerate(similarity) if value >= threshold}
    return len(chosen & true) / len(chosen | true)


@pytest.mark.parametrize(
    ("make", "layer", "points", "prefix"), [(vit, None, 8, 1), (vit, 0, 2, 1), (registers, 1, 1, 4), (pooled, None, 3, 0)]
)
def test_numbers_are_those_of_steps_by_hand(make: Any, layer: int | None, points: int, prefix: int) -> None:
    model, pixels = made(make, 3.0), images(COUNT)
    shifted = (pixels * 0.4 + pixels.flip(0) * 0.6).clamp(0, 1)
    found = selection(model, pixels, LABELS, drawn(), truth=truth(), points=points, layer=layer, corruption=lambda some, draws: shifted)
    block = len(model.model.blocks) - 1 if layer is None else layer
    expected = by_hand(model, pixels, shifted, points, block, prefix)
    for place, name in enumerate(("value_clean_selection", "value_shifted_selection", "value_selection_rank")):
        assert found[name].tolist() == pytest.approx([row[place] for row in expected], abs=1e-5), name
    assert len(set(found["value_shifted_selection"].tolist())) > 2


def test_regions_of_one_hot_tokens_are_selected_whole() -> None:
    true = [{1, 2, 6}, {5}, {0, 15}]
    clean = coloured(true, inside=0, outside=1)
    exact = selection(identity(), clean, LABELS[:3], drawn(3), truth=truth(true, 4), points=1, corruption=lambda some, draws: some * 0.5)
    assert all(values.tolist() == pytest.approx([1.0] * 3) for values in exact.values())
    swapped = coloured(true, inside=1, outside=0)
    other = selection(identity(), clean, LABELS[:3], drawn(3), truth=truth(true, 4), points=1, corruption=lambda some, draws: swapped)
    assert other["value_clean_selection"].tolist() == [1.0] * 3
    assert other["value_shifted_selection"].tolist() == [0.0] * 3
    assert other["value_selection_rank"].tolist() == pytest.approx([-1.0] * 3)


def test_the_threshold_is_the_lowest_of_the_best_on_the_clean_image() -> None:
    """Red inside; outside a mixture of red and green whose cosine with red is .45, and in the shifted image .35, below .5 or .55."""
    true = [{1, 2, 6}] * 3
    clean, shifted = (coloured(true, inside=0, outside=1) for _ in range(2))
    outside = clean[:, 1:2].clone()
    clean[:, 0:1] += outside * 0.45 / (1 - 0.45**2) ** 0.5
    for row, level in enumerate((0.35, 0.48, 0.55)):
        shifted[row, 0] += outside[row, 0] * level / (1 - level**2) ** 0.5
    found = selection(identity(), clean, LABELS[:3], drawn(3), truth=truth(true, 4), corruption=lambda some, draws: shifted)
    assert found["value_clean_selection"].tolist() == [1.0] * 3
    assert found["value_shifted_selection"].tolist() == pytest.approx([1.0, 1.0, 3 / 16])


def test_thresholds_go_up_to_nine_tenths() -> None:
    true = [{1, 2, 6}] * 2
    clean = coloured(true, inside=0, outside=1)
    for row, level in enumerate((0.85, 0.95)):
        clean[row, 1] *= (1 - level**2) ** 0.5 / level
        clean[row, 0] = 1.0
    found = selection(identity(), clean, LABELS[:2], drawn(2), truth=truth(true, 4))
    assert found["value_clean_selection"].tolist() == pytest.approx([1.0, 3 / 16])


def test_a_blank_image_is_similar_to_nothing() -> None:
    found = selection(
        identity(), torch.zeros(1, 3, 16, 16), LABELS[:1], drawn(1), truth=truth([{1, 2}], 4), corruption=lambda some, draws: some
    )
    assert (float(found["value_clean_selection"]), float(found["value_shifted_selection"])) == (2 / 16, 2 / 16)
    assert math.isnan(float(found["value_selection_rank"]))


def test_annotated_patches_are_true_distinct_and_equally_often_each() -> None:
    rows = 800
    true = torch.zeros(rows, 16, dtype=torch.bool)
    true[:, [2, 3, 11, 14]] = True
    one = module._annotated(true, 1, drawn(rows))
    shares = torch.bincount(one.patches[:, 0], minlength=16) / rows
    assert shares[[2, 3, 11, 14]].tolist() == pytest.approx([0.25] * 4, abs=5 * (0.25 * 0.75 / rows) ** 0.5)
    assert float(shares[[2, 3, 11, 14]].sum()) == 1.0
    three, eight = module._annotated(true, 3, drawn(rows)), module._annotated(true, 8, drawn(rows))
    assert all(len(set(row)) == 3 and set(row) <= {2, 3, 11, 14} for row in three.patches.tolist())
    assert bool(three.used.all())
    assert torch.equal(eight.used.sum(dim=1), torch.full((rows,), 4))
    assert bool((true.gather(1, eight.patches) == eight.used).all())


@pytest.mark.parametrize("make", [vit, Torchs])
def test_rows_and_sides(make: Any) -> None:
    model, pixels = made(make, 3.0), images(COUNT)
    shift: Any = lambda some, draws: some.flip(3)  # noqa: E731
    whole = selection(model, pixels, LABELS, drawn(), truth=truth(), corruption=shift)
    rows = torch.tensor([5, 1, 3])
    alone = selection(model, pixels[rows], LABELS[rows], drawn()[rows], truth=truth(), corruption=shift)
    assert list(whole) == ["value_clean_selection", "value_shifted_selection", "value_selection_rank"]
    assert all(torch.equal(whole[name][rows], values) for name, values in alone.items())
    attack: Any = lambda model, some, labels, draws: Crafted(some.flip(3), torch.ones(len(some)), None)  # noqa: E731
    attacked = selection(model, pixels, LABELS, drawn(), truth=truth(), attack=attack)
    assert all(torch.equal(whole[name], values) for name, values in attacked.items())
    clean = selection(model, pixels, LABELS, drawn(), truth=truth())
    assert list(clean) == ["value_clean_selection"]
    assert torch.equal(clean["value_clean_selection"], whole["value_clean_selection"])
    still = selection(model, pixels, LABELS, drawn(), truth=truth(), corruption=lambda some, draws: some)
    assert torch.equal(still["value_shifted_selection"], still["value_clean_selection"])
    assert still["value_selection_rank"].tolist() == pytest.approx([1.0] * COUNT)


def test_models_and_arguments_that_it_does_not_take() -> None:
    pixels = images(COUNT)
    with pytest.raises(HostRefused, match="sequences of blocks"):
        selection(made(swin), pixels, LABELS, drawn(), truth=truth())
    with pytest.raises(BadParameter, match=r"selection: layer is 3, and model 'toy' has 3 blocks, 0 to 2\."):
        selection(made(vit), pixels, LABELS, drawn(), truth=truth(), layer=3)
    with pytest.raises(DataMissing, match="selection: 1 of 6 images have no truth map"):
        selection(made(vit), pixels, LABELS, drawn(), truth=truth(TRUE[:5]))
    broken = made(vit)
    with torch.no_grad():
        broken.model.blocks[2].mlp.fc2.bias[0] = torch.nan
    assert selection(broken, pixels, LABELS, drawn(), truth=truth(), layer=1)
    with pytest.raises(ModelError, match="its tokens after block 2 have values that are not finite"):
        selection(broken, pixels, LABELS, drawn(), truth=truth())


def test_passes_and_metrics() -> None:
    given: Any = None
    assert selection_passes(given, given, {}) == Passes(forward=1.0)
    assert selection_passes(given, given, {"corruption": abs}) == Passes(forward=2.0)
    assert selection_passes(given, given, {"attack": abs}) is None
    rows = pd.DataFrame({"value_clean_selection": [0.5, 1.0], "value_shifted_selection": [0.25, 0.0], "value_selection_rank": [-1.0, 0.5]})
    assert (selection_iou(rows).tolist(), selection_iou(rows, side="shifted").tolist()) == ([0.5, 1.0], [0.25, 0.0])
    assert selection_iou(rows, side="shifted", drift=True).tolist() == [-0.25, -1.0]
    assert selection_rank_correlation(rows).tolist() == [-1.0, 0.5]


def test_a_suite_of_models_with_and_without_a_head(tmp_path: Any) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: mine\ntitle: Mine\ndata: digits_planted\nscenarios:\n"
        "  - selection: {truth: {digits_planted: {show: truth}}, corruption: {gaussian_noise: {severity: [1, 5]}}}\n"
        "metrics: [selection_rank_correlation, {selection_iou: {side: [clean, shifted]}}]\n"
    )
    headless = "vit_tiny_patch16_224?weights=random&num_classes=0&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=2,num_heads=2"
    done = rv.run(path, ["demo", headless], store=tmp_path / "s", limit=40, progress=False)
    assert (done.failed, done.undefined) == ({}, {})
    board = rv.leaderboard(tmp_path / "s")
    kept = board[board["metric"] == "selection_rank_correlation"].set_index(["model", "severity"])["value"]
    assert len(kept) == 4
    for model in {name for name, _ in kept.index}:
        assert kept[model].iloc[0] > kept[model].iloc[1], "less noise changes similarities less"
