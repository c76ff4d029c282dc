"""Consistency under shifts, against loops over shifted images written from the conventions."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from exact import classifier
from PIL import Image
from torch import Tensor, nn

from robustvit.analyses.shift_consistency import diagonal_shifts, shift_consistency
from robustvit.data.formats.arrays import ArrayDataset
from robustvit.errors import BadParameter, DataMissing
from robustvit.evaluation.evaluate import evaluate
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import declared_passes
from robustvit.primitives.reading import Reading
from robustvit.spec.binding import bind
from robustvit.spec.cell import Cell
from robustvit.spec.registry import lookup
from robustvit.spec.shift_conventions import shift_ranges
from robustvit.spec.spec import Spec, parse
from robustvit.spec.view import View

SIDE, COUNT = 16, 7
IDS = tuple(f"s{i}" for i in range(COUNT))
DRAWS = Draws(0, "analysis/shift_consistency", IDS)


class Kept(nn.Module):
    """Four classes by where things are, and how many images it was given."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 4))
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        logits: Tensor = self.layers(images)
        return logits


@functools.cache
def model(tile: int = 4) -> Classifier:
    return classifier(Kept(), SIDE, tile=tile)


def images() -> Tensor:
    return torch.rand(COUNT, 3, 4, 4, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


def labels() -> Tensor:
    return model()(images()).argmax(dim=1)


@functools.cache
def predicted(row: int, down: int, right: int) -> int:
    return int(model()(images()[row].roll((down, right), (1, 2))[None]).argmax())


@pytest.mark.parametrize(("convention", "ends"), [("circ15", (0, 14)), ("circular", (0, 15))])
def test_pairs_are_drawn_for_each_sample_and_compared_as_a_loop_does(convention: str, ends: tuple[int, int]) -> None:
    found = shift_consistency(model(), images(), labels(), DRAWS, convention=convention, pairs=6)  # type: ignore[arg-type]
    own = DRAWS.at("shifts")
    down, right = (own.at(axis).integers(12, low=ends[0], high=ends[1] + 1) for axis in ("down", "right"))
    assert int(down.max()) == ends[1]
    for row in range(COUNT):
        classes = [predicted(row, *at) for at in zip(down[row].tolist(), right[row].tolist(), strict=True)]
        agreed = [classes[turn] == classes[turn + 1] for turn in range(0, 12, 2)]
        assert float(found["value_shift_consistency"][row]) == pytest.approx(np.mean(agreed))
        assert float(found["value_shifted_right"][row]) == pytest.approx(np.mean([one == int(labels()[row]) for one in classes]))
    assert set(found) == {"value_shift_consistency", "value_shifted_right"}


def test_the_whole_grid_is_every_shift_and_says_what_pairs_estimate() -> None:
    found = shift_consistency(model(), images(), labels(), DRAWS, convention="circ15", grid=True)
    for row in range(COUNT):
        classes = np.array([[predicted(row, down, right) for right in range(15)] for down in range(15)])
        alike = classes == classes[0, 0]
        assert found["value_shift_map"][row].view(15, 15).tolist() == alike.astype(float).tolist()
        assert float(found["value_unshifted_agreement"][row]) == pytest.approx((alike.sum() - 1) / 224)
        assert float(found["value_all_agree"][row]) == float(alike.all())
        agree = np.mean(classes.reshape(-1, 1) == classes.reshape(1, -1))
        assert float(found["value_shift_consistency"][row]) == pytest.approx(agree)
        assert float(found["value_shifted_right"][row]) == pytest.approx(np.mean(classes == int(labels()[row])))
    many = shift_consistency(model(), images(), labels(), DRAWS, convention="circ15", pairs=600)
    assert float((many["value_shift_consistency"] - found["value_shift_consistency"]).abs().max()) < 0.08


def test_a_model_that_no_shift_changes_is_consistent_and_of_unlabelled_images_accuracy_is_undefined() -> None:
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = images.mean(dim=(2, 3))
            return logits

    host, none = classifier(Mean(), SIDE), torch.full((COUNT,), -1)
    found = shift_consistency(host, images(), none, DRAWS, convention="circular", grid=True)
    assert found["value_all_agree"].tolist() == found["value_unshifted_agreement"].tolist() == [1.0] * COUNT
    assert found["value_shift_consistency"].tolist() == [1.0] * COUNT
    assert found["value_shifted_right"].isnan().all()
    assert diagonal_shifts(host, images(), none, DRAWS)["value_logit_variance"].isnan().all()
    assert float(diagonal_shifts(host, images(), torch.zeros(COUNT).long(), DRAWS)["value_logit_variance"].max()) < 1e-12


@pytest.mark.parametrize("border", ["circular", "zeros"])
def test_the_variance_of_the_own_logit_is_over_the_ten_diagonal_shifts(border: str) -> None:
    found = diagonal_shifts(model(), images(), labels(), DRAWS, border=border)["value_logit_variance"]  # type: ignore[arg-type]
    for row in range(COUNT):
        logits = []
        for by in range(-5, 5):
            moved = images()[row].roll((by, by), (1, 2))
            if border == "zeros":
                padded = nn.functional.pad(images()[row], (5,) * 4)
                moved = padded[:, 5 - by : 5 - by + SIDE, 5 - by : 5 - by + SIDE]
            logits.append(float(model()(moved[None])[0, labels()[row]]))
        assert float(found[row]) == pytest.approx(np.var(logits), rel=1e-4)


def larger_data(sides: int = 60) -> ArrayDataset:
    """Images of blocks of 8 px, which change classes as they are shifted."""
    blocks = 255 * np.random.default_rng(2).integers(0, 2, (COUNT, -(-sides // 8), -(-(sides + 4) // 8), 3), dtype=np.uint8)
    levels = blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :sides, : sides + 4]
    return ArrayDataset("big", levels.__getitem__, IDS, labels().numpy(), tuple("abcd"), (Reading("all", 4),), "f")


def of_view(view: View) -> Classifier:
    host = model()
    return Classifier(host.model, mean=(0.0,) * 3, std=(1.0,) * 3, view=view, card=host.card, tile=4)


@pytest.mark.parametrize(
    ("view", "resized"),
    [
        (View((SIDE, SIDE), 18), (48, 51)), (View((SIDE, SIDE), 55), (55, 58)), (View((SIDE, SIDE), None, "squash"), (48, 48)),
    ],
    ids=str,
)  # fmt: skip
def test_crop32_takes_windows_of_the_data_decoded_32_px_larger(view: View, resized: tuple[int, int]) -> None:
    data, host = larger_data(), of_view(view)
    found = shift_consistency(host, images(), labels(), DRAWS, convention="crop32", grid=True, larger=data)
    sampled = shift_consistency(host, images(), labels(), DRAWS, convention="crop32", pairs=2, larger=data)
    own = DRAWS.at("shifts")
    tops, lefts = (own.at(axis).integers(4, low=0, high=32) for axis in ("down", "right"))
    elsewhere = 0
    for row in range(COUNT):
        whole = Image.fromarray(data[row].image).resize(resized[::-1], Image.Resampling.BICUBIC)
        left, top = round((resized[1] - 48) / 2), round((resized[0] - 48) / 2)
        frame = torch.from_numpy(np.asarray(whole)[top : top + 48, left : left + 48].copy()).permute(2, 0, 1) / 255
        classes = torch.tensor([
            [int(host(frame[None, :, down : down + SIDE, right : right + SIDE]).argmax()) for right in range(32)] for down in range(32)
        ])  # fmt: skip
        assert torch.equal(found["value_shift_map"][row].view(32, 32) == 1, classes == classes[16, 16])
        elsewhere += int(classes[0, 0] != classes[16, 16])
        drawn = classes[tops[row], lefts[row]]
        assert float(sampled["value_shift_consistency"][row]) == float((drawn[0::2] == drawn[1::2]).float().mean())
    assert elsewhere, "the window at the corner would do as well as that in the middle"


def test_a_row_does_not_depend_on_its_companions_and_only_the_last_tile_is_not_full() -> None:
    whole = shift_consistency(model(), images(), labels(), DRAWS, pairs=3)
    keep = torch.tensor([4])
    alone = shift_consistency(model(), images()[keep], labels()[keep], DRAWS[keep], pairs=3)
    assert all(torch.equal(alone[name][0], whole[name][4]) for name in whole)
    host = model(tile=4)
    host.model.seen = 0  # type: ignore[union-attr]
    shift_consistency(host, images(), labels(), DRAWS, convention="circ15", grid=True)
    assert host.model.seen == -(-COUNT * 225 // 4) * 4  # type: ignore[union-attr]


@pytest.mark.parametrize("given", [{"pairs": 4}, {"grid": True}, {"convention": "circular", "grid": True}], ids=str)
def test_the_declared_passes_are_those_that_are_made(given: dict[str, object]) -> None:
    entry, host = lookup("analysis", "shift_consistency"), model(tile=1)
    spec = bind(entry, parse({"shift_consistency": given})[0])
    host.model.seen = 0  # type: ignore[union-attr]
    shift_consistency(host, images(), labels(), DRAWS, **given)  # type: ignore[arg-type]
    passes = declared_passes(entry, spec, host, {})
    assert passes is not None
    assert host.model.seen == COUNT * passes.forward  # type: ignore[union-attr]


def test_what_no_convention_can_do_is_refused_in_one_line() -> None:
    with pytest.raises(BadParameter, match=r"circ32 shifts by up to 32 pixels, more than images of 16x16 have; take circular"):
        shift_consistency(model(), images(), labels(), DRAWS, convention="circ32")
    assert shift_ranges("circ32", 32, 32).shape == (64, 64)
    with pytest.raises(BadParameter, match="crop32 takes windows of an image 32 px larger; name the data again with larger: DATA"):
        shift_consistency(model(), images(), labels(), DRAWS, convention="crop32")
    with pytest.raises(BadParameter, match=r"crop32 needs images 32 px larger than .*; those of 'big' are cut to its size"):
        shift_consistency(model(), images(), labels(), DRAWS, convention="crop32", larger=larger_data())
    with pytest.raises(DataMissing, match=r"1 of 1 images are not in 'big' \(larger\): other"):
        shift_consistency(
            of_view(View((SIDE, SIDE), 18)), images()[:1], labels()[:1], Draws(0, "x", ["other"]), convention="crop32", larger=larger_data()
        )
    with pytest.raises(BadParameter, match="analysis 'diagonal_shifts': a shift of 5 pixels is as large as images of 5x5"):
        diagonal_shifts(model(), torch.zeros(1, 3, 5, 5), torch.zeros(1).long(), Draws(0, "x", ["a"]))


def test_predictions_are_among_the_classes_of_the_data() -> None:
    """A model of four classes, on data of the last two of them: labels count those two."""
    reading = Reading("mask", 4, columns=(2, 3))
    levels = (images().permute(0, 2, 3, 1) * 255).round().byte().numpy()
    own = model()(torch.from_numpy(levels).permute(0, 3, 1, 2) / 255)[:, 2:].argmax(dim=1)
    data = ArrayDataset("two", levels.__getitem__, IDS, own.numpy(), ("c", "d"), (reading,), "f")
    entry, host = lookup("analysis", "shift_consistency"), model()
    spec = bind(entry, parse({"shift_consistency": {"grid": True}})[0])
    cell = Cell(Spec("given"), "w", Spec("two"), "f", host.view, spec)
    rows = evaluate(cell, host, data, levels, np.arange(COUNT)).rows.to_pandas()
    right = np.stack(rows["value_shift_map"].tolist()).mean(axis=1)
    assert rows["value_shifted_right"].to_numpy() == pytest.approx(right, abs=1e-6)  # the unshifted prediction is the label
