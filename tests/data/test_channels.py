"""Data of other channels than RGB: arrays and folders of TIFF, through view, cache, model and analyses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import robustvit as rv
from robustvit.data.formats.decode import decode_pages
from robustvit.errors import DataUnreadable, HostRefused, ModelError, RobustvitError
from robustvit.evaluation.images.image_cache import ImageCache
from robustvit.primitives.batch import traits
from robustvit.primitives.pixels import through_view
from robustvit.spec.registry import entries
from robustvit.spec.view import View
from robustvit.training.recipe import Recipe

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 20, 5), dtype=np.uint8)
LABELS = np.arange(12) % 3
MODEL = "arch/channel_vit?channels=5&img_size=16&patch_size=8&dim=24&heads=2&depth=2&num_classes=3"
TIMM = "vit_tiny_patch16_224?weights=random&num_classes=3&kwargs=img_size=16,patch_size=8,embed_dim=24,num_heads=2,depth=2,in_chans=5"


@pytest.fixture
def arrays(tmp_path: Path) -> str:
    np.savez(tmp_path / "five.npz", images=IMAGES, labels=LABELS)
    return f"npz:{tmp_path / 'five.npz'}?channels=5"


@pytest.fixture
def tiffs(tmp_path: Path) -> Path:
    """The same images, a page for each channel, in a folder for each class."""
    for index, image in enumerate(IMAGES):
        place = tmp_path / "tiffs" / f"class{LABELS[index]}"
        place.mkdir(parents=True, exist_ok=True)
        first, *others = [Image.fromarray(image[:, :, channel]) for channel in range(5)]
        first.save(place / f"{index:02d}.tif", save_all=True, append_images=others)
    return tmp_path / "tiffs"


def test_arrays_and_pages_are_the_same_images(arrays: str, tiffs: Path) -> None:
    data, folder = rv.load_data(arrays), rv.load_data(f"folder:{tiffs}?channels=5")
    assert traits(data).channels == traits(folder).channels == 5
    assert all(np.array_equal(data[index].image, IMAGES[index]) for index in range(12))
    by_name = {name.rsplit("/", 1)[1]: index for index, name in enumerate(folder.ids)}
    assert all(np.array_equal(folder[by_name[f"{index:02d}.tif"]].image, IMAGES[index]) for index in range(12))


def test_each_channel_is_resized_as_a_grey_image(tmp_path: Path, arrays: str) -> None:
    view = View((12, 12), 14, "center")
    made = through_view(view, IMAGES[0], "x")
    for channel in range(5):
        grey = Image.fromarray(IMAGES[0, :, :, channel])
        expected = np.asarray(grey.resize((17, 14), Image.Resampling.BICUBIC).crop((2, 1, 14, 13)))
        assert np.array_equal(made[:, :, channel], expected)
    cache = ImageCache(rv.load_data(arrays), view, folder=tmp_path / "cache")
    rows = cache.rows(np.arange(12))
    assert rows.shape == (12, 12, 12, 5)
    assert np.array_equal(rows[cache.order.tolist().index(0)], made)
    assert np.array_equal(ImageCache(rv.load_data(arrays), view, folder=tmp_path / "cache").rows(np.arange(12)), rows)


@pytest.mark.parametrize("model", [MODEL, TIMM])
def test_a_model_of_as_many_channels_is_evaluated(model: str, arrays: str, tmp_path: Path) -> None:
    summary = rv.run("channel-drop", models=[model], data=arrays, store=tmp_path / "store")
    assert not summary.failed
    rows = rv.load_records(tmp_path / "store").to_pandas()
    sizes = np.stack(rows["value_subset_size"].dropna().tolist())
    assert sizes.shape[1] == 31
    board = rv.leaderboard(tmp_path / "store").set_index(["metric", "params"])["status"].to_dict()
    assert {status for (metric, _), status in board.items() if metric.startswith("subset")} == {"complete"}


@pytest.mark.parametrize(("model", "data", "message"), [
    ("demo", "{arrays}", "model 'demo' takes images of 3 channels, and data 'npz' has images of 5: build it for them"),
    (MODEL, "digits", "takes images of 5 channels, and data 'digits' has RGB images"),
])  # fmt: skip
def test_models_of_other_channels_are_refused(model: str, data: str, message: str, arrays: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        rv.run("channel-drop", models=[model], data=data.format(arrays=arrays), store=tmp_path / "store")


def test_corruptions_of_rgb_are_refused_by_name(tmp_path: Path) -> None:
    pixels = rv.pixels(IMAGES[:, :16, :16])
    model = rv.load_model(MODEL)
    with pytest.raises(HostRefused, match="corruption 'fog' is written for RGB images, and these have 5 channels"):
        rv.perturb(model, pixels, None, "fog", severity=3)
    assert rv.perturb(model, pixels, None, "drop_channels").shape == pixels.shape
    assert rv.perturb(model, pixels, None, "patch_drop", fraction=0.5, patch=8).shape == pixels.shape


@pytest.mark.parametrize("name", [name for name, entry in entries("corruption").items() if entry.family == "geometry"])
def test_geometry_takes_any_channels_and_gives_each_what_rgb_would_get(name: str) -> None:
    model, rgb = rv.load_model(MODEL), rv.load_model("arch/channel_vit?img_size=16&patch_size=4&dim=12&heads=2&depth=1&num_classes=3")
    pixels = rv.pixels(IMAGES[:, :16, :16])
    given = {"crop": {"padding": 3}, "shift": {"pixels": 3}}.get(name, {})
    made = rv.perturb(model, pixels, None, name, **given)
    assert not torch.equal(made, pixels)
    assert torch.equal(made[:, :3], rv.perturb(rgb, pixels[:, :3], None, name, **given))


def test_a_run_of_what_is_written_for_rgb_is_undefined_and_not_failed(arrays: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "name: s\ntitle: S\nversion: 1\nrules: none\nlicence: none\ndata: digits\n"
        "scenarios: [clean, {fog: {severity: 3}}, {flip: {}}]\nmetrics: [top1]\n"
    )
    summary = rv.run(str(tmp_path / "s.yaml"), models=[MODEL], data=arrays, store=tmp_path / "store")
    assert not summary.failed
    assert [reason for name, reason in summary.undefined.items() if "fog" in name] == [
        "corruption 'fog' is written for RGB images, and these have 5 channels."
    ]
    assert not [name for name in summary.undefined if "flip" in name]


@pytest.mark.parametrize(("pages", "channels", "message"), [
    ([np.zeros((4, 4), np.uint8)] * 3, 5, "x: 3 pages, and 5 channels are read from a page each"),
    ([np.zeros((4, 4), np.uint8), np.zeros((4, 6), np.uint8)], 2, "x: its pages have different sizes"),
    ([np.zeros((4, 4, 3), np.uint8)] * 2, 2, r"page 0 is of mode RGB, and a channel is a grey page of 8 bits \(L\)"),
    ([np.zeros((4, 4), np.uint16)] * 2, 2, "mode I;16 has more than 8 bits a channel"),
])  # fmt: skip
def test_files_that_hold_no_such_channels_are_refused(pages: list[np.ndarray], channels: int, message: str, tmp_path: Path) -> None:
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(tmp_path / "x.tif", save_all=True, append_images=others)
    with pytest.raises(DataUnreadable, match=message):
        decode_pages((tmp_path / "x.tif").read_bytes(), "x", channels)


def test_other_formats_and_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(IMAGES[0, :, :, 0]).save(tmp_path / "x.png")
    with pytest.raises(DataUnreadable, match="x: not an image that Pillow can read"):
        decode_pages((tmp_path / "x.png").read_bytes(), "x", 1)
    np.savez(tmp_path / "x.npz", images=IMAGES.astype(np.uint16), labels=LABELS)
    with pytest.raises(RobustvitError, match=r"they must be \(N, H, W, 5\) uint8. Say of other channels how many .* bring 16 bits to 8"):
        rv.load_data(f"npz:{tmp_path / 'x.npz'}?channels=5")
    np.savez(tmp_path / "y.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(RobustvitError, match=r"images are \(12, 16, 20, 5\) uint8; they must be \(N, H, W, 3\)"):
        rv.load_data(f"npz:{tmp_path / 'y.npz'}")


def test_a_small_model_of_five_channels_is_trained_and_attacked(arrays: str) -> None:
    host, data = rv.load_model(MODEL), rv.load_data(arrays)
    recipe = Recipe(epochs=1, batch_size=6)
    trained = rv.train(host.model, data, view=host.view, mean=(0.5,) * 5, std=(0.5,) * 5, recipe=recipe)
    assert np.isfinite(trained.losses).all()
    pixels, labels = rv.pixels(IMAGES[:, :16, :16]), torch.from_numpy(LABELS)
    found = rv.perturb(host, pixels, labels, "pgd", eps=8 / 255, steps=3)
    assert 0 < float((found - pixels).abs().max()) <= 8 / 255 + 1e-6
