"""Patches of corrupted images in clean ones."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import robustvit as rv
from robustvit.errors import BadParameter

NOISE = {"gaussian_noise": {"severity": 5}}
IDS = tuple(f"p{i}" for i in range(5))


def random_images(side: int = 32) -> Tensor:
    return rv.Draws(0, "images", IDS).uniform(3, side, side)


def patched(images: Tensor, **params: object) -> Tensor:
    return rv.perturb(None, images, None, "patch_corruption", ids=IDS[: len(images)], **{"corruption": NOISE, "size": 8, **params})


def alone(images: Tensor) -> Tensor:
    return rv.perturb(None, images, None, "gaussian_noise", severity=5, ids=IDS[: len(images)])


@pytest.mark.parametrize("count", [None, 16])
def test_all_cells_of_a_grid_that_tiles_the_image_are_the_corruption_itself(count: int | None) -> None:
    assert torch.equal(patched(random_images(), count=count), alone(random_images()))


def test_no_patch_is_the_identity() -> None:
    assert torch.equal(patched(random_images(), count=0), random_images())


@pytest.mark.parametrize(("count", "offset"), [(3, 0), (5, 4), (2, None)])
def test_a_pixel_is_clean_or_that_of_the_corrupted_image(count: int, offset: int | None) -> None:
    images, all_of_it = random_images(), alone(random_images())
    found = patched(images, count=count, offset=offset)
    changed = (found != images).any(dim=1, keepdim=True).expand_as(images)
    assert torch.equal(found[changed], all_of_it[changed])
    area = changed[:, 0].flatten(1).sum(dim=1)
    assert bool((area <= count * 64).all())
    assert bool((area > count * 60).all())


def test_more_patches_contain_fewer_ones_and_all_corruptions_share_them() -> None:
    images = random_images()
    few, more = ((patched(images, count=count) != images).any(dim=1) for count in (2, 6))
    assert bool((more | ~few).all())
    other = (patched(images, count=2, corruption={"contrast": {"severity": 5}}) != images).any(dim=1)
    assert int((other & ~more).sum()) == 0


def test_the_patches_of_an_image_do_not_depend_on_the_batch() -> None:
    assert torch.equal(patched(random_images(), count=3)[:2], patched(random_images()[:2], count=3))


def test_more_patches_than_there_are_cells_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"corruption 'patch_corruption': 17 patches of 8x8 pixels.*room for 16"):
        patched(random_images(), count=17)
    with pytest.raises(BadParameter, match="count null means all cells of a grid"):
        patched(random_images(), count=None, offset=None)


def test_a_suite_runs_it_and_the_cell_of_all_patches_equals_that_of_the_corruption(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\ndata: digits\nmetrics: [top1]\nstorage: jpeg85\nscenarios:\n  - fog: {severity: 3}\n"
        "  - patch_corruption: {corruption: {fog: {severity: 3}}, count: [4, null], size: 8}\n"
    )
    rv.run(tmp_path / "mine.yaml", ["demo"], store=tmp_path / "s", limit=20)
    rows = rv.load_records(tmp_path / "s").to_pandas(["sample", "nll"])
    plain, whole = (rows[rows.scenario == "fog"], rows[(rows.scenario == "patch_corruption") & (rows.severity == "")])
    assert plain["nll"].tolist() == whole["nll"].tolist()
    assert set(rows.severity) == {"3", "4", ""}
