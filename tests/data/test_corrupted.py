import shutil

import pytest

from robustvit.data.annotations.wnids import wnids
from robustvit.data.corrupted import imagenet_3dcc, imagenet_c, imagenet_cbar
from robustvit.data.imagenet import imagenet
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import traits

DOG, FISH = wnids()[207], wnids()[1]
NAMES = (f"{DOG}/ILSVRC2012_val_00000001.JPEG", f"{FISH}/ILSVRC2012_val_00000002.JPEG")


@pytest.mark.parametrize("group", ["", "weather/"])
def test_a_severity_is_found_where_the_archives_put_it(plant, tmp_path, group):
    plant(tmp_path, *(f"{group}fog/3/{name}" for name in NAMES))
    data = imagenet_c(tmp_path, corruption="fog", severity=3)
    assert dict(zip(data.ids, data.labels.tolist(), strict=True)) == {
        "imagenet/val/ILSVRC2012_val_00000001": 207,
        "imagenet/val/ILSVRC2012_val_00000002": 1,
    }
    assert (data.name, data.source, len(data.classes)) == ("imagenet-c", "released", 1000)


def test_ids_are_those_of_the_clean_images(plant, tmp_path):
    plant(tmp_path / "clean" / "val", *NAMES)
    plant(tmp_path / "c" / "fog" / "1", *NAMES)
    assert set(imagenet_c(tmp_path / "c", corruption="fog").ids) == set(imagenet(tmp_path / "clean").ids)


def test_the_traits_are_those_of_the_corruption(plant, tmp_path):
    plant(tmp_path, *(f"z_motion_blur/2/{name}" for name in NAMES))
    own = traits(imagenet_3dcc(tmp_path, corruption="z_motion_blur", severity=2))
    assert (own.base, own.scenario, own.severity, own.cut, own.fleeting) == ("imagenet", "z_motion_blur", "2", 224, True)


def test_a_missing_corruption_names_what_is_there(plant, tmp_path):
    plant(tmp_path, *(f"sparkles/1/{name}" for name in NAMES))
    with pytest.raises(DataMissing, match=r"no folder 'inverse_sparkles'.*Did you mean 'sparkles'"):
        imagenet_cbar(tmp_path, corruption="inverse_sparkles")


def test_a_missing_severity_names_what_is_there(plant, tmp_path):
    plant(tmp_path, *(f"fog/1/{name}" for name in NAMES))
    with pytest.raises(DataMissing, match=r"no folder '5'.*holds 1"):
        imagenet_c(tmp_path, corruption="fog", severity=5)


def test_folders_that_are_no_classes_are_refused(plant, tmp_path):
    plant(tmp_path, "fog/1/cat/a.JPEG", f"fog/1/{NAMES[0]}")
    with pytest.raises(DataUnreadable, match="not among ImageNet's thousand classes: cat"):
        imagenet_c(tmp_path, corruption="fog")


def test_other_files_of_the_same_names_are_other_data(plant, tmp_path):
    plant(tmp_path, *(f"fog/1/{name}" for name in NAMES))
    shutil.copytree(tmp_path / "fog" / "1", tmp_path / "fog" / "2")
    plant(tmp_path, *(f"fog/3/{name}" for name in NAMES[::-1]))
    marks = [imagenet_c(tmp_path, corruption="fog", severity=s).fingerprint for s in (1, 2, 3)]
    assert marks[0] == marks[1] != marks[2]


def test_class_folders_without_images_are_refused(plant, tmp_path):
    plant(tmp_path, f"fog/1/{NAMES[0]}")
    (tmp_path / "fog/1" / FISH).mkdir()
    with pytest.raises(DataUnreadable, match=rf"'imagenet-c': 1 of the 2 class folders in .*fog/1 hold no images: {FISH}"):
        imagenet_c(tmp_path, corruption="fog")
