import shutil

import pytest
from layouts import LAYOUTS
from layouts import plant as planted

from robustvit.data.annotations.wnids import listed, wnids
from robustvit.data.imagenet import imagenet
from robustvit.data.shifts import imagenet_a, imagenet_o, imagenet_r, imagenet_sketch, imagenet_v2
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import traits

SUBSETS = {"imagenet_a": imagenet_a, "imagenet_o": imagenet_o, "imagenet_r": imagenet_r}


@pytest.mark.parametrize("name", SUBSETS)
def test_a_subset_is_read_among_its_classes_and_among_all(tmp_path, name):
    classes = listed(name)
    data = SUBSETS[name](planted(tmp_path, LAYOUTS[name.replace("_", "-")]()))
    assert data.labels.tolist() == list(range(200))
    assert [(one.name, one.classes) for one in data.readings] == [("mask", 200), ("1000way", 1000)]
    assert data.readings[0].columns == tuple(wnids().index(wnid) for wnid in classes)
    assert len(set(data.ids)) == 200


def test_the_lists_have_the_overlaps_of_the_papers():
    a, o, r = (set(listed(f"imagenet_{name}")) for name in "aor")
    assert (len(a), len(o), len(r), len(a & r), len(a & o)) == (200, 200, 200, 86, 59)


def test_a_folder_that_is_no_class_of_the_set_is_refused(plant, tmp_path):
    absent = next(wnid for wnid in wnids() if wnid not in listed("imagenet_a"))
    plant(planted(tmp_path, LAYOUTS["imagenet-a"]()), f"{absent}/x.jpg")
    with pytest.raises(DataUnreadable, match=f"1 of 201 folders are not among its 200 classes: {absent}"):
        imagenet_a(tmp_path)


def test_missing_classes_are_counted_and_named(plant, tmp_path):
    classes = listed("imagenet_a")
    plant(tmp_path, *(f"{classes[i]}/x.jpg" for i in (0, 2, 199)))
    with pytest.raises(DataUnreadable, match=f"holds 3 of its 200 class folders; missing {classes[1]}, {classes[3]}, .* and 192 more"):
        imagenet_a(tmp_path)


def test_a_misspelt_class_is_missing_and_too_many_at_once(tmp_path):
    wnid = listed("imagenet_r")[5]
    place = planted(tmp_path, LAYOUTS["imagenet-r"]()) / "imagenet-r"
    (place / wnid).rename(place / f"{wnid}0")
    with pytest.raises(
        DataUnreadable, match=f"holds 199 of its 200 .* missing {wnid}; 1 of 200 folders .*: {wnid}0. Did you mean '{wnid}'"
    ):
        imagenet_r(tmp_path)


def test_class_folders_without_images_are_counted_and_named(tmp_path):
    place = planted(tmp_path, LAYOUTS["imagenet-o"]()) / "imagenet-o"
    empty = [listed("imagenet_o")[i] for i in (4, 9)]
    for wnid in empty:
        (place / wnid / "x.jpg").unlink()
    with pytest.raises(DataUnreadable, match=f"2 of the 200 class folders in .* hold no images: {empty[0]}, {empty[1]}"):
        imagenet_o(tmp_path)


def test_the_second_validation_set_is_the_same_in_folders_named_by_wnid(tmp_path):
    one = planted(tmp_path / "numbers", LAYOUTS["imagenet-v2, its plain name"]())
    other = tmp_path / "wnids" / "imagenetv2-matched-frequency"
    other.mkdir(parents=True)
    for label, wnid in enumerate(wnids()):
        shutil.copytree(one / "imagenetv2-matched-frequency" / str(label), other / wnid)
    before, after = imagenet_v2(one), imagenet_v2(other)
    assert dict(zip(before.ids, before.labels.tolist(), strict=True)) == dict(zip(after.ids, after.labels.tolist(), strict=True))
    assert before.fingerprint == after.fingerprint
    shutil.copytree(other / wnids()[5], other / "5")
    with pytest.raises(DataUnreadable, match="1 of 1001 folders are not among its 1000 classes: 5"):
        imagenet_v2(other)


def test_class_folders_of_no_known_set_are_refused_by_wnid_too(tmp_path):
    (tmp_path / wnids()[3]).mkdir()
    with pytest.raises(DataMissing, match=rf"its folders {wnids()[3]} are classes, which are the same in all three sets"):
        imagenet_v2(tmp_path)


