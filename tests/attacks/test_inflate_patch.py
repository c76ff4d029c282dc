"""A patch for all images that inflates what a token reducer computes, beside the search written out image by image."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import vits
from exact import classifier, few, load_batch
from torch import Tensor, nn

import robustvit as rv
from robustvit.attacks.inflate_patch import inflate_patch, learn_patch
from robustvit.errors import HostRefused
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.draws import Draws
from robustvit.spec.sample_order import order

SETTINGS: dict[str, Any] = {"size": 0.5, "corner": "upper_left", "samples": 7, "steps": 60, "share": 0.8}
LEARN, COUNT = Draws(0, "attack/inflate_patch/learn", ["learn"]), 6


class Painted(nn.Module):
    """Spends 2 + the mean of red − blue in the lower right quarter, in 10⁹, and predicts class 1 for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: dict[str, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[2] // 2
        quarter = images[:, :, half:, half:]
        gmacs = 2 + (quarter[:, 0] - quarter[:, 2]).mean(dim=(1, 2))
        self.counted = {"gmacs": gmacs, "tokens": gmacs[:, None], "token_utilisation": gmacs / 3}
        score = images.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack((-score, score), dim=1)


def learned(model: rv.Classifier, pixels: Tensor, **changed: Any) -> Tensor:
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    return learn_patch(model, load_batch(pixels, labels), LEARN, train=few(labels, vits.SIDE), **SETTINGS | changed)["patch"]


def reducer() -> rv.Classifier:
    return rv.transformed(vits.made(vits.HOSTS["plain"]), "ats(samples=12)")


def attacked(model: rv.Classifier, pixels: Tensor, patch: Tensor, **changed: Any) -> Crafted:
    labels, draws = model(pixels).argmax(dim=1), Draws(0, "x", [str(i) for i in range(len(pixels))])
    return inflate_patch(model, pixels, labels, draws, {"patch": patch}, train=None, **SETTINGS | changed)  # type: ignore[arg-type]


def gmacs(model: rv.Classifier, pixels: Tensor) -> list[float]:
    spent = []
    for image in pixels:
        model(image[None])
        spent.append(float(model.model.counted["gmacs"][0]))
    return spent


def written_out(model: rv.Classifier, pixels: Tensor, side: int, steps: int) -> tuple[Tensor, list[float]]:
    """The patch in the upper left corner after so many squares, pixel by pixel, and the means that were kept."""

    def mean(patch: Tensor) -> float:
        moved = pixels.clone()
        for row, column in itertools.product(range(side), range(side)):
            moved[:, :, row, column] = patch[:, row, column]
        return math.fsum(gmacs(model, moved)) / len(moved)

    stripes = LEARN.at("start").uniform(3, 1, side)[0]
    patch = torch.tensor([[[0.0 if float(stripes[c, 0, x]) < 0.5 else 1.0 for x in range(side)] for _ in range(side)] for c in range(3)])
    kept = [mean(patch)]
    for step in range(1, steps + 1):
        covered = 0.8 if step <= 10 else 0.4  # up to step 50
        width = round(math.sqrt(covered) * side)
        top, left, *colours = LEARN.at(step).uniform(5)[0].tolist()
        first = int(top * (side - width + 1)), int(left * (side - width + 1))
        proposal = patch.clone()
        for c, row, column in itertools.product(range(3), range(first[0], first[0] + width), range(first[1], first[1] + width)):
            proposal[c, row, column] = 0.0 if colours[c] < 0.5 else 1.0
        found = mean(proposal)
        if found > kept[-1]:
            patch, kept = proposal, [*kept, found]
    return patch, kept


@pytest.fixture(scope="module")
def digits() -> tuple[rv.Classifier, Tensor]:
    """The demo under adaptive token sampling, in small tiles, and some digits."""
    model, data = rv.transformed(rv.load_model("demo").configure(tile=3), "ats"), rv.load_data("digits")
    return model, torch.stack([model.preprocess(data[i].image) for i in range(COUNT)])


def test_the_patch_is_that_of_the_search_written_out(digits: tuple[rv.Classifier, Tensor]) -> None:
    model, pixels = digits
    first = order(few(torch.zeros(COUNT, dtype=torch.int64)).ids)[:2]
    wanted, kept = written_out(model, pixels[first], 8, 24)
    assert len(kept) > 3  # several squares stayed
    assert torch.equal(learned(model, pixels, size=0.25, samples=2, steps=24), wanted)


def test_more_steps_never_spend_less_on_the_images_that_it_is_learned_on(digits: tuple[rv.Classifier, Tensor]) -> None:
    model, pixels = digits[0], digits[1][:3]
    means = [sum(gmacs(model, attacked(model, pixels, learned(model, pixels, steps=steps)).images)) for steps in (1, 5, 20)]
    assert means == sorted(means)
    assert means[0] < means[2]


def test_where_the_best_patch_is_known_it_is_found_and_applies_to_other_images() -> None:
    model, pixels = classifier(Painted(), 6), torch.rand(20, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    patch = learned(model, pixels[:8], corner="lower_right", steps=600)
    assert torch.equal(patch[0], torch.ones(3, 3))
    assert torch.equal(patch[2], torch.zeros(3, 3))
    made = attacked(model, pixels[8:], patch, corner="lower_right")
    assert torch.equal(torch.tensor(gmacs(model, made.images)), torch.full((12,), 3.0))
    assert max(gmacs(model, pixels[8:])) < 2.9


@pytest.mark.parametrize(("corner", "rows", "columns"), [
    ("upper_left", slice(0, 16), slice(0, 16)), ("upper_right", slice(0, 16), slice(16, 32)),
    ("lower_left", slice(16, 32), slice(0, 16)), ("lower_right", slice(16, 32), slice(16, 32)),
])  # fmt: skip
def test_one_patch_lies_in_the_corner_of_every_image_and_other_pixels_keep_their_bits(corner, rows, columns) -> None:
    model, pixels, patch = reducer(), vits.images(5), torch.rand(3, 16, 16)
    before = pixels.clone()
    made = attacked(model, pixels, patch, corner=corner)
    assert torch.equal(pixels, before)
    assert all(torch.equal(one, patch) for one in made.images[:, :, rows, columns])
    before[:, :, rows, columns] = patch
    assert torch.equal(made.images, before)
    assert made.columns["queries"].tolist() == [1] * 5


def test_a_fixed_count_keeps_the_stripes_that_the_search_starts_from() -> None:
    patch = learned(rv.transformed(vits.made(vits.HOSTS["plain"]), "evit(keep=0.5)"), vits.images(4), steps=5)
    assert torch.equal(patch, patch[:, :1].expand_as(patch))
    assert set(patch.flatten().tolist()) == {0.0, 1.0}


def test_a_model_that_computes_on_all_its_tokens_is_refused_before_an_image_is_loaded() -> None:
    model, labels = vits.made(vits.HOSTS["plain"]), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(HostRefused, match="'toy' computes on all its tokens"):
        learn_patch(model, lambda *_: pytest.fail("an image is loaded"), LEARN, train=few(labels), **SETTINGS)
    with pytest.raises(HostRefused, match="'toy' computes on all its tokens"):
        attacked(model, vits.images(2), torch.rand(3, 16, 16))


def test_it_is_learned_once_spends_more_on_other_images_and_is_undefined_without_a_reducer(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(
        "name: n\ntitle: N\ndata: digits\nmetrics: [gmacs, token_utilisation]\ntransforms: [[], [ats]]\nscenarios:\n  - clean\n"
        "  - inflate_patch: {train: {digits: {split: train}}, size: 0.375, samples: 16, steps: 30}\n"
    )
    done = rv.run(tmp_path / "n.yaml", ["demo"], store=tmp_path / "s", limit=32)
    assert (done.failed, len(done.undefined)) == ({}, 1)
    board = rv.leaderboard(tmp_path / "s")
    hollow = board[(board["transforms"] == "") & (board["scenario"] == "inflate_patch")]
    assert set(hollow["status"]) == {"undefined"}
    assert hollow["reason"].str.contains("computes on all its tokens").all()
    value = {(row["scenario"], row["metric"]): row["value"] for _, row in board[board["transforms"] != ""].iterrows()}
    for metric in ("gmacs", "token_utilisation"):
        assert value["inflate_patch", metric] > 1.01 * value["clean", metric]
    cell = next(one.cell for one, rows in rv.load_records(tmp_path / "s") if one.scenario == "inflate_patch" and len(rows))
    assert rv.Store(tmp_path / "s").artifact_of(cell)["patch"].shape == (3, 12, 12)
    assert rv.run(tmp_path / "n.yaml", ["demo"], store=tmp_path / "s", limit=32).computed == 0
