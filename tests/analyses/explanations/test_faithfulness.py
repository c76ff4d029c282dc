"""Perturbation curves: every order of a linear model, steps by hand, passes, and the metrics that read them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from linear_patches import linear_patches
from scipy.ndimage import gaussian_filter
from torch import Tensor
from vits import TILE, distilled, images, made, pooled, registers, swin, vit

import robustvit as rv
from robustvit.analyses.explanations import faithfulness as module
from robustvit.analyses.explanations.faithfulness import area_under, faithfulness, faithfulness_passes
from robustvit.errors import BadParameter, HostRefused, ModelError
from robustvit.metrics.explanations.perturbation_curves import negative_auc, perturbation_auc_gap, positive_auc
from robustvit.primitives.attribution.methods import attribution
from robustvit.primitives.attribution.removal import blurred_images, removing
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.token_grid import TokenGrid
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse

COUNT = TILE + 2
LABELS = torch.arange(COUNT) % 5
GRID = TokenGrid(1, 4, 4, True)
METHODS: tuple[Any, ...] = ("legrad", "rollout", "gradient", "gradcam", "identifiability", "random", "centre")


def drawn(count: int = COUNT) -> Draws:
    return Draws(0, "x", [str(row) for row in range(count)])


def probability(model: Classifier, pixels: Tensor, label: int) -> float:
    return float(torch.softmax(model(pixels[None]).double(), dim=1)[0, label])


def painted(pixels: Tensor, patches: list[int], side: int, fill: Tensor) -> Tensor:
    """(3, H, W): the image with each of the patches, counted by row, as in `fill`."""
    across, made = pixels.shape[2] // side, pixels.clone()
    for patch in patches:
        down, right = side * (patch // across), side * (patch % across)
        made[:, down : down + side, right : right + side] = fill[:, down : down + side, right : right + side]
    return made


def test_of_a_linear_model_no_order_falls_faster_than_input_times_gradient() -> None:
    model = linear_patches([1.0, 4.0, 2.0, 3.0])
    pixels = 0.2 + 0.8 * images(5)[:, :, :8, :8]
    found = faithfulness(model, pixels, torch.ones(5, dtype=torch.int64), drawn(5), attribution="gradient", remove="black", steps=4)
    for row in range(5):
        areas = []
        for order in itertools.permutations(range(4)):
            curve = [probability(model, painted(pixels[row], list(order[:k]), 4, torch.zeros(3, 8, 8)), 1) for k in range(5)]
            areas.append((curve[0] / 2 + curve[1] + curve[2] + curve[3] + curve[4] / 2) / 4)
        assert float(found["value_clean_positive_auc"][row]) == pytest.approx(min(areas), abs=1e-6)
        assert float(found["value_clean_negative_auc"][row]) == pytest.approx(max(areas), abs=1e-6)
        assert max(areas) - min(areas) > 0.01


def test_a_constant_map_is_the_order_of_the_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "attribution", lambda *given: torch.ones(COUNT, 4, 4))
    model, pixels = made(vit, 3.0), images(COUNT)
    found = faithfulness(model, pixels, LABELS, drawn(), remove="black", steps=8)
    answers = model(pixels).argmax(dim=1)
    for row in range(COUNT):
        curve = [
            probability(model, painted(pixels[row], list(range(2 * step)), 8, torch.zeros(3, 32, 32)), int(answers[row]))
            for step in range(9)
        ]
        for kind in ("positive", "negative"):
            assert found[f"value_clean_{kind}_curve"][row].tolist() == pytest.approx(curve, abs=1e-5)


def test_chance_has_no_gap_on_average_and_rows_differ() -> None:
    model, pixels = made(vit, 3.0), images(6).repeat(50, 1, 1, 1)
    found = faithfulness(model, pixels, LABELS.repeat(50), drawn(300), attribution="random", remove="black", steps=4)
    gap = (found["value_clean_negative_auc"] - found["value_clean_positive_auc"]).double()
    assert float(gap.abs().max()) > 0.01
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / 300**0.5
    mean = [float(found[f"value_clean_{kind}_auc"].double().mean()) for kind in ("positive", "negative")]
    assert mean[0] == pytest.approx(mean[1], abs=4 * float(gap.std()) / 300**0.5)


@pytest.mark.parametrize("make", [vit, registers, distilled, pooled])
@pytest.mark.parametrize("remove", ["black", "mean", "blur", "noise"])
def test_curves_by_hand(make: Any, remove: Any) -> None:
    model, pixels = made(make, 3.0), images(COUNT)
    found = faithfulness(model, pixels, LABELS, drawn(), attribution="legrad", remove=remove, steps=5)
    answers = model(pixels).argmax(dim=1)
    maps = attribution("legrad", model, pixels, answers, drawn())
    fills = {
        "black": torch.zeros(COUNT, 3, 32, 32), "mean": torch.tensor([0.5, 0.4, 0.3])[None, :, None, None].expand(COUNT, -1, 32, 32),
        "blur": torch.from_numpy(gaussian_filter(pixels.double().numpy(), (0, 0, 2, 2), mode="mirror", truncate=4)).float(),
        "noise": drawn().at("removal").uniform(3, 32, 32),
    }  # fmt: skip
    for row in range(COUNT):
        values = maps[row].flatten().tolist()
        for kind, sign in (("positive", -1), ("negative", 1)):
            order = sorted(range(16), key=lambda patch, sign=sign, values=values: (sign * values[patch], patch))
            for name, label in (("auc", int(answers[row])), ("auc_label", int(LABELS[row]))):
                curve = [
                    probability(model, painted(pixels[row], order[:count], 8, fills[remove][row]), label) for count in (0, 3, 6, 10, 13, 16)
                ]
                expected = sum(curve[1:5]) / 5 + (curve[0] + curve[5]) / 10
                assert float(found[f"value_clean_{kind}_{name}"][row]) == pytest.approx(expected, abs=1e-5)
            answer_curve = found[f"value_clean_{kind}_curve"][row]
            assert float(area_under(answer_curve[None].double())) == pytest.approx(float(found[f"value_clean_{kind}_auc"][row]), abs=1e-6)


@pytest.mark.parametrize("make", [vit, distilled])
def test_dropped_tokens_are_left_out_of_the_model(make: Any) -> None:
    model, pixels = made(make, 3.0), images(COUNT)
    net: Any = model.model
    found = faithfulness(model, pixels, LABELS, drawn(), attribution="rollout", remove="drop", steps=2)
    answers = model(pixels).argmax(dim=1)
    maps = attribution("rollout", model, pixels, answers, drawn())
    embedded = net._pos_embed(net.patch_embed((pixels - model.mean) / model.std))
    prefix = net.num_prefix_tokens
    for row in range(COUNT):
        values = maps[row].flatten().tolist()
        order = sorted(range(16), key=lambda patch, values=values: (-values[patch], patch))
        curve = []
        for gone in (0, 8, 16):
            left = sorted(order[gone:])
            tokens = torch.cat((embedded[row : row + 1, :prefix], embedded[row : row + 1, [prefix + patch for patch in left]]), dim=1)
            logits = net.forward_head(net.norm(net.blocks(tokens)))
            curve.append(float(torch.softmax(logits.double(), dim=1)[0, answers[row]]))
        assert found["value_clean_positive_curve"][row].tolist() == pytest.approx(curve, abs=1e-5)


def test_what_has_no_tokens_to_leave_out_is_refused() -> None:
    for make, why in ((pooled, "its head reads its patches"), (swin, "sequences of blocks")):
        with pytest.raises((HostRefused, ModelError), match=why):
            faithfulness(made(make), images(2), LABELS[:2], drawn(2), attribution="random", remove="drop")


@pytest.mark.parametrize("remove", ["black", "blur", "noise", "drop"])
def test_a_row_depends_on_its_own_image_alone(remove: Any) -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    whole = faithfulness(model, pixels, LABELS, drawn(), attribution="gradcam", remove=remove, steps=3)
    for rows in (torch.tensor([5]), torch.tensor([4, 1])):
        alone = faithfulness(model, pixels[rows], LABELS[rows], drawn()[rows], attribution="gradcam", remove=remove, steps=3)
        for name, values in whole.items():
            assert torch.equal(alone[name], values[rows]), name


def test_an_image_without_a_label_has_no_area_of_it() -> None:
    labels = torch.tensor([-1, 2])
    found = faithfulness(made(vit, 3.0), images(2), labels, drawn(2), attribution="centre", steps=2)
    for kind in ("positive", "negative"):
        assert found[f"value_clean_{kind}_auc_label"].isnan().tolist() == [True, False]
        assert bool(torch.isfinite(found[f"value_clean_{kind}_auc"]).all())


def test_shifted_numbers_are_those_of_the_shifted_images() -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    both = faithfulness(model, pixels, LABELS, drawn(), steps=3, corruption=lambda some, draws: some * 0.5)
    alone, other = (faithfulness(model, some, LABELS, drawn(), steps=3) for some in (pixels, pixels * 0.5))
    for name, values in alone.items():
        assert torch.equal(both[name], values)
        assert torch.equal(both[name.replace("_clean_", "_shifted_")], other[name])
        assert not torch.equal(values, other[name])
    with pytest.raises(BadParameter, match="faithfulness compares clean images with shifted ones"):
        faithfulness(model, pixels, LABELS, drawn(), corruption=lambda some, draws: some, attack=lambda *given: given[1])


class Counting(torch.nn.Module):
    """A ViT that counts its rows, apart those whose backward pass is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.rows = vit(), [0, 0]

    def forward(self, pixels: Tensor) -> Tensor:
        self.rows[int(torch.is_grad_enabled())] += len(pixels)
        logits: Tensor = self.inner(pixels)
        return logits


