import csv
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from robustvit.data.annotations.wnids import wnids
from robustvit.data.imagenet import imagenet
from robustvit.errors import DataMissing, DataUnreadable

DOG, FISH = wnids()[207], wnids()[1]
SORTED = (f"{DOG}/ILSVRC2012_val_00000001.JPEG", f"{FISH}/ILSVRC2012_val_00000002.JPEG", f"{DOG}/ILSVRC2012_val_00000003.JPEG")
FLAT = tuple(path.rpartition("/")[2] for path in SORTED)
HOLES = r"have no label: ILSVRC2012_val_00000002, ILSVRC2012_val_00000003\.$"
EXPECTED = {
    "imagenet/val/ILSVRC2012_val_00000001": 207,
    "imagenet/val/ILSVRC2012_val_00000002": 1,
    "imagenet/val/ILSVRC2012_val_00000003": 207,
}


def labels_of(data):
    return dict(zip(data.ids, data.labels.tolist(), strict=True))


@pytest.mark.parametrize("below", ["val", ".", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val"])
def test_images_sorted_by_class_are_found_in_every_usual_place(plant, tmp_path, below):
    plant(tmp_path / below, *SORTED)
    data = imagenet(tmp_path)
    assert labels_of(data) == EXPECTED
    assert (len(data.classes), data.readings[0].classes) == (1000, 1000)
    assert [data[i].label for i in range(3)] == data.labels.tolist()


@pytest.mark.parametrize("name", ["val_labels.txt", "synset_labels.txt", "imagenet_2012_validation_synset_labels.txt"])
@pytest.mark.parametrize("beside", [True, False])
def test_flat_images_take_their_labels_from_a_line_each(plant, tmp_path, name, beside):
    plant(tmp_path / "val", *FLAT)
    (tmp_path / ("val" if beside else ".") / name).write_text(f"{DOG}\n{FISH}\n{DOG}\n")
    assert labels_of(imagenet(tmp_path)) == EXPECTED


def test_flat_images_take_their_labels_from_kaggles_table(plant, tmp_path):
    plant(tmp_path / "ILSVRC/Data/CLS-LOC/val", *FLAT)
    with (tmp_path / "LOC_val_solution.csv").open("w", newline="") as file:
        rows = (
            (path.removesuffix(".JPEG"), f"{wnid} 1 2 3 4 {wnid} 5 6 7 8") for path, wnid in zip(FLAT[::-1], (DOG, FISH, DOG), strict=True)
        )
        csv.writer(file).writerows([("ImageId", "PredictionString"), *rows])
    assert labels_of(imagenet(tmp_path)) == EXPECTED


CSV_ROWS = [(path.removesuffix(".JPEG"), wnid) for path, wnid in zip(FLAT, (DOG, FISH, DOG), strict=True)]


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
@pytest.mark.parametrize(
    "content",
    [
        "ImageId,PredictionString\n" + "".join(f"{name},{wnid} 111 108 230 366 \n" for name, wnid in CSV_ROWS),
        "ImageId,Class\r\n" + "".join(f"{name},{wnid}\r\n" for name, wnid in CSV_ROWS),
        "ImageId,Class\n" + "".join(f"{name}.JPEG,{wnids().index(wnid)}\n" for name, wnid in CSV_ROWS),
        "".join(f"{name},{wnid}\n" for name, wnid in CSV_ROWS),
    ],
    ids=["Kaggle's", "of classes", "of indices", "without a header"],
)
@pytest.mark.parametrize("name", ["LOC_val_solution.csv", "val_labels.csv"])
def test_a_table_may_have_a_mark_and_any_header_or_none(plant, tmp_path, name, content, mark):
    plant(tmp_path / "val", *FLAT)
    (tmp_path / name).write_bytes((mark + content).encode())
    assert labels_of(imagenet(tmp_path)) == EXPECTED


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
def test_a_list_of_wnids_may_begin_with_a_mark(plant, tmp_path, mark):
    plant(tmp_path / "val", *FLAT)
    (tmp_path / "val_labels.txt").write_bytes(f"{mark}{DOG}\n{FISH}\n{DOG}\n".encode())
    assert labels_of(imagenet(tmp_path)) == EXPECTED


def caffe(*labels, prefix=""):
    """The lines of a val.txt."""
    return "".join(f"{prefix}{name} {label}\n" for name, label in zip(FLAT, labels, strict=True))


@pytest.mark.parametrize(
    "content",
    [caffe(207, 1, 207), "\ufeff" + caffe(207, 1, 207), caffe(207, 1, 207, prefix="val/"), caffe(DOG, FISH, DOG)],
    ids=["names", "BOM", "paths", "wnids"],
)
def test_flat_images_take_their_labels_from_a_class_index_beside_each_name(plant, tmp_path, content):
    plant(tmp_path / "val", *FLAT)
    (tmp_path / "val.txt").write_text(content, encoding="utf-8")
    assert labels_of(imagenet(tmp_path)) == EXPECTED


def test_caffes_synsets_give_the_order_of_its_indices(plant, tmp_path):
    plant(tmp_path / "val", *FLAT)
    (tmp_path / "val.txt").write_text(caffe(999 - 207, 999 - 1, 999 - 207))
    (tmp_path / "synsets.txt").write_text("\n".join(reversed(wnids())))
    assert labels_of(imagenet(tmp_path)) == EXPECTED
    (tmp_path / "synsets.txt").write_text("\n".join(wnids()[:999]))
    with pytest.raises(DataUnreadable, match=r"synsets\.txt is not a list of ImageNet's 1000 wnids"):
        imagenet(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (caffe(1, 2, 3), r"its numbers, 1 to 3, are not class indices .* Running numbers, as in Kaggle's ImageSets/CLS-LOC/val\.txt"),
        (caffe(207, 1, 1000), "its numbers, 1 to 1000, are not class indices 0 to 999"),
        (caffe(207, FISH, 207), "2 of 3 entries are not ImageNet wnids"),
        (
            "".join(f"{name}\n" for name in FLAT),
            r"3 rows are not a file name and a class; the first is \['ILSVRC2012_val_0",
        ),
        ("a.JPEG 1\n", "has 1 rows; 3 of the 3 images have no label"),
    ],
)
def test_numbers_that_are_no_class_indices_are_refused(plant, tmp_path, content, reason):
    plant(tmp_path / "val", *FLAT)
    (tmp_path / "val.txt").write_text(content)
    with pytest.raises(DataUnreadable, match=reason):
        imagenet(tmp_path)


def test_a_list_that_only_names_the_images_hides_no_better_file_above_it(plant, tmp_path):
    plant(tmp_path / "ILSVRC/val", *FLAT)
    (tmp_path / "ILSVRC/val/val.txt").write_text(caffe(1, 2, 3))
    (tmp_path / "val_labels.txt").write_text(f"{DOG}\n{FISH}\n{DOG}\n")
    assert labels_of(imagenet(tmp_path / "ILSVRC")) == EXPECTED


NAMED = tuple(f"{path.removesuffix('.JPEG')}_{wnid}.JPEG" for path, wnid in zip(FLAT, (DOG, FISH, DOG), strict=True))


def test_names_that_end_in_their_wnid_are_labels_enough(plant, tmp_path):
    assert labels_of(imagenet(plant(tmp_path, *NAMED))) == EXPECTED


def test_training_images_with_their_wnid_in_the_name_may_lie_flat(plant, tmp_path):
    data = imagenet(plant(tmp_path, f"train/{FISH}_10026_{FISH}.JPEG", f"train/{DOG}_1_{DOG}.JPEG"), split="train")
    assert labels_of(data) == {f"imagenet/train/{FISH}_10026": 1, f"imagenet/train/{DOG}_1": 207}


def test_a_wnid_in_the_name_changes_neither_id_nor_label_in_class_folders(plant, tmp_path):
    plant(tmp_path / "val", *(f"{path.rpartition('_')[2].removesuffix('.JPEG')}/{path}" for path in NAMED))
    assert labels_of(imagenet(tmp_path)) == EXPECTED
    plant(tmp_path / "val", f"{FISH}/ILSVRC2012_val_00000009_{DOG}.JPEG")
    with pytest.raises(DataUnreadable, match=f"1 images in .* lie in folders of other classes than they name: {FISH}/.*9_{DOG}"):
        imagenet(tmp_path)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("ILSVRC2012_val_00000004.JPEG", r"3 of the 4 images .* carry their wnid .* and 1 do not: ILSVRC2012_val_00000004\."),
        ("ILSVRC2012_val_00000004_n01443538.JPEG", r"1 wnids in the names .* none of the thousand: n01443538\. Did you mean 'n01443537'"),
    ],
)
def test_names_with_wnids_that_cannot_be_right_are_refused(plant, tmp_path, extra, reason):
    with pytest.raises(DataUnreadable, match=reason):
        imagenet(plant(tmp_path, *NAMED, extra))


