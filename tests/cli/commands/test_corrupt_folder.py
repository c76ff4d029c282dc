"""Corrupted copies of image files: what is written, where, once, and whole."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustvit.cli.commands.corrupt_folder import IMAGENET, generate
from robustvit.corruptions import noise
from robustvit.errors import BadParameter, DataMissing, RobustvitError, UnknownName
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels, to_uint8


def photo(seed: int, height: int = 40, width: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes with three images."""
    root = tmp_path / "in"
    for seed, name in enumerate(("cat/a.png", "cat/b.png", "dog/a.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(seed)).save(root / name)
    return root


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "generated.json")


def test_a_tree_is_written_like_imagenet_c(tree, tmp_path) -> None:
    made = generate(tree, tmp_path / "out", ["contrast", "brightness"], [1, 4])
    assert made == (12, 0, [])
    folders = ("brightness/1", "brightness/4", "contrast/1", "contrast/4")
    assert files(tmp_path / "out") == [f"{folder}/{name}" for folder in folders for name in ("cat/a.png", "cat/b.png", "dog/a.png")]


def test_the_default_is_the_fifteen_at_five_severities(tmp_path) -> None:
    Image.fromarray(photo(0)).save(tmp_path / "one.png")
    assert generate(tmp_path / "one.png", tmp_path / "out").written == 75


def test_pixels_are_the_corruptions_with_draws_of_the_path(tree, tmp_path) -> None:
    generate(tree, tmp_path / "out", ["gaussian_noise"], [3], seed=5)
    draws = Draws(5, "corruption/gaussian_noise", ["dog/a.png"])
    expected = to_uint8(noise.gaussian_noise(pixels(photo(2)[None]), draws, severity=3))[0]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/gaussian_noise/3/dog/a.png")), expected)


def test_workers_and_neighbours_change_no_byte(tree, tmp_path) -> None:
    generate(tree, tmp_path / "one", ["shot_noise"], [2])
    generate(tree, tmp_path / "two", ["shot_noise"], [2], workers=2)
    for name in files(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_existing_files_are_kept_and_missing_ones_written(tree, tmp_path) -> None:
    generate(tree, tmp_path / "out", ["fog"], [1])
    kept, lost = tmp_path / "out/fog/1/cat/a.png", tmp_path / "out/fog/1/dog/a.png"
    before, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    assert generate(tree, tmp_path / "out", ["fog"], [1]) == (1, 2, [])
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp


def test_a_run_that_dies_leaves_no_part_of_a_file(tree, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("os.replace", lambda draft, target: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RobustvitError, match="No space left"):
        generate(tree, tmp_path / "out", ["fog"], [1])
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize("changed", [{"seed": 1}, {"form": "jpeg"}, {"view": IMAGENET}], ids=str)
def test_a_target_is_never_mixed(tree, tmp_path, changed) -> None:
    generate(tree, tmp_path / "out", ["contrast"], [1])
    with pytest.raises(BadParameter, match=r"another (seed|format|view)"):
        generate(tree, tmp_path / "out", ["contrast"], [2], **changed)


def test_unreadable_images_are_named_and_the_others_written(tree, tmp_path) -> None:
    (tree / "cat/broken.jpg").write_bytes(b"no image")
    made = generate(tree, tmp_path / "out", ["contrast"], [1])
    assert made.written == 3
    assert len(made.unreadable) == 1
    assert made.unreadable[0].startswith("cat/broken.jpg: ")


def test_the_released_files_recipe_resizes_crops_and_stores_as_jpeg_85(tmp_path) -> None:
    Image.fromarray(photo(0, 100, 150)).save(tmp_path / "one.png")
    generate(tmp_path / "one.png", tmp_path / "out", ["contrast"], [1], view=IMAGENET, form="jpeg85")
    with Image.open(tmp_path / "out/contrast/1/one.JPEG") as stored:
        assert stored.size == (224, 224)
        assert stored.quantization[0][0] == 5  # 16 at quality 50, times 0.3


@pytest.mark.parametrize("target", ["in/out", "in"])
def test_the_source_is_never_written_into(tree, tmp_path, target) -> None:
    with pytest.raises(BadParameter, match="overlap"):
        generate(tree, tmp_path / target, ["contrast"], [1])


def test_a_source_inside_the_target_is_refused_only_where_it_would_be_hit(tree, tmp_path) -> None:
    assert generate(tree, tmp_path, ["contrast"], [1]).written == 3
    with pytest.raises(BadParameter, match="overlap"):
        generate(tmp_path / "contrast/1", tmp_path, ["contrast"], [1])


def test_images_that_differ_in_their_ending_only_are_refused(tree, tmp_path) -> None:
    Image.fromarray(photo(9)).save(tree / "cat/a.bmp")
    with pytest.raises(BadParameter, match=r"cat/a.bmp and cat/a.png"):
        generate(tree, tmp_path / "out", ["contrast"], [1])


def test_wrong_requests_are_refused_before_anything_is_written(tree, tmp_path) -> None:
    with pytest.raises(UnknownName, match="contrast"):
        generate(tree, tmp_path / "out", ["contrats"])
    with pytest.raises(BadParameter, match="severity"):
        generate(tree, tmp_path / "out", ["contrast"], [6])
    with pytest.raises(BadParameter, match="jpeg85"):
        generate(tree, tmp_path / "out", ["contrast"], form="jpg85")
    with pytest.raises(DataMissing, match="nowhere"):
        generate(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_corruption_without_severities_gets_no_folder_for_them(tree, tmp_path) -> None:
    generate(tree, tmp_path / "out", ["clean"])
    copied = np.asarray(Image.open(tmp_path / "out/clean/cat/b.png"))
    assert np.array_equal(copied, photo(1))


def test_a_scale_without_severities_is_given_by_name(tree, tmp_path) -> None:
    with pytest.raises(BadParameter, match=r"'haze' has no severities 1 to 5; its scale is 'beta'. Write haze\?beta=VALUE"):
        generate(tree, tmp_path / "out", ["haze"], [3])
    generate(tree, tmp_path / "out", ["haze?beta=0.8"])
    assert files(tmp_path / "out") == [f"haze/beta=0.8/{name}" for name in ("cat/a.png", "cat/b.png", "dog/a.png")]


def test_parameters_that_are_no_pairs_are_refused(tree, tmp_path) -> None:
    with pytest.raises(BadParameter, match=r"corruption 'haze\?beta': .*write NAME\(key=value"):
        generate(tree, tmp_path / "out", ["haze?beta"])


def test_a_severity_is_given_once_and_to_what_has_one(tree, tmp_path) -> None:
    with pytest.raises(BadParameter, match="give its severity with --severity"):
        generate(tree, tmp_path / "out", ["fog?severity=2"])
    with pytest.raises(BadParameter, match="has no severities 1 to 5, but --severity is given"):
        generate(tree, tmp_path / "out", ["haze?beta=0.8"], [2])


def test_an_image_that_a_corruption_cannot_process_is_named_and_the_others_are_written(tmp_path) -> None:
    for name, size in (("a", (40, 48)), ("b", (1, 1))):
        Image.fromarray(photo(0, *size)).save(tmp_path / f"{name}.png")
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / f"{name}.png").rename(tmp_path / "in" / f"{name}.png")
    made = generate(tmp_path / "in", tmp_path / "out", ["fog"], [3])
    assert (made.written, len(made.unreadable)) == (1, 1)
    assert made.unreadable[0].startswith("b.png: fog/3: ")
