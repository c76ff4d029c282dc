import json

import pytest
from layouts import LAYOUTS, plant, plant_images

from robustvit.data.high_resolution import imagenet_hr
from robustvit.errors import DataMissing, DataUnreadable


@pytest.fixture
def hub(tmp_path):
    """The images as they lie on the hub, and the rows that label them."""
    root = plant(tmp_path, LAYOUTS["imagenet-hr, as on the hub"]())
    return root, [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]


def write(root, rows):
    (root / "metadata.jsonl").write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))


def test_a_label_is_a_number_or_a_list_of_one(hub):
    root, rows = hub
    labels = imagenet_hr(root).labels.tolist()
    write(root, [{"file_name": row["file_name"], "label": row["labels"][0]} for row in rows])
    assert imagenet_hr(root).labels.tolist() == labels


@pytest.mark.parametrize(
    "row", ["{", "[]", {"file_name": "a"}, {"label": 3}, {"file_name": "a", "labels": [1, 2]}, {"file_name": "a", "label": 1000}]
)
def test_rows_that_label_nothing_are_counted(hub, row):
    root, rows = hub
    write(root, [*rows[:4], row, *rows[4:], row])
    with pytest.raises(DataUnreadable, match=r"2 of 1002 rows do not give a file_name and one label .* the first is row 5"):
        imagenet_hr(root)


def test_images_that_no_row_labels_are_counted(hub):
    root, rows = hub
    write(root, rows[:-2])
    with pytest.raises(DataUnreadable, match=r"labels none of 2 images beside it: test/998_998\.png, test/999_999\.png"):
        imagenet_hr(root)


def test_an_image_that_is_labelled_twice_is_refused(hub):
    root, rows = hub
    write(root, [*rows, {"file_name": rows[0]["file_name"], "label": 5}])
    with pytest.raises(DataUnreadable, match=r"labels 1 images more than once: test/0_0\.png"):
        imagenet_hr(root)


def test_classes_without_an_image_are_counted(hub):
    root, rows = hub
    (root / "test/7_7.png").unlink()
    write(root, [row for row in rows if row["labels"] != [7]])
    with pytest.raises(DataUnreadable, match=r"1 of its 1000 classes have no image in .*: n01514668"):
        imagenet_hr(root)


def test_rows_that_name_images_that_are_not_there_are_counted(hub):
    root, _ = hub
    for name in ("test/7_7.png", "test/30_30.png"):
        (root / name).unlink()
    with pytest.raises(DataUnreadable, match=r"2 of 1000 rows of .* name images that are not there: test/7_7\.png, test/30_30\.png"):
        imagenet_hr(root)


def test_a_folder_of_other_things_is_missing_it(tmp_path):
    plant_images(tmp_path, ["cats/1.png"])
    with pytest.raises(DataMissing, match=r"holds none of its 1000 class folders .* it holds cats"):
        imagenet_hr(tmp_path)
