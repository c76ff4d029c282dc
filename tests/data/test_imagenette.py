import shutil

import pytest

from robustvit.data.annotations.wnids import wnids
from robustvit.data.imagenette import _IMAGENETTE, _IMAGEWOOF, imagenette, imagewoof
from robustvit.errors import DataMissing, DataUnreadable


@pytest.mark.parametrize("inner", [".", "imagenette2-320"])
def test_the_ten_classes_are_read_among_themselves_and_among_all(plant, tmp_path, inner):
    plant(tmp_path / inner, *(f"val/{wnid}/x.JPEG" for wnid in _IMAGENETTE))
    data = imagenette(tmp_path)
    assert data.labels.tolist() == list(range(10))
    assert [one.name for one in data.readings] == ["mask", "1000way"]
    assert data.readings[0].columns == tuple(wnids().index(wnid) for wnid in _IMAGENETTE)


def test_both_lists_are_ten_classes_of_imagenet_in_order():
    for classes in (_IMAGENETTE, _IMAGEWOOF):
        assert len(set(classes) & set(wnids())) == 10
        assert list(classes) == sorted(classes)
    assert all(151 <= wnids().index(wnid) <= 275 for wnid in _IMAGEWOOF)  # dogs, and the dingo


def test_a_missing_and_an_extra_class_are_named(plant, tmp_path):
    plant(tmp_path, *(f"val/{wnid}/x.JPEG" for wnid in _IMAGEWOOF))
    shutil.rmtree(tmp_path / "val" / _IMAGEWOOF[3])
    plant(tmp_path, f"val/{_IMAGENETTE[0]}/x.JPEG")
    with pytest.raises(DataUnreadable, match=f"9 of its 10 class folders; missing {_IMAGEWOOF[3]}; 1 of 10 .*: {_IMAGENETTE[0]}"):
        imagewoof(tmp_path)


def test_a_missing_split_is_an_error(plant, tmp_path):
    plant(tmp_path, *(f"val/{wnid}/x.JPEG" for wnid in _IMAGENETTE))
    with pytest.raises(DataMissing, match="holds train/"):
        imagenette(tmp_path, split="train")