@pytest.fixture
def kit(plant, tmp_path):
    """Flat images beside a development kit whose own numbers are not the sorted order."""
    plant(tmp_path / "val", *FLAT)
    folder = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    synsets = np.array([(1, DOG, "dog"), (2, FISH, "fish")], dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    savemat(folder / "meta.mat", {"synsets": synsets[:, None]})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n1\n")
    return folder


def test_flat_images_take_their_labels_from_the_development_kit(kit, tmp_path):
    assert labels_of(imagenet(tmp_path)) == EXPECTED


def test_the_kits_numbers_without_its_table_are_refused_with_the_reason(kit, tmp_path):
    (kit / "meta.mat").unlink()
    with pytest.raises(DataMissing, match=r"an order of its own.*meta\.mat.*must lie beside it"):
        imagenet(tmp_path)


def test_a_kit_that_is_damaged_is_refused(kit, tmp_path):
    (kit / "meta.mat").write_bytes(b"no matrix")
    with pytest.raises(DataUnreadable, match=r"meta\.mat do not give the labels"):
        imagenet(tmp_path)


def test_flat_images_that_nothing_labels_are_refused_with_what_would(plant, tmp_path):
    with pytest.raises(DataMissing, match=r"LOC_val_solution\.csv, val_labels\.txt"):
        imagenet(plant(tmp_path / "a/b/c/d/val", *FLAT).parent)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("val_labels.txt", f"{DOG}\n{FISH}\n", r"has 2 lines.*; 1 of the 3 images have no label: ILSVRC2012_val_00000003\.$"),
        (
            "val_labels.txt",
            f"{DOG}\n{FISH[:-1]}\n{DOG}\n",
            r"1 of 3 entries are not ImageNet wnids .* entry 2, is 'n0144353'\. Did you mean 'n01443537'",
        ),
        (
            "LOC_val_solution.csv",
            f"ImageId,PredictionString\nILSVRC2012_val_00000001,{DOG} 1 2 3 4\n",
            f"1 rows; 2 of the 3 images {HOLES}",
        ),
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\n" + f"ILSVRC2012_val_00000001,{DOG} 1 2 3 4\n" * 2,
            "labels 1 images more than once",
        ),
        ("val_labels.txt", f"{DOG}\n", f"1 lines.*; 2 of the 3 images {HOLES}"),
        ("val_labels.txt", f"\n\n{DOG}\n", "2 of 3 entries are not ImageNet wnids"),
        ("LOC_val_solution.csv", "ImageId,PredictionString\nILSVRC2012_val_00000001\n", "1 rows are not ImageId,PredictionString"),
    ],
)
def test_labels_that_cannot_be_right_are_refused_with_their_place(plant, tmp_path, name, content, reason):
    plant(tmp_path / "val", *FLAT)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataUnreadable, match=reason):
        imagenet(tmp_path)


