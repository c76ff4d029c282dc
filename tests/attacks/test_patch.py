"""Adversarial patches on models where what a patch can do is known in closed form."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from exact import classifier, images, linear
from torch import Tensor, nn

import robustvit as rv
from robustvit.attacks.patch import adversarial_patch
from robustvit.errors import BadParameter, BudgetExceeded
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.patches import patch_places
from robustvit.primitives.scenario import Outcome, scenario
from robustvit.primitives.scenarios.attack import AttackScenario
from robustvit.primitives.scenarios.budget import check_budget
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse

SIDE, SIZE = 12, 4
CELLS = patch_places(SIDE, SIDE, SIZE, 0)


def batch_of(model: Classifier, count: int = 12) -> Batch:
    pixels = images(count, SIDE)
    return Batch(pixels, model(pixels).argmax(dim=1), tuple(f"i{i}" for i in range(count)))


def confident() -> tuple[Classifier, Tensor]:
    """A linear model whose margins are about as large as what one patch can reduce them by."""
    model, weight = linear(SIDE)
    model.model.bias.data += 20.0  # type: ignore[union-attr, operator]
    return model, weight


def attacked(model: Classifier, batch: Batch, **params: Any) -> Outcome:
    entry = lookup("attack", "adversarial_patch")
    spec = bind(entry, parse({"adversarial_patch": {"size": SIZE, "steps": 140, **params}})[0])
    return scenario(entry, spec)(model, batch, Draws(0, "x", batch.ids))


def reach(batch: Batch, model: Classifier, weight: Tensor) -> tuple[Tensor, Tensor]:
    """How far a patch in each cell can reduce the margin at most, (N, cells), and the margin (N,)."""
    logits = model(batch.images)
    toward = torch.where(batch.labels == 1, -1.0, 1.0)[:, None, None, None] * weight.view(1, 3, SIDE, SIDE)
    gain = torch.where(toward > 0, toward * (1 - batch.images), toward * -batch.images).sum(dim=1)
    windows = [gain[:, row : row + SIZE, column : column + SIZE].sum(dim=(1, 2)) for row, column in CELLS.tolist()]
    return torch.stack(windows, dim=1), (logits[:, 1] - logits[:, 0]).abs()


def test_a_linear_model_is_fooled_in_exactly_the_cells_whose_reach_exceeds_its_margin() -> None:
    model, weight = confident()
    batch = batch_of(model)
    window, margin = reach(batch, model, weight)
    share = attacked(model, batch, position="every").columns["value_fooled_share"]
    sure = ((window - margin[:, None]).abs() > 0.05).all(dim=1)
    assert 0.2 < float((window > margin[:, None]).float().mean()) < 0.95
    assert int(sure.sum()) > 6
    assert torch.allclose(share[sure], (window > margin[:, None]).float().mean(dim=1)[sure])


def test_the_worst_place_fools_the_model_wherever_any_place_does() -> None:
    model, _ = confident()
    batch = batch_of(model)
    every, worst = (attacked(model, batch, position=name).images for name in ("every", "worst"))
    assert every is not None
    assert worst is not None
    fooled = [model(pixels).argmax(dim=1) != batch.labels for pixels in (every, worst)]
    assert torch.equal(*fooled)
    assert 0 < int(fooled[0].sum()) < 12


@pytest.mark.parametrize("position", ["random", "saliency", "worst", "every"])
def test_only_the_pixels_of_one_window_change_and_columns_give_its_place(position: str) -> None:
    model, _ = linear(SIDE)
    batch = batch_of(model)
    outcome = attacked(model, batch, position=position)
    assert outcome.images is not None
    for i, changed in enumerate((outcome.images != batch.images).any(dim=1)):
        row, column = (int(outcome.columns[f"value_patch_{axis}"][i]) for axis in ("row", "column"))
        inside = changed[row : row + SIZE, column : column + SIZE].sum()
        assert int(inside) == int(changed.sum()) > 0
        assert [row, column] in CELLS.tolist()


@pytest.mark.parametrize(
    "params", [{"patches": 3}, {"patches": 2, "offset": None}, {"patches": 2, "offset": 2}, {"patches": 2, "position": "saliency"}]
)
def test_several_patches_change_no_more_pixels_than_they_have(params: dict[str, Any]) -> None:
    model, _ = linear(SIDE)
    outcome = attacked(model, batch_of(model), steps=10, **params)
    assert bool((outcome.columns["l0"] <= params["patches"] * SIZE**2).all())
    assert bool((outcome.columns["l0"] > SIZE**2).any())


@pytest.mark.parametrize("position", ["random", "saliency", "worst", "every"])
def test_a_sample_gets_the_same_bits_in_any_batch(position: str) -> None:
    model, _ = linear(SIDE)
    batch = batch_of(model)
    whole = attacked(model, batch, position=position, steps=25)
    for rows in (torch.arange(5, 9), torch.tensor([3])):
        part = attacked(model, batch[rows], position=position, steps=25)
        assert torch.equal(whole.images[rows], part.images)  # type: ignore[index, arg-type]
        assert all(
            torch.equal(whole.columns[name][rows], part.columns[name]) or bool(whole.columns[name].isnan().all()) for name in part.columns
        )


@pytest.mark.parametrize("position", ["random", "worst", "every"])
def test_the_number_of_rows_in_a_tile_changes_nothing_of_a_linear_model(position: str) -> None:
    found = []
    for tile in (1, 4, 64):
        model = linear(SIDE)[0].configure(tile=tile)
        outcome = attacked(model, batch_of(model, 6), position=position, steps=25)
        found.append((outcome.images, outcome.columns["queries"], outcome.columns["steps"]))
    for images_, queries, steps in found[1:]:
        assert torch.allclose(images_, found[0][0], atol=1e-5)  # type: ignore[arg-type]
        assert torch.equal(queries, found[0][1])
        assert torch.equal(steps, found[0][2])


def test_the_columns_of_a_random_place_count_its_queries() -> None:
    model, _ = linear(SIDE)
    columns = attacked(model, batch_of(model), steps=9).columns
    robust = columns["steps"] < 0
    assert 0 < int(robust.sum()) < 12
    assert set(columns["queries"][robust].tolist()) == {9}
    assert torch.equal(columns["queries"], columns["gradients"])
    assert torch.equal(columns["steps"][~robust], columns["queries"][~robust])


def test_the_columns_of_every_place_add_up() -> None:
    model, _ = linear(SIDE)
    columns = attacked(model, batch_of(model), position="every", steps=9).columns
    untouched = columns["value_fooled_share"] == 0
    assert set(columns["queries"][untouched].tolist()) <= {9 * len(CELLS)}
    assert bool((columns["queries"] >= len(CELLS)).all())
    assert bool((columns["steps"][~untouched] <= 9).all())
    assert set(columns["steps"][untouched].tolist()) <= {-1}


def test_noise_that_fools_by_itself_is_found_before_any_step() -> None:
    class Fragile(nn.Module):
        """Right only on images that are grey everywhere."""

        def forward(self, pixels: Tensor) -> Tensor:
            off = (pixels - 0.5).abs().flatten(1).amax(dim=1)
            return torch.stack((0.1 - off, off * 0), dim=1)

    model = classifier(Fragile(), SIDE)
    grey = torch.full((3, 3, SIDE, SIDE), 0.5)
    made = adversarial_patch(model, grey, torch.zeros(3, dtype=torch.int64), Draws(0, "x", ["a", "b", "c"]), size=SIZE)
    assert made.columns["steps"].tolist() == [1, 1, 1]
    patch = made.images[made.images != 0.5]
    assert float(patch.min()) < 0.1
    assert float(patch.max()) > 0.9


def test_the_salient_place_is_where_the_weights_are() -> None:
    model, weight = linear(SIDE)
    outcome = attacked(model, batch_of(model), position="saliency", steps=3)
    score = [float(weight.view(3, SIDE, SIDE)[:, row : row + SIZE, column : column + SIZE].abs().sum()) for row, column in CELLS.tolist()]
    row, column = CELLS[max(range(len(score)), key=score.__getitem__)].tolist()
    assert set(outcome.columns["value_patch_row"].tolist()) == {float(row)}
    assert set(outcome.columns["value_patch_column"].tolist()) == {float(column)}
    assert set(outcome.columns["queries"].tolist()) <= {2, 3, 4}


def test_the_attended_place_is_where_attention_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = linear(SIDE)
    attended = torch.zeros(12, 6, 6)
    attended[:, 3, 5] = 1.0  # pixels 6 and 7 down, 10 and 11 across
    monkeypatch.setattr(
        "robustvit.primitives.inference.attention_maps.received_attention", lambda model, images, layer: attended[: len(images)]
    )
    outcome = attacked(model, batch_of(model), position="attention", steps=2)
    assert set(zip(*(outcome.columns[f"value_patch_{axis}"].tolist() for axis in ("row", "column")), strict=True)) == {(4.0, 8.0)}


@pytest.mark.parametrize("params", [{"patches": 2}, {"offset": None}])
@pytest.mark.parametrize("position", ["worst", "every"])
def test_every_place_is_tried_with_one_patch_on_a_grid_only(params: dict[str, Any], position: str) -> None:
    model, _ = linear(SIDE)
    with pytest.raises(BadParameter, match=f"position {position} tries one patch in every cell"):
        attacked(model, batch_of(model), position=position, **params)


def test_a_patch_larger_than_the_image_is_refused() -> None:
    model, _ = linear(SIDE)
    with pytest.raises(BadParameter, match="attack 'adversarial_patch': no patch of 13x13 pixels fits"):
        attacked(model, batch_of(model), size=13)


def test_more_pixels_than_the_patches_have_exceed_the_budget() -> None:
    model, _ = linear(SIDE)
    batch = batch_of(model)
    spec = bind(lookup("attack", "adversarial_patch"), parse({"adversarial_patch": {"size": 2, "patches": 2}})[0])
    moved = batch.images.clone()
    moved[3, 0, 0, :8] = 0.0
    check_budget(moved, batch, spec)
    moved[3, 1, 5, 5] = 0.0
    with pytest.raises(BudgetExceeded, match=r"changed 9 pixels of sample i3; its budget is 2 patches of 2x2, 8 pixels"):
        checked(spec, lambda *given: Crafted(moved), model, batch)


def checked(spec: Any, crafting: Any, model: Any, batch: Batch, tells: tuple[str, ...] = ()) -> Outcome:
    """The outcome of an attack scenario around a function's images and columns."""
    entry = replace(lookup("attack", spec.name), tells=tells)
    return AttackScenario(entry, spec, crafting, {})(model, batch, Draws(0, "x", batch.ids))


