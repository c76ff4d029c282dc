"""The background challenge against a loop over all pairs, and its errors where data does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from exact import Linear, classifier

from robustvit.analyses.background_challenge import background_challenge
from robustvit.errors import DataMissing, DataUnreadable, ModelError
from robustvit.primitives.batch import Sample, Traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels
from robustvit.primitives.reading import Reading
from robustvit.spec.sample_order import order

SIDE = 6
COUNT = 23
NAMES = tuple(f"object {i}" for i in range(17))


class ArrayData:
    """A data set in memory, of 3 · SIDE · SIDE levels an image."""

    source = "original"

    def __init__(self, name: str, ids: Sequence[str], images: np.ndarray) -> None:
        self.name, self.images, self.fingerprint = name, images, name
        self.ids: Sequence[str] = ids
        self.labels = np.zeros(len(ids), np.int64)
        self.classes = ("one", "other")
        self.readings = (Reading("two", 3, groups=((2,), (0,), (1, 3))),)
        self.traits = Traits(cut=SIDE)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], self.images[index], 0)


class Challenge(NamedTuple):
    """Models, foregrounds and their masks, and backgrounds."""

    model: Classifier
    images: torch.Tensor
    labels: torch.Tensor
    masks: ArrayData
    backgrounds: ArrayData

    def of(self, rows: list[int], **more: int) -> dict[str, torch.Tensor]:
        ids = [NAMES[i] for i in rows]
        given = {"masks": self.masks, "backgrounds": self.backgrounds, **more}
        return background_challenge(self.model, self.images[rows], self.labels[rows], Draws(0, "x", ids), **given)  # type: ignore[arg-type]


class Four(torch.nn.Module):
    """Four logits, linear in the pixels."""

    def __init__(self, noise: np.random.Generator) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.from_numpy(noise.normal(size=(3 * SIDE * SIDE, 4)).astype(np.float32)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1) - 0.5) @ self.weight


@pytest.fixture
def challenge() -> Challenge:
    noise = np.random.default_rng(3)
    levels = noise.integers(0, 256, (len(NAMES), SIDE, SIDE, 3), np.uint8)
    rest = noise.integers(64, 192, (COUNT, SIDE, SIDE, 3), np.uint8)
    holds = noise.random((len(NAMES), SIDE, SIDE, 1)) < np.linspace(0.3, 1.0, len(NAMES))[:, None, None, None]
    masks = ArrayData("masks", NAMES, np.repeat(holds * np.uint8(255), 3, axis=3))
    backgrounds = ArrayData("backgrounds", tuple(f"b{i}" for i in range(COUNT)), rest)
    model = classifier(Four(noise), SIDE, tile=4)
    images = pixels(levels)
    labels = masks.readings[0].read(model(images)).argmax(dim=1)
    labels[3] = (labels[3] + 1) % 3  # misclassified in its own image
    return Challenge(model, images, labels, masks, backgrounds)


def by_hand(challenge: Challenge) -> tuple[list[float], list[int]]:
    """Every pair, one at a time."""
    robust, tried = [], []
    for i in range(len(NAMES)):
        inside = pixels(challenge.masks.images[i : i + 1])
        wrong = []
        for j in order(challenge.backgrounds.ids).tolist():
            behind = pixels(challenge.backgrounds.images[j : j + 1])
            logits = challenge.model(behind * (1 - inside) + inside * challenge.images[i : i + 1])[0]
            pred = {2: 0, 0: 1, 1: 2, 3: 2}[int(logits.argmax())]
            wrong.append(pred != int(challenge.labels[i]))
        robust.append(0.0 if any(wrong) else 1.0)
        tried.append(wrong.index(True) + 1 if any(wrong) else COUNT)
    return robust, tried


def test_the_result_is_that_of_all_pairs_one_at_a_time(challenge: Challenge) -> None:
    robust, tried = by_hand(challenge)
    columns = challenge.of(list(range(len(NAMES))))
    assert columns["value_robust"].tolist() == robust
    assert columns["queries"].tolist() == tried
    assert 0.0 < sum(robust) < len(robust)


@pytest.mark.parametrize("parts", [[range(8), range(8, 17)], [range(16, -1, -1)], [[i] for i in range(17)]])
def test_a_row_does_not_depend_on_its_companions(challenge: Challenge, parts: list[list[int]]) -> None:
    whole = challenge.of(list(range(len(NAMES))))
    for part in parts:
        columns = challenge.of(list(part))
        assert {name: values.tolist() for name, values in columns.items()} == {name: whole[name][list(part)].tolist() for name in whole}


@pytest.mark.parametrize("tile", [1, 3, 64])
def test_the_tile_changes_no_result(challenge: Challenge, tile: int) -> None:
    before = challenge.of(list(range(len(NAMES))))
    challenge.model.configure(tile=tile)
    after = challenge.of(list(range(len(NAMES))))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_fewer_backgrounds_leave_more_foregrounds_robust(challenge: Challenge) -> None:
    whole, some = (challenge.of(list(range(len(NAMES))), **more) for more in ({}, {"count": 2}))
    assert bool((some["value_robust"] >= whole["value_robust"]).all())
    assert some["queries"].tolist() == whole["queries"].clamp(max=2).tolist()


def test_fooled_foregrounds_cost_no_more_queries(challenge: Challenge, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    forward = challenge.model.forward
    monkeypatch.setattr(challenge.model, "forward", lambda images: batches.append(len(images)) or forward(images))
    tried = challenge.of(list(range(len(NAMES))))["queries"]
    assert int(tried.sum()) <= sum(batches) < 1.5 * int(tried.sum())
    assert max(batches) == challenge.model.tile


def test_a_background_is_decoded_once_and_only_when_used(challenge: Challenge, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = ArrayData.__getitem__
    monkeypatch.setattr(ArrayData, "__getitem__", lambda self, i: (self is challenge.backgrounds and decoded.append(i)) or decode(self, i))
    challenge.of([3], count=1)
    assert decoded == order(challenge.backgrounds.ids)[:1].tolist()
    for rows in ([0, 1], [2], [0]):
        challenge.of(rows)
    assert len(decoded) == len(set(decoded))


def test_a_foreground_without_a_mask_is_named(challenge: Challenge) -> None:
    masks = ArrayData("masks", ("other", *NAMES[1:]), challenge.masks.images)
    with pytest.raises(DataMissing, match="1 of 2 foregrounds have no mask in 'masks': object 0"):
        challenge._replace(masks=masks).of([0, 1])


def test_a_background_that_cannot_be_read_is_named(challenge: Challenge, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ArrayData, index: int) -> Sample:
        raise DataUnreadable(f"b{index}: cut short")

    monkeypatch.setattr(challenge.backgrounds.__class__, "__getitem__", broken)
    with pytest.raises(DataUnreadable, match="cut short"):
        background_challenge(
            challenge.model,
            challenge.images[:1],
            challenge.labels[:1],
            Draws(0, "x", NAMES[:1]),
            masks=Solid(),
            backgrounds=challenge.backgrounds,
        )


class Solid(ArrayData):
    """One mask that is all foreground."""

    def __init__(self) -> None:
        super().__init__("masks", NAMES[:1], np.full((1, SIDE, SIDE, 3), 255, np.uint8))

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], self.images[index], 0)


def test_logits_that_are_not_finite_raise(challenge: Challenge) -> None:
    weight = torch.full((3 * SIDE * SIDE,), torch.nan)
    with pytest.raises(ModelError, match="not finite"):
        challenge._replace(model=classifier(Linear(weight, 0.0), SIDE)).of([0])


def test_a_larger_model_receives_all_three_upsampled(challenge: Challenge) -> None:
    large = classifier(torch.nn.Sequential(torch.nn.AvgPool2d(2), challenge.model.model), 2 * SIDE)
    images = challenge.images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    large.view = large.view.with_overrides(interpolation="nearest")
    assert challenge._replace(model=large, images=images).of(list(range(17)))["queries"].tolist() == by_hand(challenge)[1]
