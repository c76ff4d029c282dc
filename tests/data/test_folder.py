import os
import shutil

import numpy as np
import pytest
from PIL import Image

from robustvit.data.folder import folder
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import Data, traits

TREE = ("cat/1.jpg", "cat/deep/er/2.PNG", "ape/3.jpeg", "bee/4.webp")


def test_classes_are_the_sorted_folders_and_ids_the_paths_below(plant, tmp_path):
    data = folder(plant(tmp_path, *TREE))
    assert isinstance(data, Data)
    assert data.classes == ("ape", "bee", "cat")
    assert data.ids == ("folder/ape/3.jpeg", "folder/bee/4.webp", "folder/cat/1.jpg", "folder/cat/deep/er/2.PNG")
    assert data.labels.tolist() == [0, 1, 2, 2]


NUMBERED = tuple(f"{i}/{i}.png" for i in range(12))


def test_numbered_folders_are_ambiguous_in_text_order_until_an_order_is_given(plant, tmp_path):
    plant(tmp_path, *NUMBERED)
    unsure, text, natural = folder(tmp_path), folder(tmp_path, order="text"), folder(tmp_path, order="natural")
    assert "label 2: sorted as text (as torchvision does) it is '10'" in traits(unsure).ambiguous_order
    assert (traits(text).ambiguous_order, traits(natural).ambiguous_order) == ("", "")
    assert unsure.classes[:4] == text.classes[:4] == ("0", "1", "10", "11")
    assert {int(name.split("/")[1]): label for name, label in zip(natural.ids, natural.labels.tolist(), strict=True)} == {
        i: i for i in range(12)
    }
    assert unsure.fingerprint == text.fingerprint != natural.fingerprint


def test_a_class_map_numbers_the_folders_and_is_part_of_the_data_only_through_them(plant, tmp_path):
    root = plant(tmp_path / "x", *TREE)
    (tmp_path / "order.txt").write_text("cat\nape\nbee\n")
    (tmp_path / "sorted.txt").write_text("ape\nbee\ncat\n")
    mapped = folder(root, classes=str(tmp_path / "order.txt"))
    assert mapped.classes == ("cat", "ape", "bee")
    assert {name.split("/")[1]: label for name, label in zip(mapped.ids, mapped.labels.tolist(), strict=True)} == {
        "cat": 0,
        "ape": 1,
        "bee": 2,
    }
    assert folder(root, classes=str(tmp_path / "sorted.txt")).fingerprint == folder(root).fingerprint != mapped.fingerprint


def test_a_sample_is_the_file_decoded(plant, tmp_path):
    data = folder(plant(tmp_path, *TREE))
    for index, path in enumerate(data.read.paths):
        assert (data[index].image == np.asarray(Image.open(tmp_path / path).convert("RGB"))).all()


def test_moving_the_tree_changes_neither_ids_nor_fingerprint(plant, tmp_path):
    before = folder(plant(tmp_path / "here", *TREE))
    after = folder(shutil.move(tmp_path / "here", tmp_path / "there") and tmp_path / "there")
    assert (before.ids, before.fingerprint) == (after.ids, after.fingerprint)


@pytest.mark.parametrize(("old", "new"), [("ape/3.jpeg", "bee/3.jpeg"), ("cat/1.jpg", "cat/one.jpg"), ("ape/3.jpeg", None)])
def test_a_label_an_id_and_a_size_all_change_the_fingerprint(plant, tmp_path, old, new):
    before = folder(plant(tmp_path, *TREE)).fingerprint
    if new is None:
        (tmp_path / old).write_bytes((tmp_path / old).read_bytes() + b"\0")
    else:
        (tmp_path / old).rename(tmp_path / new)
    assert folder(tmp_path).fingerprint != before


def test_files_that_are_no_images_are_counted_and_left_out(plant, tmp_path):
    plant(tmp_path, *TREE)
    (tmp_path / "cat" / "notes.txt").write_text("nine lives")
    (tmp_path / "cat" / ".DS_Store").write_text("")
    (tmp_path / ".hidden").mkdir()
    data = folder(tmp_path)
    assert (len(data), str(data.ignored), len(data.classes)) == (4, "1 file with another ending (.txt)", 3)


