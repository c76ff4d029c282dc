"""The sets that models are transferred to, in the folders that torchvision unpacks: a few images where the real ones have thousands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import plant_images
from scipy.io import savemat

from robustvit.errors import DataMissing, DataUnreadable
from robustvit.evaluation.loading import load_data
from robustvit.primitives.batch import traits

TRAIN, TEST = 2, 1  # images of each class


def lines(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def food101(root: Path) -> None:
    for split, numbers in (("train", (1, 2)), ("test", (3,))):
        written = {f"dish_{i:03}": [f"dish_{i:03}/{n}" for n in numbers] for i in reversed(range(101))}
        lines(root / f"food-101/meta/{split}.json", [json.dumps(written)])
        plant_images(root / "food-101/images", [f"{path}.jpg" for paths in written.values() for path in paths])


def dtd(root: Path) -> None:
    for split, numbers in (("train1", (1, 2)), ("test1", (3,)), ("val1", (4,)), ("test2", (1,))):
        paths = [f"texture{i:02}/texture{i:02}_{n}.jpg" for i in range(47) for n in numbers]
        lines(root / f"dtd/dtd/labels/{split}.txt", paths)
        plant_images(root / "dtd/dtd/images", paths)


def oxford_pets(root: Path) -> None:
    for file, numbers in (("trainval", (1, 2)), ("test", (3,))):
        rows = [f"Big_breed{i:02}_{n} {i + 1} 1 {i}" for i in range(37) for n in numbers]
        lines(root / f"oxford-iiit-pet/annotations/{file}.txt", ["#Image CLASS-ID SPECIES BREED ID", *rows])
        plant_images(root / "oxford-iiit-pet/images", [f"{row.split()[0]}.jpg" for row in rows])


def fgvc_aircraft(root: Path) -> None:
    below, names = root / "fgvc-aircraft-2013b/data", [f"Model F/A-{i:02}" for i in range(100)]
    lines(below / "variants.txt", names)
    for file, numbers in (("trainval", (1, 2)), ("test", (3,))):
        lines(below / f"images_variant_{file}.txt", [f"{n}{i:06} {name}" for i, name in enumerate(names) for n in numbers])
        plant_images(below / "images", [f"{n}{i:06}.jpg" for i in range(100) for n in numbers])


def cub200(root: Path) -> None:
    below = root / "CUB_200_2011"
    images = [(f"{i + 1:03}.Black_bird{i:03}/bird_{n}.jpg", i, n) for i in range(200) for n in (1, 2, 3)]
    lines(below / "images.txt", [f"{row} {path}" for row, (path, _, _) in enumerate(images, 1)])
    lines(below / "image_class_labels.txt", [f"{row} {label + 1}" for row, (_, label, _) in enumerate(images, 1)])
    lines(below / "train_test_split.txt", [f"{row} {int(n < 3)}" for row, (_, _, n) in enumerate(images, 1)])
    lines(below / "classes.txt", [f"{i + 1} {i + 1:03}.Black_bird{i:03}" for i in range(200)])
    plant_images(below / "images", [path for path, _, _ in images])


def stl10(root: Path) -> None:
    (root / "stl10_binary").mkdir(parents=True)
    for split, count in (("train", 20), ("test", 10)):
        images = np.zeros((count, 3, 96, 96), dtype=np.uint8)
        images[:, 0, 5, 7] = 255  # of every image red, at the fifth column and the seventh row
        images.tofile(root / f"stl10_binary/{split}_X.bin")
        (np.arange(count, dtype=np.uint8) % 10 + 1).tofile(root / f"stl10_binary/{split}_y.bin")


def svhn(root: Path) -> None:
    (root / "svhn").mkdir(parents=True)
    for split, count in (("train", 20), ("test", 10)):
        images = np.zeros((32, 32, 3, count), dtype=np.uint8)
        images[7, 5, 0] = 255
        savemat(root / f"svhn/{split}_32x32.mat", {"X": images, "y": (np.arange(count) % 10 + 1)[:, None].astype(np.uint8)})


def stanford_cars(root: Path) -> None:
    below = root / "stanford_cars"
    (below / "devkit").mkdir(parents=True)
    names = np.array([[f"Make Model {i:03}" for i in range(196)]], dtype=object)
    savemat(below / "devkit/cars_meta.mat", {"class_names": names})
    for split, file, numbers in (("train", "devkit/cars_train_annos.mat", (1, 2)), ("test", "cars_test_annos_withlabels.mat", (3,))):
        rows = [(i + 1, f"{n}{i:04}.jpg") for i in range(196) for n in numbers]
        kind = [("bbox_x1", object), ("class", object), ("fname", object)]
        savemat(below / file, {"annotations": np.array([[(0, *row) for row in rows]], dtype=kind)})
        plant_images(below / f"cars_{split}", [name for _, name in rows])


MADE: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "food101": (food101, 101, "food-101"), "dtd": (dtd, 47, "dtd/dtd"), "oxford-pets": (oxford_pets, 37, "oxford-iiit-pet"),
    "fgvc-aircraft": (fgvc_aircraft, 100, "fgvc-aircraft-2013b"), "cub200": (cub200, 200, "CUB_200_2011"),
    "stl10": (stl10, 10, "stl10_binary"), "svhn": (svhn, 10, "svhn"), "stanford-cars": (stanford_cars, 196, "stanford_cars"),
}  # fmt: skip
COUNTS = {
    "food101": (25250, 75750), "dtd": (1880, 1880), "oxford-pets": (3669, 3680), "fgvc-aircraft": (3333, 6667), "cub200": (5794, 5994),
    "stl10": (8000, 5000), "svhn": (26032, 73257), "stanford-cars": (8041, 8144),
}  # fmt: skip


@pytest.fixture(scope="module", params=MADE)
def planted(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp("downstream")
    MADE[request.param][0](root)
    return request.param, root


def test_both_splits_have_their_images_labels_and_counts(planted: tuple[str, Path]) -> None:
    name, root = planted
    _, classes, inner = MADE[name]
    for split, each, expected in (("test", TEST, COUNTS[name][0]), ("train", TRAIN, COUNTS[name][1])):
        data = load_data(f"{name}?split={split}", data_dir=root)
        assert len(data.classes) == len(set(data.classes)) == classes
        assert np.bincount(data.labels).tolist() == [each] * classes
        assert traits(data).expected == expected, "what is missing is told"
        assert all(one.startswith(f"{name}/{split}/") for one in data.ids)
        assert data[0].image.ndim == 3
        assert load_data(f"{name}?split={split}", data_dir=root / inner).fingerprint == data.fingerprint
    test, train = (set(load_data(f"{name}?split={split}", data_dir=root).ids) for split in ("test", "train"))
    assert not test & train


def test_a_folder_without_the_set_says_what_it_looked_for(planted: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=rf"data '{planted[0]}'.*holds no "):
        load_data(planted[0], data_dir=tmp_path)


def test_labels_follow_the_lists(tmp_path: Path) -> None:
    for name in ("food101", "oxford-pets", "cub200", "fgvc-aircraft", "stanford-cars"):
        MADE[name][0](tmp_path / name)
    food = load_data("food101", data_dir=tmp_path / "food101")
    assert food.classes[food.labels[food.ids.index("food101/test/images/dish_042/3")]] == "dish 042"
    pets = load_data("oxford-pets", data_dir=tmp_path / "oxford-pets")
    assert pets.classes[pets.labels[pets.ids.index("oxford-pets/test/images/Big_breed11_3")]] == "Big breed11"
    birds = load_data("cub200", data_dir=tmp_path / "cub200")
    assert birds.classes[birds.labels[birds.ids.index("cub200/test/images/150.Black_bird149/bird_3")]] == "Black bird149"
    planes = load_data("fgvc-aircraft", data_dir=tmp_path / "fgvc-aircraft")
    assert planes.classes[planes.labels[planes.ids.index("fgvc-aircraft/test/data/images/3000077")]] == "Model F/A-77"
    cars = load_data("stanford-cars", data_dir=tmp_path / "stanford-cars")
    assert cars.classes[cars.labels[cars.ids.index("stanford-cars/test/cars_test/30123")]] == "Make Model 123"


def test_arrays_are_turned_the_right_way(tmp_path: Path) -> None:
    stl10(tmp_path / "stl10")
    svhn(tmp_path / "svhn")
    for name in ("stl10", "svhn"):
        image = load_data(name, data_dir=tmp_path / name)[3].image
        assert image[7, 5].tolist() == [255, 0, 0]
        assert int((image > 0).sum()) == 1
    assert load_data("svhn", data_dir=tmp_path / "svhn").labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert load_data("stl10", data_dir=tmp_path / "stl10").classes[4] == "deer"


def test_partitions_of_dtd_are_lists_of_their_own(tmp_path: Path) -> None:
    dtd(tmp_path)
    first, second = (load_data(f"dtd?partition={n}", data_dir=tmp_path) for n in (1, 2))
    assert not set(first.ids) & set(second.ids)
    assert len(load_data("dtd?split=val", data_dir=tmp_path)) == 47


def test_what_is_missing_or_not_whole_is_said(tmp_path: Path) -> None:
    oxford_pets(tmp_path)
    below = tmp_path / "oxford-iiit-pet"
    (below / "images/Big_breed05_3.jpg").unlink()
    with pytest.raises(DataMissing, match=r"1 of 37 listed images are not in .*Big_breed05_3"):
        load_data("oxford-pets", data_dir=tmp_path)
    lines(below / "annotations/test.txt", ["Big_breed01_1"])
    with pytest.raises(DataUnreadable, match=r"test.txt:1 has 1 words"):
        load_data("oxford-pets", data_dir=tmp_path)
    lines(below / "annotations/test.txt", ["Big_breed01_1 one 1 1"])
    with pytest.raises(DataUnreadable, match="'one 1 1' for the number of a class"):
        load_data("oxford-pets", data_dir=tmp_path)
    lines(below / "annotations/test.txt", ["Big_breed01_1 1 1 1"])
    with pytest.raises(DataUnreadable, match="lists 1 classes; it has 37"):
        load_data("oxford-pets", data_dir=tmp_path)


def test_damaged_binaries_are_said(tmp_path: Path) -> None:
    svhn(tmp_path)
    (tmp_path / "svhn/test_32x32.mat").write_bytes(b"no matlab")
    with pytest.raises(DataUnreadable, match="is no file of MATLAB"):
        load_data("svhn", data_dir=tmp_path)
    savemat(tmp_path / "svhn/test_32x32.mat", {"X": np.zeros((4, 4)), "y": [1]})
    with pytest.raises(DataUnreadable, match="is not a file of SVHN"):
        load_data("svhn", data_dir=tmp_path)
    stl10(tmp_path)
    (tmp_path / "stl10_binary/test_X.bin").write_bytes(b"short")
    with pytest.raises(DataUnreadable, match="5 bytes, which are not 10 images of 96 px"):
        load_data("stl10", data_dir=tmp_path)
