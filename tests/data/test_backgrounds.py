import pytest
import torch

from robustvit.batch import traits
from robustvit.data.backgrounds import imagenet_9, reading
from robustvit.errors import DataMissing, DataUnreadable


def test_a_variant_is_found_with_the_order_of_its_classes(plant, tmp_path):
    plant(tmp_path / "bg_challenge", "mixed_rand/val/08_fish/a.JPEG", "mixed_rand/val/00_dog/a.JPEG")
    data = imagenet_9(tmp_path, variant="mixed_rand")
    assert dict(zip(data.ids, data.labels.tolist(), strict=True)) == {
        "imagenet-9/mixed_rand/00_dog/a": 0, "imagenet-9/mixed_rand/08_fish/a": 8,
    }  # fmt: skip
    assert (traits(data).scenario, traits(data).cut) == ("mixed_rand", 224)


def test_the_best_of_a_thousand_classes_speaks_for_its_group():
    groups = reading().groups
    assert [len(group) for group in groups] == [116, 52, 42, 36, 35, 27, 26, 20, 16, 630]
    logits = torch.randn(400, 1000, generator=torch.Generator().manual_seed(0))
    group_of = {index: label for label, group in enumerate(groups) for index in group}
    expected = [group_of[int(best)] for best in logits.argmax(dim=1)]
    assert reading().read(logits).argmax(dim=1).tolist() == expected


def test_a_class_of_none_of_the_nine_is_wrong():
    logits = torch.zeros(1, 1000)
    logits[0, reading().groups[9][0]] = 5.0
    logits[0, 207] = 4.0  # a dog, second
    assert reading().read(logits).argmax(dim=1).item() == 9


def test_other_folders_are_refused(plant, tmp_path):
    plant(tmp_path, "original/val/cat/a.JPEG")
    with pytest.raises(DataUnreadable, match="holds cat"):
        imagenet_9(tmp_path)
    with pytest.raises(DataMissing, match="holds no_fg/val"):
        imagenet_9(tmp_path, variant="no_fg")
