import pytest

from robustvit.batch import traits
from robustvit.data.imagenet import imagenet
from robustvit.data.shifts import imagenet_a, imagenet_o, imagenet_r, imagenet_sketch, imagenet_v2
from robustvit.data.wnids import listed, wnids
from robustvit.errors import DataMissing, DataUnreadable

SUBSETS = {"imagenet_a": imagenet_a, "imagenet_o": imagenet_o, "imagenet_r": imagenet_r}


@pytest.mark.parametrize("name", SUBSETS)
def test_a_subset_is_read_among_its_classes_and_among_all(plant, tmp_path, name):
    classes = listed(name)
    plant(tmp_path / name.replace("_", "-"), f"{classes[199]}/x.jpg", f"{classes[0]}/x.jpg")
    data = SUBSETS[name](tmp_path)
    assert sorted(data.labels.tolist()) == [0, 199]
    assert [(one.name, one.classes) for one in data.readings] == [("mask", 200), ("1000way", 1000)]
    assert data.readings[0].columns == tuple(wnids().index(wnid) for wnid in classes)
    assert len(set(data.ids)) == 2


def test_the_lists_have_the_overlaps_of_the_papers():
    a, o, r = (set(listed(f"imagenet_{name}")) for name in "aor")
    assert (len(a), len(o), len(r), len(a & r), len(a & o)) == (200, 200, 200, 86, 59)


def test_a_folder_that_is_no_class_of_the_set_is_refused(plant, tmp_path):
    absent = next(wnid for wnid in wnids() if wnid not in listed("imagenet_a"))
    plant(tmp_path, f"{listed('imagenet_a')[0]}/x.jpg", f"{absent}/x.jpg")
    with pytest.raises(DataUnreadable, match=f"1 of 2 folders .* not among its 200 classes: {absent}"):
        imagenet_a(tmp_path)


def test_folders_of_the_second_validation_set_are_numbers(plant, tmp_path):
    plant(tmp_path / "imagenetv2-top-images-format-val", "2/a.jpeg", "10/b.jpeg", "999/c.jpeg")
    data = imagenet_v2(tmp_path, split="top-images")
    assert dict(zip(data.ids, data.labels.tolist(), strict=True)) == {
        "imagenet-v2/top-images/2/a": 2, "imagenet-v2/top-images/10/b": 10, "imagenet-v2/top-images/999/c": 999,
    }  # fmt: skip
    assert (traits(data).base, traits(data).scenario) == ("imagenet", "imagenet-v2-top-images")


def test_a_folder_without_numbers_is_no_second_validation_set(plant, tmp_path):
    plant(tmp_path, "cat/a.jpeg")
    with pytest.raises(DataMissing, match="named by class index, 0 to 999"):
        imagenet_v2(tmp_path)


def test_sketches_are_of_all_classes(plant, tmp_path):
    plant(tmp_path / "sketch", f"{wnids()[3]}/sketch_1.JPEG", f"{wnids()[999]}/sketch_1.JPEG")
    data = imagenet_sketch(tmp_path)
    assert sorted(data.labels.tolist()) == [3, 999]
    assert len(data.readings) == 1


def test_validation_images_of_the_same_classes_are_labelled_as_the_shifted_set_labels_them(plant, tmp_path):
    inside, outside = listed("imagenet_r")[7], next(wnid for wnid in wnids() if wnid not in listed("imagenet_r"))
    plant(tmp_path / "val", f"{inside}/ILSVRC2012_val_00000001.JPEG", f"{outside}/ILSVRC2012_val_00000002.JPEG")
    data = imagenet(tmp_path, classes="imagenet-r")
    assert (data.ids, data.labels.tolist()) == (("imagenet/val/ILSVRC2012_val_00000001",), [7])
    assert [one.name for one in data.readings] == ["mask", "1000way"]
    assert traits(data).scenario == "val-of-imagenet-r"
