"""PixMix: its mixing by hand, its weights by their distribution, its steps by a slow reference, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import robustvit as rv
from robustvit.data.formats.arrays import array_dataset
from robustvit.defenses.augmentation import pixmix as module
from robustvit.defenses.augmentation.pixmix import Round, drawn_rounds, mixed_once, mixing_images, pixmix, random_part
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels

HALF = torch.full((3, 2, 2), 0.5)


def batch(count: int = 12, side: int = 8) -> Batch:
    levels = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(3))
    return Batch(levels / 255, torch.arange(count) % 2, tuple(map(str, range(count))))


def draws(given: Batch) -> Draws:
    return Draws.for_step(0, 5, given.ids)


def patterns(count: int = 5, side: int = 8) -> Data:
    images = np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return array_dataset("patterns", images, np.zeros(count, int), ids=[str(i) for i in range(count)], classes=["a"])


def test_sums_and_products_by_hand() -> None:
    first, second = torch.tensor([0.2, 0.9]), torch.tensor([0.6, 0.7])
    added = mixed_once(first, second, Round(False, True, 0.8, 0.3))
    assert added.tolist() == pytest.approx([((0.4 - 1) * 0.8 + 0.2 * 0.3 + 1) / 2, (0.8 * 0.8 + 0.4 * 0.3 + 1) / 2])
    multiplied = mixed_once(first, second, Round(False, False, 1.2, -0.3))
    assert multiplied.tolist() == pytest.approx([0.4**1.2 * 1.2**-0.3 / 2, 1.8**1.2 * 1.4**-0.3 / 2])


@pytest.mark.parametrize("added", [True, False])
def test_grey_stays_grey_whatever_the_weights_and_all_stays_in_range(added: bool) -> None:
    for weights in ((0.3, 0.9), (1.8, -0.7)):
        assert torch.allclose(mixed_once(HALF, HALF, Round(False, added, *weights)), HALF)
        mixed = mixed_once(torch.linspace(-0.5, 1.5, 9), torch.linspace(0, 1, 9).flip(0), Round(False, added, *weights))
        assert (float(mixed.min()), float(mixed.max())) >= (0.0, 0.0)
        assert float(mixed.max()) <= 1.0
    dark = mixed_once(torch.tensor([0.0, 0.4]), torch.zeros(2), Round(False, False, 1.5, -0.999))
    assert dark.tolist() == [0.0, 1.0]


def test_the_weights_have_their_distributions() -> None:
    own = Draws(0, "w", tuple(map(str, range(3000))))
    found = [one for rounds in drawn_rounds(own, 2, 3.0) for one in rounds]
    inside = [one for one in found if one.b > 0]
    outside = [one for one in found if one.b <= 0]
    assert len(inside) / len(found) == pytest.approx(0.5, abs=0.04)
    assert [np.mean([getattr(one, name) for one in found]) for name in ("itself", "added")] == pytest.approx([0.5, 0.5], abs=0.04)
    for values, shape in (
        ([one.a for one in inside], (3, 1)), ([one.b for one in inside], (1, 3)),
        ([one.a - 1 for one in outside], (1, 3)), ([-one.b for one in outside], (1, 3)),
    ):  # fmt: skip
        assert stats.kstest(values, stats.beta(*shape).cdf).pvalue > 0.01
    assert abs(np.corrcoef([one.a for one in outside], [one.b for one in outside])[0, 1]) < 0.08


def test_rounds_are_of_a_uniform_number_from_none_to_k() -> None:
    counts = np.bincount([len(rounds) for rounds in drawn_rounds(Draws(0, "w", tuple(map(str, range(500)))), 4, 3.0)])
    assert len(counts) == 5
    assert stats.chisquare(counts).pvalue > 0.01
    assert drawn_rounds(Draws(0, "w", ("a",)), 0, 3.0) == [[]]


def test_a_batch_is_mixed_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    given, own = batch(), draws(batch())
    monkeypatch.setattr(module, "apply_op", lambda image, op, uniform, severity: image.point(lambda value: (value + 40) % 256))
    found = pixmix(mixing=patterns()).batch(given, own).images
    shifted = pixels(((given.images * 255).round().int().permute(0, 2, 3, 1).numpy() + 40).astype(np.uint8))
    mixing = mixing_images(patterns(), own.at("mixing"), given.images.shape[2:], torch.device("cpu"))
    starts = own.at("start").uniform()
    for row, rounds in enumerate(drawn_rounds(own, 4, 3.0)):
        x = (shifted if starts[row] < 0.5 else given.images)[row].double()
        for itself, added, a, b in rounds:
            z = (shifted if itself else mixing)[row].double()
            x = ((2 * x - 1) * a + (2 * z - 1) * b + 1) / 2 if added else (2 * x) ** a * (2 * z).clamp_min(1e-37) ** b / 2
            x = x.clip(0, 1)
        assert torch.allclose(found[row].double(), x, atol=1e-5)


def test_an_image_is_changed_the_same_in_any_batch_to_the_bit() -> None:
    given, defense, rows = batch(), pixmix(mixing=patterns()), torch.tensor([9, 2])
    together = defense.batch(given, draws(given)).images
    assert torch.equal(defense.batch(given[rows], draws(given)[rows]).images, together[rows])
    assert not torch.equal(defense.batch(given, Draws.for_step(0, 6, given.ids)).images, together)


def test_without_rounds_half_of_the_images_are_as_they_were() -> None:
    given = batch(60)
    found = pixmix(mixing=patterns(), k=0).batch(given, draws(given)).images
    same = (found == given.images).flatten(1).all(dim=1)
    assert same[draws(given).at("start").uniform() >= 0.5].all()
    assert 15 < int(same.sum()) < 45


def test_a_part_of_a_mixing_image_is_cut_of_nine_eighths_of_the_side() -> None:
    ramp = np.repeat(np.tile(np.arange(36, dtype=np.uint8), (36, 1))[..., None], 3, axis=2)
    for corner, first in (((0.0, 0.0), 0), ((0.5, 0.5), 2), ((0.99, 0.99), 4)):
        part = random_part(Image.fromarray(ramp), (32, 32), corner)
        assert part[0, :, 0].tolist() == list(range(first, first + 32))
    assert random_part(Image.fromarray(ramp[:20]), (16, 24), (0.5, 0.5)).shape == (16, 24, 3)


def test_the_mixing_set_is_loaded_by_its_address_and_all_of_it_is_used() -> None:
    given = batch(40)
    defense = rv.load_defense("pixmix", mixing="fractals?categories=2&side=8")
    assert [part for part in ("batch", "craft", "loss", "penalty", "step") if defense.sets(part)] == ["batch"]
    assert defense.batch(given, draws(given)).images.shape == given.images.shape
    whole = mixing_images(patterns(3), draws(given), torch.Size((8, 8)), torch.device("cpu"))
    assert len(torch.unique(whole.flatten(1), dim=0)) > 3


@pytest.mark.parametrize("wrong", [{"k": -1}, {"beta": 0}, {"severity": 0}])
def test_what_is_no_mixing_is_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(BadParameter, match=name):
        rv.load_defense("pixmix", mixing="fractals", **wrong)
