"""Random erasing, mixup and CutMix against those of timm, given the same random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data import mixup as timm_mixup
from timm.data import random_erasing as timm_erasing

import robustvit as rv
from robustvit.defenses.augmentation.mixup import cut_box
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.training.distributions import beta


def batch(count: int = 40, height: int = 12, width: int = 16) -> Batch:
    images = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(3))
    return Batch(images, torch.arange(count) % 5, tuple(map(str, range(count))))


def draws(given: Batch, step: int = 5) -> Draws:
    return Draws.for_step(0, step, given.ids)


class Scripted:
    """The module `random` for one image, with numbers of ours: whether, and in each attempt area, aspect, top and left."""

    def __init__(self, whether: float, tries: list[list[float]]) -> None:
        self.whether, self.tries, self.attempt, self.place = whether, tries, -1, 4

    def random(self) -> float:
        return self.whether

    def uniform(self, low: float, high: float) -> float:
        if self.place in (2, 4):
            self.attempt, self.place = self.attempt + 1, 0
        return low + (high - low) * self._next()

    def randint(self, low: int, high: int) -> int:
        return low + int(self._next() * (high - low + 1))

    def _next(self) -> float:
        self.place += 1
        return self.tries[self.attempt][self.place - 1]


@pytest.mark.parametrize("size", [(12, 16), (5, 30)])
def test_erased_rectangles_are_those_of_timm(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    given = batch(60, *size)
    own = draws(given)
    found = rv.load_defense("random_erasing", mode="const", probability=0.7, mean=0.25, max_area=0.6).batch(given, own).images
    whether, tries = own.at("whether").uniform().tolist(), own.at("rectangle").uniform(10, 4).tolist()
    erased = 0
    for row in range(60):
        monkeypatch.setattr(timm_erasing, "random", Scripted(whether[row], tries[row]))
        expected = timm_erasing.RandomErasing(0.7, max_area=0.6, device="cpu")(given.images[row] - 0.25) + 0.25
        assert torch.allclose(found[row], expected, atol=1e-6)
        erased += not torch.equal(found[row], given.images[row])
    assert 25 < erased < 55


@pytest.mark.parametrize(("mode", "colours"), [("const", 1), ("rand", 1), ("pixel", 5)])
def test_what_is_filled_in_is_the_mean_a_colour_or_noise(mode: str, colours: int) -> None:
    given = batch(300)
    found = rv.load_defense("random_erasing", mode=mode, probability=1.0, std=0.1, min_area=0.2).batch(given, draws(given)).images
    filled = [one[:, (one != before).all(dim=0)] for one, before in zip(found, given.images, strict=True)]
    assert all(len(one[0].unique()) == colours if colours == 1 else len(one[0].unique()) > colours for one in filled)
    values = torch.cat([one[:, :1] if colours == 1 else one for one in filled], dim=1)
    assert float(values.mean()) == pytest.approx(0.5, abs=0.015)
    assert float(values.std()) == pytest.approx(0.0 if mode == "const" else 0.1, rel=0.1, abs=1e-6)


def test_erasing_depends_on_no_other_image_and_stays_in_range() -> None:
    given, defense = batch(), rv.load_defense("random_erasing", probability=0.5, std=2.0)
    found, rows = defense.batch(given, draws(given)).images, torch.tensor([9, 2, 30])
    assert torch.equal(defense.batch(given[rows], draws(given)[rows]).images, found[rows])
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)
    assert torch.equal(rv.load_defense("random_erasing", probability=0).batch(given, draws(given)).images, given.images)


def test_a_least_area_above_the_most_is_refused() -> None:
    with pytest.raises(BadParameter, match=r"min_area is 0\.5, above max_area"):
        rv.load_defense("random_erasing", min_area=0.5)


@pytest.mark.parametrize(
    "settings", [{"cutmix": 1.0}, {"cutmix": 0.0}, {"cutmix": 1.0, "switch": 1.0}, {"cutmix": 1.0, "probability": 0.4}]
)
@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_mixtures_and_their_labels_are_those_of_timm(monkeypatch: pytest.MonkeyPatch, mode: str, settings: dict[str, float]) -> None:
    given = batch()
    probability, switch = settings.get("probability", 1.0), settings.get("switch", 0.5) if settings["cutmix"] else 0.0
    for step in range(4):
        own = draws(given, step)
        found = rv.load_defense("mixup", classes=5, mode=mode, **settings).batch(given, own)
        keyed = own if mode == "elem" else Draws(own.seed, own.stream, ("batch",))
        whether, which = keyed.at("whether").uniform(2).T
        places = (keyed.at("centre").uniform(2) * torch.tensor([12, 16])).int().tolist()
        params = [(bool(w < probability), bool(k < switch)) for w, k in zip(whether, which, strict=True)]
        blends, cuts = beta(keyed.at("blend"), 0.8, 0.8), beta(keyed.at("cut"), 1.0, 1.0)
        lam = [float(cut if cuts_it else blend) if does else 1.0 for (does, cuts_it), blend, cut in zip(params, blends, cuts, strict=True)]
        theirs = timm_mixup.Mixup(0.8, settings["cutmix"], switch_prob=switch, mode=mode, label_smoothing=0.1, num_classes=5)
        cut = np.array([does and cuts_it for does, cuts_it in params])
        monkeypatch.setattr(theirs, "_params_per_batch", lambda lam=lam, cut=cut: (lam[0], bool(cut[0])))
        monkeypatch.setattr(theirs, "_params_per_elem", lambda count, lam=lam, cut=cut: (np.array(lam, np.float32), cut))
        centres = iter([place for row, both in enumerate(places) for place in both if cut[row]])
        monkeypatch.setattr(np.random, "randint", lambda low, high, size=None, centres=centres: next(centres))
        images, targets = theirs(given.images.clone(), given.labels)
        assert torch.allclose(found.images, images, atol=1e-6)
        assert torch.allclose(found.soft_labels, targets, atol=1e-6)


def test_cutmix_is_mixup_that_always_cuts() -> None:
    given = batch()
    found = rv.load_defense("cutmix", classes=5, mode="elem", smoothing=0).batch(given, draws(given))
    same = (found.images == given.images).all(dim=1)
    other = (found.images == given.images.flip(0)).all(dim=1)
    assert (same | other).all()
    assert torch.allclose(found.soft_labels.amax(dim=1)[0], torch.maximum(same[0].float().mean(), other[0].float().mean()))


def test_a_box_has_the_root_of_what_it_takes_of_both_sides_and_is_cut_at_the_border() -> None:
    assert cut_box(torch.Size((10, 20)), 0.75, [0.5, 0.5]) == (0.75, (3, 8, 5, 15))
    assert cut_box(torch.Size((10, 20)), 0.75, [0.0, 0.99]) == (1 - 3 * 6 / 200, (0, 3, 14, 20))


def test_soft_labels_are_mixed_as_they_are_and_others_refused() -> None:
    given = batch(4)
    soft = torch.rand(4, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    found = rv.load_defense("mixup", classes=5, smoothing=0).batch(given.with_soft_labels(soft), draws(given)).soft_labels
    share = (found[0, 0] - soft[3, 0]) / (soft[0, 0] - soft[3, 0])
    assert torch.allclose(found, share * soft + (1 - share) * soft.flip(0), atol=1e-5)
    for labels in (batch(5), batch(5).with_soft_labels(soft[[0, 1, 2, 3, 0]])):
        with pytest.raises(BadParameter, match="'cutmix' mixes labels of classes = 3, and these are of 5"):
            rv.load_defense("cutmix", classes=3).batch(labels, draws(labels))
