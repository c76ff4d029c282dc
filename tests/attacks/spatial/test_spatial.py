"""Attacks that move the whole image, against loops over every place and against what their limits imply."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from exact import classifier
from torch import Tensor, nn

from robustvit.attacks.losses import log_odds
from robustvit.attacks.spatial import rotate_and_shift
from robustvit.attacks.spatial.rotate_and_shift import grid_points, spatial
from robustvit.attacks.spatial.worst_shift import worst_shift
from robustvit.errors import BadParameter
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.maps import affine_maps
from robustvit.primitives.geometry.resampling import resampled
from robustvit.primitives.passes import declared_passes
from robustvit.primitives.scenario import Outcome, scenario
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec, parse

SIDE, COUNT = 10, 16


class Counted(nn.Module):
    """A network of the colour of an image and of where things are in it, which keeps the images that it is given."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features, self.where = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8 * 16, 3, bias=False)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        where: Tensor = self.where(self.features(images - 0.5).relu().flatten(1))
        return 0.5 * images.mean(dim=(2, 3)) + where


def images() -> Tensor:
    """Smooth noise, so that a small shift keeps most of an image, with more and more of one colour."""
    noise = torch.rand(COUNT, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    colour = nn.functional.one_hot(torch.arange(COUNT) % 3, 3).view(COUNT, 3, 1, 1)
    share = torch.linspace(0.0, 0.6, COUNT).view(-1, 1, 1, 1)
    return share * colour + (1 - share) * nn.functional.interpolate(noise, (SIDE, SIDE), mode="bilinear")


@functools.cache
def network() -> Counted:
    return Counted()


def model(tile: int = 8) -> Classifier:
    return classifier(network(), SIDE, tile=tile)


def batch() -> Batch:
    with torch.no_grad():
        labels = model()(images()).argmax(dim=1)
    return Batch(images(), labels, tuple(f"s{i}" for i in range(COUNT)))


def draws() -> Draws:
    return Draws(0, "attack/spatial", batch().ids)


def margin_of(pixels: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model()(pixels)
        own = logits.gather(1, labels[:, None])[:, 0]
        return logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1) - own


def rolled(row: int, down: int, right: int, border: str) -> Tensor:
    if border == "circular":
        return images()[row].roll((down, right), (1, 2))
    padded = nn.functional.pad(images()[row], (3, 3, 3, 3))
    return padded[:, 3 - down : 3 - down + SIDE, 3 - right : 3 - right + SIDE]


def in_order(reach: int) -> list[tuple[int, int]]:
    """The shifts as the docstring has them: by the larger part, by the sum of both, row by row."""
    grid = itertools.product(range(-reach, reach + 1), repeat=2)
    return sorted(grid, key=lambda at: (max(map(abs, at)), sum(map(abs, at)), at))


@pytest.mark.parametrize("border", ["circular", "zeros"])
def test_the_worst_shift_is_that_of_a_loop_over_the_grid_and_every_query_is_counted(border: str) -> None:
    given = batch()
    found = worst_shift(model(), given.images, given.labels, draws(), pixels=2, border=border)  # type: ignore[arg-type]
    queries = 0
    for row in range(COUNT):
        tried: list[tuple[float, tuple[int, int]]] = []
        for at in in_order(2):
            tried.append((float(margin_of(rolled(row, *at, border)[None], given.labels[row : row + 1])), at))
            if tried[-1][0] > 0:
                break
        _, (down, right) = max(tried, key=lambda one: one[0])
        assert torch.equal(found.images[row], rolled(row, down, right, border))
        assert (found.columns["value_shift_down"][row], found.columns["value_shift_right"][row]) == (down, right)
        assert int(found.columns["queries"][row]) == len(tried)
        assert int(found.columns["steps"][row]) == (len(tried) if tried[-1][0] > 0 else -1)
        queries += len(tried)
    assert found.fooled is not None
    assert 3 < int(found.fooled.sum()) < COUNT - 3
    alone = model(tile=1)  # nothing is padded, so that every image that the network is given is a query
    kept = alone.model.seen  # type: ignore[union-attr]
    kept.clear()  # type: ignore[operator]
    worst_shift(alone, given.images, given.labels, draws(), pixels=2, border=border)  # type: ignore[arg-type]
    assert sum(map(len, kept)) == queries  # type: ignore[arg-type]


def test_without_stopping_early_every_shift_is_tried_and_the_largest_margin_returned() -> None:
    given = batch()
    found = worst_shift(model(), given.images, given.labels, draws(), pixels=1, early=False)
    assert found.columns["queries"].tolist() == [9] * COUNT
    for row in range(COUNT):
        losses = {at: float(margin_of(rolled(row, *at, "circular")[None], given.labels[row : row + 1])) for at in in_order(1)}
        assert torch.equal(found.images[row], rolled(row, *max(losses, key=losses.__getitem__), "circular"))


def lifted(name: str, host: Classifier | None = None, **params: Any) -> Outcome:
    entry, given = lookup("attack", name), batch()
    return scenario(entry, bind(entry, parse({name: params})[0]))(host or model(), given, Draws(0, f"attack/{name}", given.ids))


@pytest.mark.parametrize(
    ("name", "none", "queries"),
    [
        ("worst_shift", {"pixels": 0}, 1), ("spatial", {}, 1), ("spatial", {"method": "worst", "tries": 3}, 3),
        ("spatial", {"method": "random"}, 1), ("spatial", {"method": "first", "steps": 2}, 2),
    ],
    ids=str,
)  # fmt: skip
def test_limits_of_zero_return_every_bit(name: str, none: dict[str, Any], queries: int) -> None:
    outcome = lifted(name, **none, **({"rotation": 0, "shift": 0} if name == "spatial" else {}))
    assert outcome.images is not None
    assert torch.equal(outcome.images, images())
    assert outcome.columns["queries"].tolist() == [queries] * COUNT


def test_the_grid_is_that_of_a_loop_over_angles_and_shifts() -> None:
    given = batch()
    found = spatial(model(), given.images, given.labels, draws(), rotation=20.0, shift=0.2, angles=3, shifts=3)
    places = [(a, x, y) for a in (-20.0, 0.0, 20.0) for x in (-2.0, 0.0, 2.0) for y in (-2.0, 0.0, 2.0)]
    places.sort(key=lambda at: max(abs(at[0]) / 20, abs(at[1]) / 2, abs(at[2]) / 2))
    assert places[0] == (0, 0, 0)
    for row in range(COUNT):
        tried = []
        for at in places:
            maps = affine_maps(*(torch.tensor([value]) for value in at))
            pixels = resampled(given.images[row : row + 1], maps, "zeros")
            tried.append((float(margin_of(pixels, given.labels[row : row + 1])), at, pixels[0]))
            if tried[-1][0] > 0:
                break
        _, at, pixels = max(tried, key=lambda one: one[0])
        assert torch.equal(found.images[row], pixels)
        columns = [float(found.columns[name][row]) for name in ("value_rotation", "value_shift_right", "value_shift_down")]
        assert columns == pytest.approx(at)
        assert int(found.columns["queries"][row]) == len(tried)


def test_the_whole_grid_is_at_least_as_strong_as_any_draws_from_it_and_these_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGrid(Draws):
        """Draws whose uniform numbers are points of a grid of three."""

        def at(self, purpose: str | int) -> Draws:
            return OnGrid(self.seed, f"{self.stream}/{purpose}", self.ids)

        def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
            return self.integers(*shape, low=-1, high=2).float()

    given, limits = batch(), {"rotation": 40.0, "shift": 0.2}
    here = OnGrid(0, "x", given.ids)

    def robust(method: str, **more: Any) -> Tensor:
        found = spatial(model(), given.images, given.labels, here, method=method, **limits, **more)  # type: ignore[arg-type]
        assert found.fooled is not None
        return ~found.fooled

    grid, few, many = robust("grid", angles=3, shifts=3), robust("worst", tries=3), robust("worst", tries=12)
    one = robust("random")
    assert not bool((grid & ~many).any())
    assert not bool((many & ~few).any())
    assert int(grid.sum()) < int(many.sum()) < int(few.sum()) < COUNT
    assert not bool((few & ~one).any())


def test_random_places_are_each_samples_own_and_inside_the_limits() -> None:
    given = batch()
    found = spatial(model(), given.images, given.labels, draws(), rotation=15.0, shift=0.3, method="random")
    turns, right, down = (found.columns[name] for name in ("value_rotation", "value_shift_right", "value_shift_down"))
    assert len({*turns.tolist()}) == len({*right.tolist()}) == len({*down.tolist()}) == COUNT
    assert 10 < float(turns.abs().max()) <= 15
    assert 2.0 < float(right.abs().max()) <= 3
    assert 2.0 < float(down.abs().max()) <= 3
    assert found.columns["queries"].tolist() == [1] * COUNT
    expected = resampled(given.images, affine_maps(turns, right, down), "zeros")
    assert torch.allclose(found.images, expected, atol=1e-5)


def first_order_by_hand(row: int, steps: int, step: float) -> tuple[Tensor, Tensor]:
    """Signed ascent through the sampler by autograd of the whole, one sample alone."""
    given, host = batch(), model()
    limits = torch.tensor([30.0, 2.0, 2.0], dtype=torch.float64)
    place = draws().at("start").uniform(3, low=-1.0, high=1.0).double()[row : row + 1]
    best, kept = -torch.inf, (place, given.images[row])
    for _ in range(steps):
        place = place.clone().requires_grad_(True)
        pixels = resampled(given.images[row : row + 1], affine_maps(*(place * limits).unbind(1)), "zeros")
        loss = log_odds(host.model(pixels), given.labels[row : row + 1])  # type: ignore[operator]
        if (margin := float(margin_of(pixels.detach(), given.labels[row : row + 1]))) > best:
            best, kept = margin, (place.detach() * limits, pixels.detach()[0])
        if best > 0:
            break
        (slope,) = torch.autograd.grad(loss.sum(), place)
        place = (place.detach() + step * slope.sign()).clamp(-1, 1)
    return kept


def test_the_first_order_attack_ascends_the_loss_through_the_sampler() -> None:
    given = batch()
    found = spatial(model(), given.images, given.labels, draws(), rotation=30.0, shift=0.2, method="first", steps=6, step=0.2)
    for row in range(COUNT):
        place, pixels = first_order_by_hand(row, 6, 0.2)
        assert torch.allclose(found.images[row], pixels, atol=1e-6)
        assert float(found.columns["value_rotation"][row]) == pytest.approx(float(place[0, 0]), abs=1e-4)
    still = found.columns["queries"] == 6
    assert 0 < int(still.sum()) < COUNT
    assert torch.equal(found.columns["gradients"], found.columns["queries"])


def test_a_model_that_no_rotation_changes_keeps_its_accuracy() -> None:
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            score = images.mean(dim=(2, 3))
            return torch.stack((score[:, 0] - score[:, 1], score[:, 1] - score[:, 0]), dim=1)

    host, pixels = classifier(Mean(), SIDE), images()
    labels = host(pixels).argmax(dim=1)
    found = worst_shift(host, pixels, labels, draws(), pixels=3)
    assert not bool(found.fooled.any())  # type: ignore[union-attr]
    quarter = spatial(host, pixels, labels, draws(), rotation=90.0, shift=0.0, angles=3)
    assert not bool(quarter.fooled.any())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "given"),
    [("worst_shift", {"pixels": 1}), *(("spatial", {"method": m, "angles": 3, "shifts": 3}) for m in ("grid", "worst", "random", "first"))],
    ids=str,
)
def test_the_declared_passes_are_those_of_a_sample_that_stays_robust(name: str, given: dict[str, Any]) -> None:
    entry = lookup("attack", name)
    spec = bind(entry, parse({name: given})[0])
    declared = declared_passes(entry, spec, model(), {})
    outcome = lifted(name, **given)
    assert declared is not None
    most = int(outcome.columns["queries"].max())
    assert most == declared.forward + declared.gradients
    assert int(outcome.columns["gradients"].max()) == declared.gradients


