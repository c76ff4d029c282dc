"""ImageNet-Patch: what is read of its pickle, and what is refused."""

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from patch_files import SIDE, facts, patch_tensor, write_patches

from robustvit.data.patches import imagenet_patch as module
from robustvit.data.patches.imagenet_patch import imagenet_patch
from robustvit.errors import DataMissing, DataUnreadable

TARGETS = torch.tensor([804, 513, 9])


@pytest.mark.parametrize("place", ["imagenet_patch.gz", "assets/imagenet_patch.gz"])
def test_patches_targets_and_size_are_read(tmp_path: Path, place: str) -> None:
    write_patches(tmp_path / place)
    data = imagenet_patch(tmp_path)
    assert torch.equal(data.read.pixels, patch_tensor())
    assert (data.labels.tolist(), data.read.side, data.ids) == ([804, 513, 9], SIDE, tuple(f"imagenet-patch/{i}" for i in range(3)))
    assert np.array_equal(data[1].image, (255 * patch_tensor()[1]).round().byte().permute(1, 2, 0).numpy())
    assert imagenet_patch(tmp_path / place).fingerprint == data.fingerprint


def test_arrays_of_numpy_are_read_too(tmp_path: Path) -> None:
    path = write_patches(tmp_path / "imagenet_patch.gz", (patch_tensor().numpy(), TARGETS.numpy(), facts()))
    assert imagenet_patch(path).fingerprint == imagenet_patch(write_patches(tmp_path / "other.gz")).fingerprint


@pytest.mark.parametrize("changed", ["pixel", "target", "size"])
def test_the_fingerprint_covers_every_pixel_target_and_the_size(tmp_path: Path, changed: str) -> None:
    pixels, targets, about = patch_tensor(), TARGETS.clone(), facts()
    if changed == "pixel":
        pixels[2, 1, 20, 20] -= 1e-3  # less than a level of 8 bits
    elif changed == "target":
        targets[2] = 10
    else:
        about["patch_size"] = SIDE - 2
    changed_file = write_patches(tmp_path / "b.gz", (pixels, targets, about))
    assert imagenet_patch(changed_file).fingerprint != imagenet_patch(write_patches(tmp_path / "a.gz")).fingerprint


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "name"), [(os.mkdir, "posix.mkdir|nt.mkdir"), (torch.load, "torch.serialization.load"), (eval, "builtins.eval")]
)
def test_a_name_that_patches_do_not_need_is_refused_before_it_runs(tmp_path: Path, function: Any, name: str) -> None:
    ran = str(tmp_path / "ran")
    path = write_patches(tmp_path / "imagenet_patch.gz", (patch_tensor(), Calls(function, ran), facts()))
    with pytest.raises(DataUnreadable, match=rf"asks for ({name}), which a file of patches does not need"):
        imagenet_patch(path)
    assert not Path(ran).exists()


def test_a_pickle_inside_the_bytes_of_a_tensor_is_refused_too(tmp_path: Path) -> None:
    inner = pickle.dumps(Calls(os.mkdir, str(tmp_path / "ran")), protocol=2)
    path = write_patches(tmp_path / "imagenet_patch.gz", (Calls(torch.storage._load_from_bytes, inner), TARGETS, facts()))
    with pytest.raises(DataUnreadable, match="no file of patches, targets and facts"):
        imagenet_patch(path)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_changes_no_function_that_another_reads_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuild = torch._utils._rebuild_tensor_v2
    monkeypatch.setattr(rebuild, "__defaults__", rebuild.__defaults__)  # put back, should it be changed
    set_defaults = b"ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__X\x07\x00\x00\x00hostile\x85s\x86b."
    path = tmp_path / "hostile.gz"
    path.write_bytes(gzip.compress(set_defaults))
    with pytest.raises(DataUnreadable, match="no file of patches"):
        imagenet_patch(path)
    assert rebuild.__defaults__ != ("hostile",)
    assert torch.equal(imagenet_patch(write_patches(tmp_path / "good.gz")).read.pixels, patch_tensor())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ((patch_tensor().double(), TARGETS, facts()), r"float64; they must be \(P, 3, H, W\) float32"),
        ((patch_tensor()[:, :1], TARGETS, facts()), r"must be \(P, 3, H, W\)"),
        ((patch_tensor()[:1, :, :1, :1].expand(1 << 20, 3, 40, 44), TARGETS, facts()), r"must be \(P, 3, H, W\)"),
        ((2 * patch_tensor(), TARGETS, facts()), r"not in \[0, 1\]"),
        ((patch_tensor() * torch.nan, TARGETS, facts()), r"not in \[0, 1\]"),
        ((patch_tensor(), TARGETS[:2], facts()), "3 whole numbers from 0 to 999"),
        ((patch_tensor(), TARGETS + 990, facts()), "3 whole numbers from 0 to 999"),
        ((patch_tensor(), TARGETS + 0.5, facts()), "3 whole numbers from 0 to 999"),
        ((patch_tensor(), TARGETS, facts(patch_type="circle")), "they must be square"),
        ((patch_tensor(), TARGETS, facts(input_shape=(3, 224, 224))), "they must be square"),
        ((patch_tensor(), TARGETS, facts(patch_size=42)), "even number of pixels up to 40"),
        ((patch_tensor(), TARGETS, facts(patch_size=11)), "even number of pixels up to 40"),
        ((patch_tensor(), TARGETS), "no file of patches, targets and facts"),
        ((patch_tensor(), TARGETS, {}), "no file of patches, targets and facts"),
        ("text", "no file of patches, targets and facts"),
    ],
)
def test_another_content_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(DataUnreadable, match=reason):
        imagenet_patch(write_patches(tmp_path / "imagenet_patch.gz", content))


def test_a_file_that_unpacks_to_more_than_the_limit_is_not_unpacked_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 1 << 20)
    path = tmp_path / "imagenet_patch.gz"
    path.write_bytes(gzip.compress(bytes(2 << 20)))
    with pytest.raises(DataUnreadable, match="unpacks to more than 1 MiB"):
        imagenet_patch(path)


def test_a_cut_or_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"neither imagenet_patch\.gz nor assets/imagenet_patch\.gz"):
        imagenet_patch(tmp_path)
    path = write_patches(tmp_path / "imagenet_patch.gz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataUnreadable, match="packed by gzip"):
        imagenet_patch(path)