@pytest.mark.parametrize("name", ["rollout", "gradient", "gradcam", "random"])
@pytest.mark.parametrize("shifts", [False, True])
def test_the_declared_passes_are_taken(name: Any, shifts: bool) -> None:
    model = made(Counting, 3.0)
    counting: Any = model.model
    _ = model.outputs
    counting.rows = [0, 0]
    given: dict[str, Any] = {"corruption": lambda some, draws: 1 - some} if shifts else {}
    faithfulness(model, images(TILE), LABELS[:TILE], drawn(TILE), attribution=name, steps=6, **given)
    spec = bind(lookup("analysis", "faithfulness"), parse({"faithfulness": {"attribution": name, "steps": 6}})[0])
    declared = faithfulness_passes(spec, model, given)
    blanks = TILE * (2 if name == "random" else 1) * (2 if shifts else 1)  # one blank image shows the grid, of removal and of chance
    assert declared is not None
    assert counting.rows == [declared.forward * TILE + blanks, declared.gradients * TILE]
    assert faithfulness_passes(spec, model, {"attack": abs}) is None


def test_areas_are_those_of_trapezoids() -> None:
    assert area_under(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).tolist() == [0.5, 1.0]
    curve = torch.tensor([[0.9, 0.7, 0.2, 0.3]]).double()
    assert float(area_under(curve)) == pytest.approx(float(np.trapezoid(curve[0].numpy(), np.linspace(0, 1, 4))))