def test_a_column_that_an_attack_did_not_declare_is_refused() -> None:
    model, _ = linear(SIDE)
    batch = batch_of(model)
    spec = bind(lookup("attack", "adversarial_patch"), parse({"adversarial_patch": {"size": 2}})[0])
    outcome = checked(spec, lambda *given: Crafted(given[1], {"value_a": torch.ones(12)}), model, batch, ("value_a", "value_b"))
    assert outcome.columns["value_a"].tolist() == [1.0] * 12
    assert bool(outcome.columns["value_b"].isnan().all())
    with pytest.raises(rv.RobustvitError, match="returns a column 'value_a'"):
        checked(spec, lambda *given: Crafted(given[1], {"value_a": torch.ones(12)}), model, batch)


def test_half_precision_only_searches_and_float32_decides() -> None:
    demo, data = rv.load_model("demo"), rv.load_data("digits")
    pixels = torch.stack([demo.preprocess(data[i].image) for i in range(5)])
    labels = demo(pixels).argmax(dim=1)
    demo.configure(precision="bfloat16", tile=8)
    made = adversarial_patch(demo, pixels, labels, Draws(0, "x", [str(i) for i in range(5)]), size=16, steps=4, position="every")
    demo.configure(precision="float32")
    fooled = made.columns["steps"] >= 0
    assert torch.equal(fooled, demo(made.images).argmax(dim=1) != labels)
    assert torch.equal(fooled, made.columns["value_fooled_share"] > 0)
    assert int(fooled.sum()) > 0