def test_what_lies_among_the_images_and_is_not_read_is_counted_by_its_reason(plant, tmp_path):
    root = plant(tmp_path / "x", *TREE, "cat/.thumbs/1.png", "cat/.hidden.png", "cat/deep/._2.png")
    plant(tmp_path / "elsewhere", "1.png", "2.png")
    for name in ("cat/more", "bee/more", "cat/deep/more.jpg"):
        os.symlink(tmp_path / "elsewhere", root / name)
    for name in ("cat/a.AVIF", "cat/deep/b.avif", "ape/c.heic", "ape/LICENSE"):
        (root / name).touch()
    data = folder(root)
    assert len(data) == 4
    assert str(data.ignored) == "3 linked folders, 4 files with other endings (.avif, .heic, no ending), 2 hidden images or folders"


def test_what_lies_beside_the_classes_is_not_told(plant, tmp_path):
    plant(tmp_path, *TREE, "loose.png", ".git/1.png", "__MACOSX/cat/1.png")
    (tmp_path / "README.txt").touch()
    assert (str(folder(tmp_path).ignored), folder(tmp_path).classes) == ("", ("ape", "bee", "cat"))


def test_a_linked_class_is_a_class_and_so_is_one_that_begins_with_lines(plant, tmp_path):
    root = plant(tmp_path / "x", *TREE, "__background__/1.png")
    os.symlink(plant(tmp_path / "y", "dog/1.png") / "dog", root / "dog")
    assert folder(root).classes == ("__background__", "ape", "bee", "cat", "dog")
    assert (len(folder(root)), str(folder(root).ignored)) == (6, "")


@pytest.mark.parametrize("name", ["1.jfif", "1.jpe", "1.JFIF", "1.jp2", "1.pbm", "1.pnm"])
def test_every_usual_ending_of_what_pillow_reads_is_an_image(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    (tmp_path / "cat").mkdir()
    image = Image.fromarray(pixels).convert("1" if name.endswith("pbm") else "RGB")
    image.save(tmp_path / "cat" / name)
    data = folder(tmp_path)
    assert data.ids == (f"folder/cat/{name}",)
    assert (data[0].image == np.asarray(Image.open(tmp_path / "cat" / name).convert("RGB"))).all()


def test_files_are_not_opened_before_they_are_read(plant, tmp_path):
    plant(tmp_path, *TREE)
    (tmp_path / "cat" / "broken.jpg").write_bytes(b"not an image")
    data = folder(tmp_path)
    with pytest.raises(DataUnreadable, match=r"folder/cat/broken\.jpg: not an image"):
        data[data.ids.index("folder/cat/broken.jpg")]


def test_an_image_that_is_gone_is_named(plant, tmp_path):
    data = folder(plant(tmp_path, *TREE))
    (tmp_path / "bee" / "4.webp").unlink()
    with pytest.raises(DataUnreadable, match=r"folder/bee/4\.webp: No such file"):
        data[1]


def test_empty_image_files_are_named_at_the_door_the_first_few_and_their_number(plant, tmp_path):
    plant(tmp_path, *TREE)
    for i in range(7):
        (tmp_path / "cat" / f"{i}.png").touch()
    with pytest.raises(DataUnreadable, match=r"7 images .* are empty files: cat/0\.png, .*cat/4\.png and 2 more"):
        folder(tmp_path)


def test_a_broken_link_is_named(plant, tmp_path):
    plant(tmp_path, *TREE)
    os.symlink(tmp_path / "nowhere.jpg", tmp_path / "cat" / "link.jpg")
    with pytest.raises(DataUnreadable, match=r"link\.jpg: No such file"):
        folder(tmp_path)


@pytest.mark.parametrize(
    ("paths", "reason"),
    [((), "no folders"), (("loose.jpg",), "no folders"), (("train/cat/1.jpg", "val/cat/2.jpg"), "look like splits")],
)
def test_a_folder_without_classes_is_refused_with_the_reason(plant, tmp_path, paths, reason):
    with pytest.raises(DataMissing, match=reason):
        folder(plant(tmp_path, *paths))


def test_class_folders_without_images_are_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataMissing, match="holds no images"):
        folder(tmp_path)


def test_a_place_that_is_missing_or_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place, reason in ((None, "--data-dir"), (tmp_path / "gone", "nothing at"), (tmp_path / "file", "is a file")):
        with pytest.raises(DataMissing, match=reason):
            folder(place)


def test_a_name_that_is_no_utf8_still_makes_an_id(plant, tmp_path):
    plant(tmp_path, *TREE)
    shutil.copy(tmp_path / "cat" / "1.jpg", os.fsencode(tmp_path) + b"/cat/\xff.jpg")
    data = folder(tmp_path)
    assert "folder/cat/\\xff.jpg" in data.ids
    assert data[data.ids.index("folder/cat/\\xff.jpg")].image.shape == (20, 24, 3)
