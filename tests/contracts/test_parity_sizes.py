"""The drop-in beside the reference in the same process, at sizes other than 224 px, in colour and grey; see docs/parity.md."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from parity import digest
from PIL import Image

from robustvit.corruptions import corrupt, get_corruption_names, salt_and_pepper
from robustvit.corruptions.blur import _disk

ROOT = Path(__file__).resolve().parents[2]
NAMES = get_corruption_names("all")
SMALL, LARGE, LARGEST = ((32, 32), (64, 48)), ((300, 500), (427, 640)), (1500, 1000)
OF_A_BUILD = {"snow": 1e-4, "defocus_blur": 1e-5, "motion_blur": 1e-5, "frost": 1e-5}  # share of values that may be off by one level
KERNELS = ("37f5ff517a66ec62", "f7fbaa054dfbca95", "3fb167a4ff527772", "554fe4ea1d9c1392", "15617a84aa23bf70")


@pytest.fixture(scope="module")
def reference() -> Iterator[Callable[..., np.ndarray]]:
    """`imagecorruptions.corrupt`; what it needs patched is put back."""
    for package in ("imagecorruptions", "skimage", "cv2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: robustvit[imagecorruptions]")
    import skimage.filters

    plain = skimage.filters.gaussian
    spec = importlib.util.spec_from_file_location("_reference", ROOT / "benchmarks/_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.reference()
    skimage.filters.gaussian = plain


def photograph(height: int, width: int, mode: str) -> np.ndarray:
    """uint8 (H, W, 3), or (H, W) for the mode L."""
    with Image.open(ROOT / "tests/golden/astronaut.png") as image:
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC).convert(mode))


def pair(reference: Callable[..., np.ndarray], name: str, severity: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ours and theirs after the same seed."""
    state, seed = np.random.get_state(), 1000 + severity
    with pytest.MonkeyPatch.context() as patch:
        fresh = np.random.default_rng
        patch.setattr(np.random, "default_rng", lambda *_: fresh(seed))
        np.random.seed(seed)
        theirs = reference(image, severity, name)
    np.random.seed(seed)
    ours = salt_and_pepper(image, severity, np.random.default_rng(seed)) if name == "impulse_noise" else corrupt(image, severity, name)
    np.random.set_state(state)
    return ours, theirs


def check(reference: Callable[..., np.ndarray], name: str, severities: tuple[int, ...], image: np.ndarray) -> None:
    for severity in severities:
        ours, theirs = pair(reference, name, severity, image)
        apart = np.abs(ours.astype(int) - theirs)
        share = OF_A_BUILD.get(name, 0.0)
        allowed = max(1, share * apart.size) if share else 0
        assert apart.max() <= (1 if share else 0), f"{name} {severity}: {apart.max()} levels"
        assert (apart > 0).sum() <= allowed, f"{name} {severity}: {(apart > 0).sum()} values"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", SMALL, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_small_images_are_the_references(reference, name, size, mode) -> None:
    check(reference, name, (1, 2, 3, 4, 5), photograph(*size, mode))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", LARGE, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_large_images_are_the_references(reference, name, size, mode) -> None:
    check(reference, name, (2,) if name == "glass_blur" else (1, 5), photograph(*size, mode))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "glass_blur"])
def test_the_largest_images_are_the_references(reference, name) -> None:
    check(reference, name, (1,) if name == "spatter" else (5,), photograph(*LARGEST, "RGB"))


def test_the_disks_are_those_of_opencv_4() -> None:
    """Digests from OpenCV 4.11; version 5 rounds a few weights of the largest otherwise."""
    assert tuple(digest(_disk(severity)) for severity in (1, 2, 3, 4, 5)) == KERNELS
