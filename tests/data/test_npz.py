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
