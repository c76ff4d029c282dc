import pytest
import torch
from layouts import IN9, LAYOUTS
from layouts import plant as planted

from robustvit.data.backgrounds import imagenet_9, reading
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import traits


def test_a_variant_is_found_with_the_order_of_its_classes(tmp_path):
    data = imagenet_9(planted(tmp_path, LAYOUTS["imagenet-9, only_bg_t"]()), variant="only_bg_t")
    assert dict(zip(data.ids, data.labels.tolist(), strict=True)) == {f"imagenet-9/only_bg_t/{name}/fg_x": i for i, name in enumerate(IN9)}
    assert (traits(data).scenario, traits(data).cut) == ("only_bg_t", 224)


@pytest.fixture
def nine(tmp_path):
    """The class folders of a variant."""
    return planted(tmp_path, LAYOUTS["imagenet-9, original"]()) / "bg_challenge/original/val"


def test_folders_whose_numbers_and_names_disagree_are_refused(nine, tmp_path):
    (nine / "00_dog").rename(nine / "01_dog")
    (nine / "01_bird").rename(nine / "00_bird")
    with pytest.raises(DataUnreadable, match=r"2 folders in .* disagree: 00_bird, 01_dog. The right names are 01_bird, 00_dog"):
        imagenet_9(tmp_path)


def test_a_missing_coarse_class_is_named(nine, tmp_path):
    (nine / "02_wheeled vehicle").rename(nine / "02_vehicle")
    with pytest.raises(DataUnreadable, match=r"holds 8 of its 9 class folders; missing 02_wheeled vehicle; 1 of 9 .*: 02_vehicle"):
        imagenet_9(tmp_path)


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
    with pytest.raises(DataMissing, match="it holds cat"):
        imagenet_9(tmp_path)
    with pytest.raises(DataMissing, match="holds no_fg/val"):
        imagenet_9(tmp_path, variant="no_fg")