def test_a_blur_keeps_the_mean_colour_and_mirrors_the_border() -> None:
    pixels = images(2)[:, :, :10, :]
    expected = gaussian_filter(pixels.double().numpy(), (0, 0, 1.5, 1.5), mode="mirror", truncate=4)
    assert np.allclose(blurred_images(pixels, 1.5).numpy(), expected, atol=1e-6)
    assert torch.allclose(blurred_images(torch.full((1, 3, 8, 8), 0.3), 0.5), torch.full((1, 3, 8, 8), 0.3))


def test_removing_nothing_is_the_model_and_removing_all_is_the_fill() -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    nothing = torch.zeros(COUNT, 16, dtype=torch.bool)
    for remove in ("black", "mean", "blur", "noise"):
        logits = removing(model, pixels, GRID, remove, drawn())  # type: ignore[arg-type]
        assert torch.equal(logits(nothing), model(pixels))
    assert torch.equal(removing(model, pixels, GRID, "black", drawn())(~nothing), model(pixels * 0))
    dropped = removing(model, pixels, GRID, "drop", drawn())
    assert torch.allclose(dropped(nothing), model(pixels), atol=1e-4)


def test_metrics_read_a_side_an_area_and_the_difference() -> None:
    rows = pd.DataFrame({
        "value_clean_positive_auc": [0.2, 0.4], "value_clean_negative_auc": [0.9, 0.5], "value_shifted_positive_auc": [0.3, 0.1],
        "value_shifted_negative_auc": [0.4, 0.8], "value_clean_positive_auc_label": [0.0, 1.0],
    })  # fmt: skip
    assert positive_auc(rows).tolist() == [0.2, 0.4]
    assert positive_auc(rows, of="auc_label").tolist() == [0.0, 1.0]
    assert negative_auc(rows, side="shifted").tolist() == [0.4, 0.8]
    assert negative_auc(rows, side="shifted", drift=True).tolist() == pytest.approx([-0.5, 0.3])
    assert perturbation_auc_gap(rows).tolist() == pytest.approx([0.7, 0.1])
    assert perturbation_auc_gap(rows, side="shifted", drift=True).tolist() == pytest.approx([-0.6, 0.6])
    with pytest.raises(BadParameter, match="give side=shifted, too"):
        positive_auc(rows, drift=True)


def test_a_suite_compares_methods_on_the_demo(tmp_path: Any) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: mine\ntitle: Mine\ndata: digits\nscenarios:\n"
        "  - faithfulness: {attribution: [legrad, random], steps: 4, remove: [mean, drop]}\n"
        "  - faithfulness: {attribution: legrad, steps: 4, corruption: {gaussian_noise: {severity: 3}}}\n"
        "metrics: [positive_auc, negative_auc, perturbation_auc_gap, {perturbation_auc_gap: {side: shifted, drift: true}}]\n"
    )
    done = rv.run(path, ["demo"], store=tmp_path / "s", limit=48, progress=False)
    assert (done.failed, done.undefined) == ({}, {})
    board = rv.leaderboard(tmp_path / "s")
    gaps = board[board["metric"] == "perturbation_auc_gap"].dropna(subset="value")
    assert len(gaps) == 5
    clean = gaps[gaps["params"].str.contains("corruption=None")]
    legrad, chance = (clean[clean["params"].str.contains(f"attribution={name}")] for name in ("legrad", "random"))
    assert (len(legrad), len(chance)) == (2, 2)
    assert float(legrad["low"].min()) > float(chance["high"].max())
