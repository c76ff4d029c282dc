"""How images are brought to a model's size, against timm's own evaluation transform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from timm.data import create_transform

from robustvit.errors import BadParameter, DataUnreadable
from robustvit.spec.view import INTERPOLATIONS, View

SIZES = [(300, 300), (301, 457), (480, 333), (97, 60), (33, 500), (224, 224), (256, 255)]


def random_image(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def timms(image: Image.Image, config: dict) -> np.ndarray:
    transform = create_transform(**{**config, "mean": (0.5,) * 3, "std": (0.5,) * 3}, is_training=False, normalize=False)
    return transform(image.convert("RGB")).permute(1, 2, 0).numpy()


def config(side: int = 224, crop_pct: float = 0.875, crop_mode: str = "center", interpolation: str = "bicubic") -> dict:
    return {"input_size": (3, side, side), "crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.965, 1.0, 1.15])
def test_pixels_equal_timms_for_images_of_any_shape(size, crop_mode, crop_pct):
    wanted = config(crop_pct=crop_pct, crop_mode=crop_mode)
    assert np.array_equal(np.asarray(View.of_timm(wanted).apply(random_image(*size))), timms(random_image(*size), wanted))


@pytest.mark.parametrize("interpolation", sorted(INTERPOLATIONS))
@pytest.mark.parametrize("side", [32, 192, 240])
def test_pixels_equal_timms_for_every_filter_and_size(interpolation, side):
    wanted = config(side, 0.9, interpolation=interpolation)
    assert np.array_equal(np.asarray(View.of_timm(wanted).apply(random_image(301, 200))), timms(random_image(301, 200), wanted))


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "RGBA", "P", "LA", "YCbCr"])
def test_pixels_equal_timms_for_images_of_any_mode(mode):
    image = random_image(301, 200, mode)
    assert np.array_equal(np.asarray(View.of_timm(config()).apply(image)), timms(image, config()))


@pytest.mark.parametrize(
    "name", ["vit_base_patch16_224", "dm_nfnet_f0", "vit_base_patch16_clip_384.openai_ft_in12k_in1k", "swinv2_tiny_window8_256"]
)
def test_pixels_equal_timms_under_a_models_own_configuration(name):
    own = timm.get_pretrained_cfg(name)
    wanted = config(own.input_size[1], own.crop_pct, own.crop_mode, own.interpolation)
    assert np.array_equal(np.asarray(View.of_timm(wanted).apply(random_image(500, 375))), timms(random_image(500, 375), wanted))


def test_every_classifier_of_timm_has_a_view():
    for name in timm.list_pretrained():
        own = timm.get_pretrained_cfg(name)
        if own.num_classes:
            view = View.of_timm(config(own.input_size[1], own.crop_pct, own.crop_mode, own.interpolation))
            assert view.size == (own.input_size[1], own.input_size[1])


@pytest.mark.parametrize("share", [0.875, 0.887, 0.9, 0.95, 0.965])
@pytest.mark.parametrize("side", [160, 224, 384, 512])
def test_another_size_keeps_the_share_as_timm_computes_it(share, side):
    assert View.of_timm(config(224, share)).with_overrides(img_size=side) == View.of_timm(config(side, share))


@pytest.mark.parametrize("resize", [45, 53, 60, 102])
def test_overriding_with_the_own_size_changes_nothing(resize):
    view = View((40, 40), resize)
    assert view.with_overrides(img_size=40) == view == view.with_overrides()


def test_overrides_replace_share_and_filter():
    assert View((224, 224), 256).with_overrides(crop_pct=0.9, interpolation="bilinear") == View((224, 224), 248, "center", "bilinear")


def test_what_the_share_was_computed_from_is_no_part_of_the_identity():
    assert View((224, 224), 248, share=0.9) == View((224, 224), 248)
    assert View((224, 224), 248, share=0.9).as_dict() == View((224, 224), 248).as_dict()


def test_a_view_that_cuts_nothing_takes_the_image_as_it_is():
    image = random_image(224, 224)
    assert np.array_equal(np.asarray(View((224, 224), None, "none").apply(image)), np.asarray(image))


def test_a_view_that_cuts_nothing_refuses_another_size():
    with pytest.raises(BadParameter, match="an image of 200x301 pixels; the model takes 224x224"):
        View((224, 224), None, "none").apply(random_image(301, 200))


@pytest.mark.parametrize("wrong", [{"interpolation": "bicubik"}, {"size": (0, 224)}, {"resize": 0}])
def test_an_impossible_view_is_refused(wrong):
    with pytest.raises(BadParameter):
        View(**wrong)


@pytest.mark.parametrize("wrong", [{"crop_pct": 0.0}, {"crop_pct": 1.5}, {"img_size": 0}, {"interpolation": "cubic"}])
def test_an_impossible_override_is_refused(wrong):
    with pytest.raises(BadParameter):
        View().with_overrides(**wrong)


def test_padded_borders_are_refused():
    with pytest.raises(BadParameter, match="border"):
        View.of_timm(config(crop_mode="border"))


def test_images_that_are_cropped_already_are_neither_resized_nor_cropped_for_their_size() -> None:
    view = View((224, 224), 248, "center", "bicubic").for_precropped(224)
    assert (view.resize, view.crop) == (None, "center")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8))
    assert np.array_equal(view.apply(image), image)


def test_a_model_of_another_size_gets_them_resized() -> None:
    view = View((384, 384), 384).for_precropped(224)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8))
    assert np.array_equal(view.apply(image), image.resize((384, 384), Image.Resampling.BICUBIC))


def test_a_scenario_acts_at_224_for_larger_models_alone() -> None:
    large, usual = View((384, 384), 438, share=0.875), View((224, 224), 256)
    acted = large.with_scenario_size(224)
    assert (acted.size, acted.resize, acted.shown) == ((224, 224), 256, (384, 384))
    assert usual.with_scenario_size(224) == usual
    assert "shown" not in usual.as_dict()
    assert str(acted) == "224x224, resize 256, center, bicubic, shown at 384x384"


class Untouchable:
    """An image of some size that fails where anything is done with it."""

    def __init__(self, width: int, height: int) -> None:
        self.size, self.mode = (width, height), "RGB"

    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"the image is touched: {name}")


LONG = [
    (View(), (2, 3_000_000), "384000000x256"),
    (View(), (3_000_000, 2), "256x384000000"),
    (View((224, 224), None, "squash"), (2, 3_000_000), "3000000x224"),
    (View((224, 224), None, "center"), (2, 3_000_000), "3000000x224"),
    (View((224, 224), 256, "none"), (2, 3_000_000), "384000000x256"),
]


@pytest.mark.parametrize(("view", "size", "grown"), LONG)
def test_an_image_that_would_grow_without_bounds_is_refused_by_name_and_untouched(view: View, size: tuple[int, int], grown: str) -> None:
    with pytest.raises(DataUnreadable, match=rf"^birds/7: {size[1]}x{size[0]} pixels are so long and narrow .* makes {grown} of them"):
        view.apply(Untouchable(*size), "birds/7")


@pytest.mark.parametrize(
    ("view", "size"),
    [(View(), (300, 90_000)), (View((224, 224), None, "squash"), (3_000_000, 2)), (View((40_000, 2), None, "none"), (2, 40_000)),
     (View((224, 224), None), (9_460, 9_460)), (View((518, 518), 518), (8_000, 10_000))],
)  # fmt: skip
def test_long_and_large_images_that_fit_are_not_refused(view: View, size: tuple[int, int]) -> None:
    view.refuse_long(size, "birds/7")


def test_a_long_image_is_refused_under_a_memory_limit_by_its_id(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (2, 3_000_000)).save(tmp_path / "cat" / "long.png")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    code = f"""
import resource
from robustvit.data.folder import folder
from robustvit.evaluation.images.image_cache import ImageCache
from robustvit.spec.view import View
from pathlib import Path
data = folder(Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, {hard}))
ImageCache(data, View(), folder=Path({str(tmp_path / "cache")!r})).ensure(1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "DataUnreadable: data 'folder': 1 of 1 images cannot be read: folder/cat/long.png: 3000000x2 pixels" in done.stderr
