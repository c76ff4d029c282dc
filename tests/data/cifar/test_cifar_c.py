import pickle
from pathlib import Path

import numpy as np
import pytest

from robustvit.data.cifar.cifar import cifar10
from robustvit.data.cifar.cifar_c import cifar10_c, cifar100_c
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.evaluation import run as runner
from robustvit.evaluation.datasets import Samples, refuse_contradictions
from robustvit.primitives.batch import traits
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.suite_file import read_suite

COUNT = 6  # images of a severity, where the real arrays have 10,000
LABELS = np.array([3, 8, 0, 9, 3, 1], np.uint8)
SUITES = Path(__file__).resolve().parents[3] / "suites"
FIFTEEN = [
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "frost", "fog",
    "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
]  # fmt: skip
TINY = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"


def arrays(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (5 * COUNT, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def released(tmp_path):
    """The arrays of two corruptions, as the archive unpacks them."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(LABELS, 5))
    for seed, name in enumerate(("fog", "snow")):
        np.save(folder / f"{name}.npy", arrays(seed))
    return tmp_path


@pytest.mark.parametrize("severity", [1, 2, 5])
def test_a_severity_is_its_block_of_the_array(released, severity):
    data = cifar10_c(released, corruption="snow", severity=severity)
    block = arrays(1)[COUNT * (severity - 1) : COUNT * severity]
    assert all((data[i].image == block[i]).all() for i in range(COUNT))
    assert data.labels.tolist() == LABELS.tolist()
    assert [data.classes[label] for label in data.labels[:2]] == ["cat", "ship"]


def test_ids_and_base_are_those_of_the_clean_images(released):
    data = cifar10_c(released / "CIFAR-10-C", corruption="fog", severity=3)
    own = traits(data)
    assert data.ids == tuple(f"cifar10/test/{i:05d}" for i in range(COUNT))
    assert (data.name, data.source, own.base, own.scenario, own.severity, own.cut) == ("cifar10-c", "released", "cifar10", "fog", "3", 32)
    assert own.expected == 10_000


def test_every_pixel_is_in_the_fingerprint(released):
    one, other = (cifar10_c(released, corruption="fog", severity=s).fingerprint for s in (1, 2))
    changed = arrays(0)
    changed[0, 0, 0, 0] ^= 1
    np.save(released / "CIFAR-10-C/fog.npy", changed)
    assert len({one, other, cifar10_c(released, corruption="fog").fingerprint}) == 3
    assert cifar10_c(released, corruption="fog", severity=2).fingerprint == other


def test_the_hundred_classes_have_their_names(released):
    (released / "CIFAR-10-C").rename(released / "CIFAR-100-C")
    data = cifar100_c(released, corruption="fog")
    assert (len(data.classes), data.classes[8], data.ids[0]) == (100, "bicycle", "cifar100/test/00000")


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("fog", arrays(0)[:-1], r"fog\.npy holds \(29, 32, 32, 3\) uint8; it must be \(30, 32, 32, 3\) uint8"),
        ("fog", arrays(0).transpose(0, 3, 1, 2), r"\(30, 3, 32, 32\) uint8"),
        ("fog", arrays(0).astype(np.float32), "float32; it must be"),
        ("fog", np.array([{}], dtype=object), "no array of numbers"),
        ("labels", np.tile(LABELS, 5)[:-1], "5 times the same, once for each severity"),
        ("labels", np.repeat(LABELS, 5), "5 times the same"),
        ("labels", np.tile(LABELS, 5) + 1, "from 1 to 10; they must be whole numbers from 0 to 9"),
    ],
)
def test_arrays_that_are_not_five_severities_are_refused(released, name, array, reason):
    np.save(released / "CIFAR-10-C" / f"{name}.npy", array)
    with pytest.raises(DataUnreadable, match=reason):
        cifar10_c(released, corruption="fog")


def test_a_missing_array_is_named_with_what_is_there(released):
    with pytest.raises(DataMissing, match=r"holds no frost\.npy\. It holds fog\.npy, labels\.npy, snow\.npy"):
        cifar10_c(released, corruption="frost")


@pytest.mark.parametrize(
    ("clean_folder", "folder"),
    [("cifar10/cifar-10-batches-py", "cifar10-c"), ("cifar-10-batches-py", "CIFAR-10-C")],
    ids=["own", "robustbench"],
)
def test_the_suite_averages_the_error_over_fifteen_corruptions_at_five_severities(tmp_path, clean_folder, folder):
    """Every severity of every corruption is the clean image but for its own share of images, so the mean error can be known."""
    clean = arrays(9)[:COUNT]
    (tmp_path / clean_folder).mkdir(parents=True)
    flat = clean.transpose(0, 3, 1, 2).reshape(COUNT, -1)
    (tmp_path / clean_folder / "test_batch").write_bytes(pickle.dumps({b"data": flat, b"labels": LABELS.tolist()}, protocol=2))
    (tmp_path / folder).mkdir()
    np.save(tmp_path / folder / "labels.npy", np.tile(LABELS, 5))
    for name in FIFTEEN:
        np.save(tmp_path / folder / f"{name}.npy", np.tile(clean, (5, 1, 1, 1)))
    runner.run(read_suite(SUITES / "cifar10-c.yaml"), [TINY], store=tmp_path / "s", data_dir=tmp_path)
    board = leaderboard(tmp_path / "s")
    value = {metric: set(rows["value"].round(6)) for metric, rows in board.groupby("metric")}
    (top1,) = value["top1"]  # the same images everywhere: no cell is resized or cropped otherwise
    assert value["mean_err_15"] == value["corruption_error"] == {round(100 - top1, 6)}
    assert len(board[board["metric"] == "top1"]) == 1 + 75
    assert set(board["status"]) == {"complete"}


def test_labels_that_are_not_those_of_the_clean_images_are_refused_together(released):
    (released / "cifar-10-batches-py").mkdir()
    flat = arrays(0)[:COUNT].reshape(COUNT, -1)
    (released / "cifar-10-batches-py/test_batch").write_bytes(pickle.dumps({b"data": flat, b"labels": LABELS[::-1].tolist()}, protocol=2))
    both = [Samples.of(data, None) for data in (cifar10(released), cifar10_c(released, corruption="fog"))]
    with pytest.raises(DataUnreadable, match=r"give .* of the same samples different labels"):
        refuse_contradictions(both)