def test_every_layout_has_the_same_ids_and_fingerprint(plant, tmp_path):
    plant(tmp_path / "sorted" / "val", *SORTED)
    (tmp_path / "flat").mkdir()
    for path in SORTED:
        shutil.copy(tmp_path / "sorted" / "val" / path, tmp_path / "flat")
    (tmp_path / "flat" / "val_labels.txt").write_text(f"{DOG}\n{FISH}\n{DOG}\n")
    one, other = imagenet(tmp_path / "sorted"), imagenet(tmp_path / "flat")
    assert labels_of(one) == labels_of(other)
    assert one.fingerprint == other.fingerprint


def test_training_images_have_ids_of_their_own(plant, tmp_path):
    plant(tmp_path, f"train/{FISH}/{FISH}_1.JPEG", *(f"val/{path}" for path in SORTED))
    assert imagenet(tmp_path, split="train").ids == (f"imagenet/train/{FISH}_1",)
    assert len(imagenet(tmp_path)) == 3


def test_folders_that_are_no_class_are_counted_and_the_nearest_class_named(plant, tmp_path):
    plant(tmp_path / "val", *SORTED, "n0144353/x.JPEG", "cats/y.JPEG")
    with pytest.raises(DataUnreadable, match=r"2 of 4 folders .* cats, n0144353"):
        imagenet(tmp_path)


def test_two_files_of_one_name_are_refused(plant, tmp_path):
    plant(tmp_path / "val", *SORTED, f"{FISH}/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataUnreadable, match="1 sample ids belong to more than one image: imagenet/val/ILSVRC2012_val_00000001"):
        imagenet(tmp_path)


@pytest.mark.parametrize("paths", [("photos/cats/1.JPEG",), ("val/cats/1.JPEG",)])
def test_a_folder_that_is_not_imagenet_is_refused_with_what_it_holds(plant, tmp_path, paths):
    with pytest.raises(DataMissing, match=r"it holds (cats|photos)"):
        imagenet(plant(tmp_path, *paths))


def test_training_images_that_lie_flat_are_refused(plant, tmp_path):
    with pytest.raises(DataMissing, match="must lie in folders"):
        imagenet(plant(tmp_path, *(f"train/{name}" for name in FLAT)), split="train")
