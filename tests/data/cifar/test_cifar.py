import pickle

import numpy as np
import pytest

from robustvit.data.cifar.cifar import CIFAR_10, cifar10, cifar100, cifar_100
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import traits

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
LABELS = [3, 8, 8, 0]
FLAT = IMAGES.transpose(0, 3, 1, 2).reshape(4, -1)  # as the authors store them: all red, all green, all blue pixels


def python_batch(path, **content):
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps({key.encode(): value for key, value in content.items()}, protocol=2))


@pytest.fixture
def python(tmp_path):
    python_batch(tmp_path / "cifar-10-batches-py/test_batch", data=FLAT, labels=LABELS, batch_label=b"testing batch 1 of 1")
    return tmp_path


@pytest.fixture
def binary(tmp_path):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    rows = np.concatenate([np.array(LABELS, np.uint8)[:, None], FLAT], axis=1)
    (tmp_path / "cifar-10-batches-bin/test_batch.bin").write_bytes(rows.tobytes())
    return tmp_path


@pytest.mark.parametrize("version", ["python", "binary"])
def test_the_test_batch_is_read_from_either_version(version, request):
    data = cifar10(request.getfixturevalue(version))
    assert (data.ids, data.labels.tolist()) == (tuple(f"cifar10/test/{i:05d}" for i in range(4)), LABELS)
    assert all((data[i].image == IMAGES[i]).all() for i in range(4))
    assert (data.classes, data.readings[0].classes) == (CIFAR_10, 10)
    assert (traits(data).cut, traits(data).expected) == (32, 10_000)


def test_the_folder_of_the_batch_itself_is_the_data(python):
    assert cifar10(python / "cifar-10-batches-py").fingerprint == cifar10(python).fingerprint


def test_a_pickle_that_asks_for_code_is_refused_before_it_runs(tmp_path):
    class Wicked:
        def __reduce__(self):
            return (print, ("ran",))

    python_batch(tmp_path / "cifar-10-batches-py/test_batch", data=Wicked(), labels=LABELS)
    with pytest.raises(DataUnreadable, match=r"asks for .*print, which a batch of images does not need"):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"data": FLAT[:, :-1], "labels": LABELS}, r"\(4, 3071\) uint8 with \(4,\) labels; they must be \(N, 3072\)"),
        ({"data": FLAT, "labels": LABELS[:3]}, r"with \(3,\) labels"),
        ({"data": FLAT, "labels": [0, 1, 10, 2]}, "from 0 to 10; they must be whole numbers from 0 to 9"),
        ({"data": FLAT, "fine_labels": LABELS}, "not a batch of the Python version"),
    ],
)
def test_a_batch_of_another_shape_or_set_is_refused(tmp_path, content, reason):
    python_batch(tmp_path / "cifar-10-batches-py/test_batch", **content)
    with pytest.raises(DataUnreadable, match=reason):
        cifar10(tmp_path)


def test_a_binary_file_cut_short_is_refused(binary):
    path = binary / "cifar-10-batches-bin/test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataUnreadable, match="12,291 bytes; the binary version has 3,073 for each image"):
        cifar10(binary)


def test_a_folder_without_batches_is_refused_with_their_names(tmp_path):
    with pytest.raises(DataMissing, match=r"neither cifar-10-batches-py/test_batch .* nor cifar-10-batches-bin/test_batch\.bin"):
        cifar10(tmp_path)


def test_the_fine_labels_of_the_hundred_classes_are_read(tmp_path):
    python_batch(tmp_path / "p/cifar-100-python/test", data=FLAT, fine_labels=[99, 0, 1, 50], coarse_labels=[1, 2, 3, 4])
    (tmp_path / "b").mkdir()
    rows = np.concatenate([np.array([[1, 99], [2, 0], [3, 1], [4, 50]], np.uint8), FLAT], axis=1)
    (tmp_path / "b/test.bin").write_bytes(rows.tobytes())
    for root in (tmp_path / "p", tmp_path / "b"):
        data = cifar100(root)
        assert [data.classes[label] for label in data.labels] == ["worm", "apple", "aquarium_fish", "mouse"]
        assert (data[3].image == IMAGES[3]).all()


def test_the_fine_classes_are_a_hundred_in_the_order_of_the_alphabet():
    assert len(set(cifar_100())) == 100
    assert list(cifar_100()) == sorted(cifar_100())
