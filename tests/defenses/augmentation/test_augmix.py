"""AugMix: its operations in closed form, its mixtures step by step, its divergence by hand, and what it leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.defenses.augmentation.augmix import chains, jensen_shannon, mixed
from robustvit.defenses.augmentation.pillow_ops import ALL_OPS, OPS, apply_op
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import compose
from robustvit.primitives.draws import Draws
from robustvit.spec import registry

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def batch(count: int = 5, side: int = 12) -> Batch:
    levels = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(3))
    return Batch(levels / 255, torch.arange(count) % 2, tuple(map(str, range(count))))


def draws(given: Batch) -> Draws:
    return Draws.for_step(0, 5, given.ids)


def after(name: str, level: float, sign: int = 1, image: np.ndarray = NOISE) -> np.ndarray:
    return np.asarray(ALL_OPS[name](Image.fromarray(image), level, sign))


class Recorder(nn.Module):
    """A linear model that keeps the images of its forward passes."""

    def __init__(self, side: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head, self.seen = nn.Linear(3 * side * side, 3), list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return self.head(images.flatten(1))


def test_posterize_keeps_the_leading_bits() -> None:
    assert (after("posterize", 0.1) == (NOISE & 0b11110000)).all()
    assert (after("posterize", 2.6) == (NOISE & 0b11100000)).all()


def test_solarize_inverts_what_is_above_the_threshold() -> None:
    assert (after("solarize", 5.0) == np.where(NOISE < 128, NOISE, 255 - NOISE)).all()


def test_autocontrast_stretches_every_channel_to_the_whole_range() -> None:
    grey = (NOISE // 3 + 40).astype(np.uint8)
    low, high = grey.min(axis=(0, 1)).astype(float), grey.max(axis=(0, 1)).astype(float)
    assert np.abs(after("autocontrast", 1.0, image=grey) - (grey - low) * 255 / (high - low)).max() <= 1


def test_equalize_maps_every_level_to_its_rank() -> None:
    dark = np.random.default_rng(1).integers(0, 128, (120, 100, 3), dtype=np.uint8)
    expected = np.stack([255 * (dark[..., c, None] > np.sort(dark[..., c].ravel())).mean(axis=-1) for c in range(3)], axis=-1)
    assert np.abs(after("equalize", 1.0, image=dark) - expected).max() <= 7  # Pillow divides by a whole number of pixels to a level


@pytest.mark.parametrize("sign", [1, -1])
def test_translations_shift_by_whole_pixels_of_each_side_and_leave_black(sign: int) -> None:
    expected = np.zeros_like(NOISE)
    here, there = (slice(0, -3), slice(3, None)) if sign == 1 else (slice(3, None), slice(0, -3))
    expected[:, here] = NOISE[:, there]
    assert (after("translate_x", 3.9, sign) == expected).all()
    expected = np.zeros_like(NOISE)
    here, there = (slice(0, -2), slice(2, None)) if sign == 1 else (slice(2, None), slice(0, -2))
    expected[here] = NOISE[there]
    assert (after("translate_y", 3.9, sign) == expected).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_shears_move_each_line_in_proportion_to_its_distance(sign: int) -> None:
    ramp = np.repeat(np.tile(np.arange(30, dtype=np.uint8) * 8, (30, 1))[..., None], 3, axis=2)
    lines = np.arange(30)[:, None]
    expected = 8 * (np.arange(30)[None] + sign * 0.12 * (lines + 0.5))
    inside = slice(4, 26)
    assert np.abs(after("shear_x", 4.0, sign, ramp)[:, inside, 0] - expected[:, inside]).max() <= 1
    assert np.abs(after("shear_y", 4.0, sign, ramp.transpose(1, 0, 2))[inside, :, 0] - expected.T[inside]).max() <= 1


def test_rotations_are_by_whole_degrees_about_the_centre() -> None:
    assert (after("rotate", 0.3) == NOISE).all(), "less than a degree is none"
    line = np.zeros((41, 41, 3), np.uint8)
    line[20, 24:41] = 255
    rows, columns = np.nonzero(after("rotate", 9.99, 1, line)[..., 0] > 100)
    slopes = np.degrees(np.arctan2(20 - rows, columns - 20))
    assert slopes.mean() == pytest.approx(29, abs=0.7)


def test_the_operations_of_the_paper_are_none_of_the_corruptions() -> None:
    assert len(OPS) == 9
    assert set(OPS).isdisjoint(registry.entries("corruption"))
    assert set(ALL_OPS) - set(OPS) == {"color", "contrast", "brightness", "sharpness"}
    assert set(ALL_OPS) & set(registry.entries("corruption")) == {"contrast", "brightness"}


@pytest.mark.parametrize("name", ["color", "contrast", "brightness", "sharpness"])
def test_enhancements_change_nothing_at_level_five(name: str) -> None:
    assert np.abs(after(name, 5.0).astype(int) - NOISE).max() <= 1
    assert np.abs(after(name, 1.0).astype(int) - NOISE).max() > 20


def test_levels_reach_from_a_tenth_to_the_severity() -> None:
    seen: list[tuple[float, int]] = []

    def op(image: Image.Image, level: float, sign: int) -> Image.Image:
        seen.append((level, sign))
        return image

    for uniform in ((0.0, 0.0), (0.5, 0.49), (1.0, 0.5)):
        apply_op(Image.new("RGB", (2, 2)), op, uniform, 3.0)
    assert seen == [(pytest.approx(0.1), 1), (pytest.approx(1.55), 1), (pytest.approx(3.0), -1)]


def test_chains_are_of_one_two_or_three_operations_or_of_a_given_number() -> None:
    given = batch(40, 4)
    count = [lambda image, level, sign: image.point(lambda value: value + 1)]
    black = torch.zeros_like(given.images)
    found = (chains(black, draws(given), count, 3, 0, 3.0)[:, :, 0, 0, 0] * 255).round().flatten().tolist()
    assert {found.count(float(depth)) > 20 for depth in (1, 2, 3)} == {True}
    assert set(found) == {1.0, 2.0, 3.0}
    assert set((chains(black, draws(given), count, 2, 5, 3.0) * 255).round().flatten().tolist()) == {5.0}


def test_operations_are_drawn_with_replacement_from_all() -> None:
    given = batch(60, 2)
    marks = [lambda image, level, sign, value=value: Image.new("RGB", (2, 2), (value, 0, 0)) for value in range(9)]
    found = (chains(given.images, draws(given), marks, 3, 1, 3.0)[:, :, 0, 0, 0] * 255).round().long()
    assert torch.bincount(found.flatten(), minlength=9).min() > 8
    assert any(len(set(row)) < 3 for row in found.tolist())


def test_a_mixture_is_the_weighted_sum_in_the_share() -> None:
    given = batch(2, 3)
    chained = torch.rand(2, 3, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    weights, share = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]), torch.tensor([0.4, 1.0])
    found = mixed(given.images, chained, weights, share)
    first = 0.6 * given.images[0] + 0.4 * (0.2 * chained[0, 0] + 0.3 * chained[0, 1] + 0.5 * chained[0, 2])
    assert torch.allclose(found[0], first, atol=1e-6)
    assert torch.allclose(found[1], chained[1, 0], atol=1e-6)


def test_a_share_of_nothing_is_the_image_to_the_bit_and_all_stays_in_range() -> None:
    given = batch(4, 3)
    white = torch.ones(4, 3, 3, 3, 3)
    weights = torch.full((4, 3), 1 / 3) + 1e-7
    assert torch.equal(mixed(given.images, white, weights, torch.zeros(4)), given.images)
    assert float(mixed(given.images, white, weights, torch.linspace(0, 1, 4)).max()) <= 1.0
    assert torch.equal(mixed(torch.ones(4, 3, 3, 3), white, weights, torch.rand(4)), torch.ones(4, 3, 3, 3))


@pytest.mark.parametrize("all_ops", [False, True])
def test_an_image_has_the_same_mixture_in_any_batch_to_the_bit(all_ops: bool) -> None:
    given, defense = batch(), rv.load_defense("augmix", jsd=0, all_ops=all_ops)
    together = defense.batch(given, draws(given)).images
    rows = torch.tensor([4, 1])
    assert torch.equal(defense.batch(given[rows], draws(given)[rows]).images, together[rows])
    assert torch.equal(defense.batch(given, draws(given)).images, together)
    assert not torch.equal(defense.batch(given, Draws.for_step(0, 6, given.ids)).images, together)
    assert (float(together.min()) >= 0, float(together.max()) <= 1) == (True, True)


def test_the_divergence_by_hand() -> None:
    p, q, r = ([0.9, 0.1], [0.5, 0.5], [0.2, 0.8])
    middle = [sum(one) / 3 for one in zip(p, q, r, strict=True)]
    by_hand = sum(a * math.log(a / b) for one in (p, q, r) for a, b in zip(one, middle, strict=True)) / 3
    assert float(jensen_shannon([torch.tensor([one]).log() for one in (p, q, r)])) == pytest.approx(by_hand, rel=1e-5)


def test_the_divergence_is_zero_of_equal_predictions_and_log_3_of_disjoint_ones() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert float(jensen_shannon([logits, logits + 2.0, logits])) == pytest.approx(0.0, abs=1e-6)
    sure = [row.expand(2, 3) for row in 200.0 * torch.eye(3)]
    assert float(jensen_shannon(sure)) == pytest.approx(math.log(3), rel=1e-6)


def test_gradients_of_the_divergence_by_finite_differences() -> None:
    views = [torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *logits: jensen_shannon(logits), views)


def test_the_loss_is_cross_entropy_of_the_image_and_the_divergence_of_three_views() -> None:
    model, given, defense = Recorder(), batch(), rv.load_defense("augmix", jsd=7.0)
    loss = defense(model, given, draws(given))
    alone, views = model.seen
    assert torch.equal(alone, given.images)
    first, second, third = views.chunk(3)
    assert torch.equal(first, given.images)
    assert not torch.equal(second, third)
    assert not torch.equal(first, second)
    p = torch.stack([model.head(one.flatten(1)).softmax(dim=1) for one in (first, second, third)]).double()
    middle = p.mean(dim=0).clamp(1e-7, 1)  # as in the authors' code
    divergence = sum((one * (one / middle).log()).sum(dim=1).mean() for one in p) / 3
    expected = functional.cross_entropy(model.head(given.images.flatten(1)), given.labels) + 7.0 * divergence
    assert torch.allclose(loss.double(), expected, rtol=1e-5)


def test_views_are_mixtures_of_their_own_draws() -> None:
    model, given = Recorder(), batch()
    own = draws(given).at("penalty")
    rv.load_defense("augmix", severity=5).penalty(model, given, own)
    plain = rv.load_defense("augmix", severity=5, jsd=0)
    for view, name in zip(model.seen[0].chunk(3)[1:], ("first", "second"), strict=True):
        assert torch.equal(view, plain.batch(given, own.at(name)).images)


def test_without_the_divergence_it_is_trained_on_a_mixture_alone() -> None:
    model, given, defense = Recorder(), batch(), rv.load_defense("augmix", jsd=0)
    assert [part for part in ("batch", "craft", "loss", "penalty", "step") if defense.sets(part)] == ["batch"]
    changed = defense.batch(given, draws(given))
    defense(model, changed, draws(given))
    assert len(model.seen) == 1
    assert torch.equal(model.seen[0], changed.images)
    assert not rv.load_defense("augmix").sets("batch")


def test_it_goes_with_a_defense_that_sets_the_loss() -> None:
    model, given = Recorder(), batch()
    trades, augmix = rv.load_defense("trades", eps="8/255", steps=2), rv.load_defense("augmix")
    both = compose([augmix, trades])
    crafted = both.craft_for(model, given, draws(given))
    own = draws(given).at("penalty").at("augmix")
    expected = trades.loss(model, crafted, draws(given).at("loss")) + augmix.penalty(model, crafted, own)
    assert torch.allclose(both.objective(model, crafted, draws(given)), expected)


@pytest.mark.parametrize("wrong", [{"severity": 0}, {"severity": 11}, {"alpha": 0}, {"width": 0}, {"depth": -1}, {"jsd": -1}])
def test_what_is_no_augmentation_is_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(BadParameter, match=name):
        rv.load_defense("augmix", **wrong)
