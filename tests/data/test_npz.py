import numpy as np
import pytest

from robustvit.data.npz import npz
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import Data

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 2])


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "mine.npz", **{"images": IMAGES, "labels": LABELS, **arrays})
        return tmp_path / "mine.npz"

    return write


def test_the_arrays_are_the_data(save):
    data = npz(save())
    assert isinstance(data, Data)
    assert data.ids == ("npz/000000", "npz/000001", "npz/000002", "npz/000003")
    assert data.classes == ("0", "1", "2")
    assert all((data[i].image == IMAGES[i]).all() and data[i].label == LABELS[i] for i in range(4))


def test_ids_and_classes_of_the_file_are_used(save):
    data = npz(save(ids=np.array(list("abcd")), classes=np.array(["ape", "bee", "cat", "dog"])))
    assert data.ids == ("a", "b", "c", "d")
    assert data.classes[3] == "dog"


def test_a_folder_with_one_file_is_opened_as_that_file(save):
    assert npz(save().parent).fingerprint == npz(save()).fingerprint


def test_one_pixel_changes_the_fingerprint(save):
    before = npz(save()).fingerprint
    altered = IMAGES.copy()
    altered[0, 0, 0, 0] ^= 1
    assert npz(save(images=altered)).fingerprint != before


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"images": IMAGES.astype(np.float32) / 255}, r"images are \(4, 5, 6, 3\) float32; they must be \(N, H, W, 3\) uint8"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, "must be"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "must be"),
        ({"labels": LABELS[:3]}, r"labels are \(3,\) int64; they must be \(4,\)"),
        ({"labels": LABELS.astype(float)}, "whole numbers"),
        ({"labels": np.array([0, -1, 1, 2])}, r"1 labels lie outside 0 … 2: rows 1\."),
        ({"classes": np.array(["a", "b"])}, "2 labels lie outside 0 … 1"),
        ({"ids": np.array(["a", "b", "a", "a"])}, "1 sample ids belong to more than one image: a"),
        ({"ids": np.array(["a", "b"])}, "4 labels, but 2 ids"),
        ({"ids": np.arange(4)}, "must be a row of text"),
        ({"ids": np.array([{}] * 4, dtype=object)}, "plain arrays"),
    ],
)
def test_arrays_of_the_wrong_shape_kind_or_range_are_refused(save, arrays, reason):
    with pytest.raises(DataUnreadable, match=reason):
        npz(save(**arrays))


MED = {
    f"{split}_{kind}": array[count:]
    for count, split in enumerate(("train", "val", "test"))
    for kind, array in (("images", IMAGES[..., 0]), ("labels", LABELS.astype(np.uint8)[:, None]))
}


@pytest.fixture
def medmnist(tmp_path):
    """A file with MedMNIST's names, whose grey images have no channels and whose labels have a column."""

    def write(**arrays):
        np.savez(tmp_path / "breastmnist.npz", **{**MED, **arrays})
        return tmp_path / "breastmnist.npz"

    return write


@pytest.mark.parametrize(("split", "first"), [(None, 2), ("test", 2), ("val", 1), ("train", 0)])
def test_a_split_of_medmnist_is_read_grey_as_three_channels(medmnist, split, first):
    data = npz(medmnist(), split=split)
    assert data.labels.tolist() == LABELS[first:].tolist()
    assert data.ids[0] == f"npz/{split or 'test'}/000000"
    assert data[0].image.shape == (5, 6, 3)
    assert all((data[0].image[..., channel] == IMAGES[first, ..., 0]).all() for channel in range(3))


def test_colour_images_and_arrays_with_one_channel_are_read(medmnist):
    assert (npz(medmnist(test_images=IMAGES[2:]))[1].image == IMAGES[3]).all()
    assert (npz(medmnist(test_images=IMAGES[2:, ..., :1]))[1].image[..., 2] == IMAGES[3, ..., 0]).all()


def test_a_file_with_plain_names_beside_splits_is_read_by_them(medmnist):
    assert len(npz(medmnist(images=IMAGES, labels=LABELS))) == 4
    assert len(npz(medmnist(images=IMAGES, labels=LABELS), split="test")) == 2


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"test_images": np.zeros((2, 28, 28, 28), np.uint8)}, r"images are \(2, 28, 28, 28\) uint8; they must be"),
        (
            {"test_labels": np.zeros((2, 14), np.uint8)},
            r"labels are \(2, 14\) uint8; they must be \(2,\) whole numbers",
        ),
    ],
    ids=["volumes", "several labels an image"],
)
def test_sets_of_medmnist_that_are_no_classification_of_images_are_refused(medmnist, arrays, reason):
    with pytest.raises(DataUnreadable, match=reason):
        npz(medmnist(**arrays))


def test_a_split_that_a_file_does_not_have_is_refused_with_those_it_has(save, tmp_path):
    with pytest.raises(DataUnreadable, match="no array 'val_images'; it has no arrays of splits"):
        npz(save(), split="val")
    np.savez(tmp_path / "part.npz", train_images=IMAGES, train_labels=LABELS)
    with pytest.raises(DataUnreadable, match="no array 'test_images'; it has train_images"):
        npz(tmp_path / "part.npz")


def test_a_file_without_labels_cut_short_or_of_another_kind_is_refused(tmp_path, save):
    np.savez(tmp_path / "bare.npz", images=IMAGES)
    np.save(tmp_path / "single.npy", IMAGES)
    (tmp_path / "cut.npz").write_bytes(save().read_bytes()[:-200])
    for name, reason in (("bare.npz", "no array 'labels'"), ("single.npy", "single array"), ("cut.npz", "no .npz file")):
        with pytest.raises(DataUnreadable, match=reason):
            npz(tmp_path / name)


def test_a_folder_with_several_files_is_refused(save, tmp_path):
    (tmp_path / "other.npz").write_bytes(save().read_bytes())
    with pytest.raises(DataMissing, match=r"2 \.npz files"):
        npz(tmp_path)
