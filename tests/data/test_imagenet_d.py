import pytest
import torch

from robustvit.data.annotations.wnids import wnids
from robustvit.data.imagenet_d import imagenet_d, objects
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import traits


def test_an_object_is_any_of_its_classes_among_all_thousand(plant, tmp_path):
    data = imagenet_d(plant(tmp_path, "ImageNet-D/texture/chair/a.png", "ImageNet-D/texture/wok/b.png"), nuisance="texture")
    chair, wok = (list(objects()).index(name) for name in ("chair", "wok"))
    assert dict(zip(data.ids, data.labels.tolist(), strict=True)) == {
        "imagenet-d/texture/chair/a": chair,
        "imagenet-d/texture/wok/b": wok,
    }
    logits = torch.zeros(5, len(wnids()))
    for row, column in enumerate((423, 559, 765, 909, 0)):  # three kinds of chair, a wok, and a fish
        logits[row, column] = 1
    every, masked = data.readings
    assert every.read(logits).argmax(dim=1).tolist() == [chair, chair, chair, wok, 113]
    assert masked.read(logits).argmax(dim=1).tolist()[:4] == [chair, chair, chair, wok]
    assert (traits(data).base, traits(data).scenario) == ("imagenet", "imagenet-d-texture")


def test_the_table_has_113_objects_of_classes_of_their_own():
    columns = [column for group in objects().values() for column in group]
    assert len(objects()) == 113
    assert len(set(columns)) == len(columns) == 125
    assert objects()["helmet"] == (518, 560)
    assert wnids()[objects()["banana"][0]] == "n07753592"


def test_a_part_that_is_not_there_and_folders_of_other_objects_are_refused(plant, tmp_path):
    plant(tmp_path, "background/chair/a.png", "background/chairs/b.png", "questions/x.png")
    with pytest.raises(DataMissing, match=r"neither .* nor ImageNet-D/ in it holds material/; it holds background, questions"):
        imagenet_d(tmp_path, nuisance="material")
    with pytest.raises(DataUnreadable, match=r"1 of 2 folders in .* are none of its 113 objects: chairs\. Did you mean 'chair'"):
        imagenet_d(tmp_path)


def test_an_object_without_images_is_named(plant, tmp_path):
    plant(tmp_path, "background/chair/a.png")
    (tmp_path / "background/wok").mkdir()
    with pytest.raises(DataUnreadable, match=r"1 of the 2 class folders in .* hold no images: wok"):
        imagenet_d(tmp_path)