def test_folders_of_the_second_validation_set_are_numbers(tmp_path):
    data = imagenet_v2(planted(tmp_path, LAYOUTS["imagenet-v2"]()), split="top-images")
    labels = dict(zip(data.ids, data.labels.tolist(), strict=True))
    assert labels == {f"imagenet-v2/top-images/{label}/x": label for label in range(1000)}
    assert (traits(data).base, traits(data).scenario) == ("imagenet", "imagenet-v2-top-images")


def test_a_folder_without_numbers_is_no_second_validation_set(plant, tmp_path):
    plant(tmp_path, "imagenetv2-top-images/cat/a.jpeg")
    with pytest.raises(DataMissing, match=r"holds none of its 1000 class folders \(0, 1, 2, 3, 4 and 995 more\); it holds cat"):
        imagenet_v2(tmp_path, split="top-images")
    with pytest.raises(DataMissing, match=r"holds no imagenetv2-matched-frequency/ or .*; it holds imagenetv2-top-images\."):
        imagenet_v2(tmp_path)


def test_a_folder_named_after_a_set_is_that_set_alone(tmp_path):
    root = planted(tmp_path, LAYOUTS["imagenet-v2"]()) / "imagenetv2-top-images-format-val"
    assert imagenet_v2(root, split="top-images").ids == imagenet_v2(tmp_path, split="top-images").ids
    with pytest.raises(
        DataMissing, match=r"has neither name itself; its folders 0, 1, .* are classes, which are the same in all three sets"
    ):
        imagenet_v2(root, split="threshold-0.7")


@pytest.mark.parametrize("name", ["imagenetv2-threshold0.7-format-val", "imagenetv2-threshold0.7", "imagenetv2-threshold-0.7"])
def test_the_folder_that_the_released_archive_of_threshold_unpacks_to_is_found(tmp_path, name):
    root = planted(tmp_path, LAYOUTS["imagenet-v2"]())
    (root / "imagenetv2-top-images-format-val").rename(root / name)
    assert imagenet_v2(root, split="threshold-0.7").ids[0] == "imagenet-v2/threshold-0.7/0/x"


@pytest.mark.parametrize("split", ["matched-frequency", "threshold-0.7", "top-images"])
def test_class_folders_that_no_name_says_the_set_of_are_refused(tmp_path, split):
    root = planted(tmp_path, LAYOUTS["imagenet-v2"]()) / "imagenetv2-top-images-format-val"
    with pytest.raises(DataMissing, match=rf"Name the folder of the thousand classes of this set imagenetv2-{split}, "):
        imagenet_v2(root.rename(tmp_path / "imagenet-v2"), split=split)


def test_numbers_beyond_the_thousand_are_counted(plant, tmp_path):
    place = planted(tmp_path, LAYOUTS["imagenet-v2, its plain name"]()) / "imagenetv2-matched-frequency"
    plant(place, "1000/x.jpeg", "007/x.jpeg")
    shutil.rmtree(place / "7")
    with pytest.raises(DataUnreadable, match=r"holds 999 of its 1000 class folders; missing 7; 2 of 1001 folders .*: 007, 1000"):
        imagenet_v2(tmp_path)


def test_sketches_are_of_all_classes(tmp_path):
    data = imagenet_sketch(planted(tmp_path, LAYOUTS["imagenet-sketch"]()))
    assert data.labels.tolist() == list(range(1000))
    assert len(data.readings) == 1


def test_validation_images_of_the_same_classes_are_labelled_as_the_shifted_set_labels_them(plant, tmp_path):
    inside, outside = listed("imagenet_r")[7], next(wnid for wnid in wnids() if wnid not in listed("imagenet_r"))
    plant(tmp_path / "val", f"{inside}/ILSVRC2012_val_00000001.JPEG", f"{outside}/ILSVRC2012_val_00000002.JPEG")
    data = imagenet(tmp_path, classes="imagenet-r")
    assert (data.ids, data.labels.tolist()) == (("imagenet/val/ILSVRC2012_val_00000001",), [7])
    assert [one.name for one in data.readings] == ["mask", "1000way"]
    assert traits(data).scenario == "val-of-imagenet-r"