def test_samples_that_are_wrong_when_clean_are_left_alone() -> None:
    given = batch()
    wrong = replace(given, labels=(given.labels + 1) % 3)
    entry = lookup("attack", "worst_shift")
    outcome = scenario(entry, bind(entry, Spec("worst_shift")))(model(), wrong, draws())
    assert outcome.images is not None
    assert torch.equal(outcome.images, images())
    assert outcome.columns["value_shift_down"].isnan().all()


def test_bad_limits_are_refused_in_one_line() -> None:
    given = batch()
    with pytest.raises(BadParameter, match="attack 'worst_shift': a shift of 10 pixels is as large as images of 10x10; take at most 9"):
        worst_shift(model(), given.images, given.labels, draws(), pixels=10)
    with pytest.raises(BadParameter, match="attack 'spatial': angles is 4; an odd number makes the unmoved image a point of the grid"):
        grid_points(4, 5)
    with pytest.raises(BadParameter, match="shifts is 2"):
        spatial(model(), given.images, given.labels, draws(), shifts=2)
    for text, message in (
        ({"rotation": -1}, "rotation is -1"),
        ({"shift": 1}, "shift is 1"),
        ({"border": "black"}, "it takes one of zeros"),
    ):
        with pytest.raises(BadParameter, match=message):
            bind(lookup("attack", "spatial"), parse({"spatial": text})[0])


def test_the_grid_has_its_limits_and_the_image_itself_first() -> None:
    points = grid_points(31, 5)
    assert len(points) == 775
    assert points[0].tolist() == [0, 0, 0]
    assert sorted({round(value, 9) for value in points[:, 0].tolist()}) == pytest.approx([k / 15 for k in range(-15, 16)])
    assert {*points[:, 1].tolist()} == {-1, -0.5, 0, 0.5, 1}
    assert bool((points.abs().amax(dim=1).diff() >= 0).all())
    assert isinstance(rotate_and_shift.spatial(model(), images()[:0], batch().labels[:0], Draws(0, "x", [])), Crafted)
