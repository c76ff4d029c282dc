"""Random resized crops against torchvision's operations, and RandAugment against timm's."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import rand_augment_transform
from torchvision.transforms.v2 import functional

import robustvit as rv
from robustvit.defenses.augmentation.rand_augment import _posterized
from robustvit.defenses.augmentation.random_resized_crop import box_of, jittered
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import to_uint8

SIDE = 24


def batch(count: int = 300) -> Batch:
    images = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.zeros(count, dtype=torch.int64), tuple(map(str, range(count))))


def draws(given: Batch) -> Draws:
    return Draws.for_step(0, 3, given.ids)


def test_boxes_have_the_areas_and_aspects_that_were_asked_for() -> None:
    own = draws(batch(4000))
    tries, corners = own.at("box").uniform(10, 2).tolist(), own.at("corner").uniform(2).tolist()
    boxes = torch.tensor([box_of(tries[row], corners[row], 400, 300, 0.25) for row in range(4000)]).double()
    top, left, high, wide = boxes.T
    assert (top.min(), left.min()) == (0, 0)
    assert float((top + high).max()) == 400
    assert float((left + wide).max()) == 300
    area, aspect = high * wide / 120_000, (wide / high).log()
    assert 0.24 < float(area.min()) < 0.26
    assert abs(float(aspect.min()) + float(torch.tensor(4 / 3).log())) < 0.02
    assert abs(float(aspect.max()) - float(torch.tensor(4 / 3).log())) < 0.02
    assert float((top / (400 - high).clamp_min(1)).mean()) == pytest.approx(0.5, abs=0.02)
    assert box_of([[1.0, 1.0]], [0.5, 0.5], 400, 300, 0.25) == (0, 0, 400, 300), "no box fits"


def test_a_crop_is_torchvisions_of_the_same_box() -> None:
    given = batch(20)
    found = rv.load_defense("random_resized_crop", scale=0.2, flip=0).batch(given, draws(given)).images
    own = draws(given)
    tries, corners = own.at("box").uniform(10, 2).tolist(), own.at("corner").uniform(2).tolist()
    for row in range(20):
        box = box_of(tries[row], corners[row], SIDE, SIDE, 0.2)
        wanted = functional.resized_crop(
            given.images[row], *box, size=[SIDE, SIDE], interpolation=functional.InterpolationMode.BICUBIC, antialias=True
        ).clamp(0, 1)
        assert torch.allclose(found[row], wanted, atol=1e-5)


def test_half_of_the_images_are_mirrored() -> None:
    given = batch()
    plain, flipped = (rv.load_defense("random_resized_crop", flip=share).batch(given, draws(given)).images for share in (0, 0.5))
    same = [torch.equal(one, other) for one, other in zip(plain, flipped, strict=True)]
    assert all(torch.equal(one.flip(2), other) for one, other, kept in zip(plain, flipped, same, strict=True) if not kept)
    assert 110 < sum(same) < 190


def test_colours_change_as_torchvision_changes_them() -> None:
    image = batch(1).images[0]
    wanted = functional.adjust_saturation(functional.adjust_contrast(functional.adjust_brightness(image, 1.3), 0.7), 1.2)
    assert torch.allclose(jittered(image, 1.3, 0.7, 1.2), wanted, atol=1e-5)
    given = batch()
    plain, changed = (rv.load_defense("random_resized_crop", jitter=jitter).batch(given, draws(given)).images for jitter in (0, 0.4))
    assert not any(torch.equal(one, other) for one, other in zip(plain, changed, strict=True))


def test_randaugment_is_timms_and_leaves_all_generators_alone() -> None:
    given, config = batch(8), "rand-m9-mstd0.5-inc1"
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state())
    found = rv.load_defense("rand_augment", config=config).batch(given, draws(given)).images
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.random.get_rng_state(), states[2])
    for row, seed in enumerate(draws(given).at("seed").integers(low=0, high=2**32).tolist()):
        random.seed(seed)
        np.random.seed(seed)
        augment = rand_augment_transform(config, {"translate_const": int(0.45 * SIDE), "img_mean": (128, 128, 128)})
        wanted = np.asarray(augment(Image.fromarray(to_uint8(given.images)[row])))
        assert np.array_equal(to_uint8(found)[row], wanted)


@pytest.mark.parametrize("name", ["random_resized_crop", "rand_augment"])
def test_an_image_becomes_the_same_in_any_batch(name: str) -> None:
    given, defense = batch(6), rv.load_defense(name)
    whole = defense.batch(given, draws(given)).images
    part = given[torch.tensor([4, 2])]
    assert torch.equal(defense.batch(part, draws(part)).images, whole[[4, 2]])


def test_what_timm_cannot_read_is_refused() -> None:
    for config in ("augmix-m3", "rand-x", "rand-m", "rand-9m"):
        with pytest.raises(BadParameter, match=f"config is '{config}'; write rand and, each after a hyphen"):
            rv.load_defense("rand_augment", config=config)


def test_posterisation_is_pillows_and_to_no_bits_black() -> None:
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    for bits in range(1, 9):
        assert np.array_equal(np.asarray(_posterized(image, bits)), np.asarray(ImageOps.posterize(image, bits)))
    assert not np.asarray(_posterized(image, 0)).any()
