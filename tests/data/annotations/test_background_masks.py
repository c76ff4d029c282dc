import numpy as np
import pytest
from layouts import IN9, LAYOUTS
from layouts import plant as planted

from robustvit.cli.commands.data_check import verify
from robustvit.data.backgrounds import imagenet_9
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import Data

SIDE = 224


@pytest.fixture
def release(tmp_path):
    """The originals and their masks, in their real layout: in the i-th mask the upper i + 1 rows are the foreground."""
    planted(tmp_path, LAYOUTS["imagenet-9, original"]())
    for i, folder in enumerate(IN9):
        place = tmp_path / "bg_challenge" / "fg_mask" / "val" / folder
        place.mkdir(parents=True)
        np.save(place / "fg_x.npy", np.arange(SIDE)[:, None].repeat(SIDE, 1) <= i)
    return tmp_path


def test_masks_have_the_ids_and_labels_of_the_originals(release):
    masks, originals = imagenet_9(release, variant="fg_mask"), imagenet_9(release)
    assert isinstance(masks, Data)
    assert masks.ids == originals.ids
    assert masks.labels.tolist() == originals.labels.tolist() == list(range(9))
    assert masks.fingerprint != originals.fingerprint


def test_equal_masks_are_no_duplicates(release):
    for folder in IN9:
        np.save(release / "bg_challenge/fg_mask/val" / folder / "fg_x.npy", np.ones((SIDE, SIDE), bool))
    assert verify(imagenet_9(release, variant="fg_mask")).right


def test_a_mask_is_white_where_the_foreground_is(release):
    masks = imagenet_9(release, variant="fg_mask")
    image = masks[3].image
    assert (image.shape, image.dtype) == ((SIDE, SIDE, 3), np.uint8)
    assert (image[:4] == 255).all()
    assert not image[4:].any()


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_masks_of_numbers_are_those_of_truth_values(release, kind):
    masks = imagenet_9(release, variant="fg_mask")
    before = masks[0].image
    path = masks.read.root / masks.read.paths[0]
    np.save(path, np.load(path).astype(kind))
    assert np.array_equal(imagenet_9(release, variant="fg_mask")[0].image, before)


@pytest.mark.parametrize("array", [np.ones((10, 10), bool), np.full((SIDE, SIDE), 255, np.uint8), np.ones((SIDE, SIDE, 3), bool)])
def test_what_is_no_mask_is_named_by_its_file(release, array):
    np.save(release / "bg_challenge/fg_mask/val/00_dog/fg_x.npy", array)
    with pytest.raises(DataUnreadable, match=r"00_dog/fg_x\.npy: a mask is \(224, 224\) of zeros and ones; this is "):
        imagenet_9(release, variant="fg_mask")[0]


def test_a_file_that_is_cut_short_is_named(release):
    path = release / "bg_challenge/fg_mask/val/00_dog/fg_x.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataUnreadable, match=r"00_dog/fg_x\.npy"):
        imagenet_9(release, variant="fg_mask")[0]


def test_empty_masks_are_counted(release):
    for folder in IN9[:2]:
        (release / "bg_challenge/fg_mask/val" / folder / "fg_x.npy").write_bytes(b"")
    with pytest.raises(DataUnreadable, match=r"2 masks in .* are empty files: 00_dog/fg_x\.npy"):
        imagenet_9(release, variant="fg_mask")


def test_a_missing_class_and_a_release_without_masks_are_named(release):
    (release / "bg_challenge/fg_mask/val/08_fish").rename(release / "08_fish")
    with pytest.raises(DataUnreadable, match="missing 08_fish"):
        imagenet_9(release, variant="fg_mask")
    (release / "bg_challenge/fg_mask").rename(release / "masks")
    with pytest.raises(DataMissing, match="holds fg_mask/val"):
        imagenet_9(release, variant="fg_mask")


def test_folders_without_masks_hold_none(release):
    for folder in IN9:
        (release / "bg_challenge/fg_mask/val" / folder / "fg_x.npy").rename(release / "bg_challenge/fg_mask/val" / folder / "fg_x.txt")
    with pytest.raises(DataMissing, match=r"holds no masks \(left out: 9 files with other endings"):
        imagenet_9(release, variant="fg_mask")
