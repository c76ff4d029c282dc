"""The names of classes that loaders find."""

from __future__ import annotations

import timm
from torch import nn

from robustvit.models.classes import classes_of_timm
from robustvit.primitives.modules.class_names import classes_of_labels, classes_of_module


def test_names_come_from_lists_and_from_whole_mappings() -> None:
    assert classes_of_labels({1: "b", 0: "a"}) == classes_of_labels({"1": "b", "0": "a"}) == classes_of_labels(["a", "b"]) == ("a", "b")


def test_a_mapping_with_a_hole_and_other_things_name_nothing() -> None:
    assert [classes_of_labels(one) for one in ({0: "a", 2: "c"}, {0: "a", 1: None}, [1, 2], None, "ab")] == [()] * 5


def test_a_model_of_imagenet_has_its_wnids_unless_its_configuration_names_others() -> None:
    built = timm.create_model("resnet10t")
    assert classes_of_timm(built)[:2] == ("n01440764", "n01443537")
    built.pretrained_cfg["label_names"] = ["cat", "dog"]
    assert classes_of_timm(built) == ("cat", "dog")
    assert classes_of_timm(timm.create_model("resnet10t", num_classes=7)) == ()


def test_a_module_names_its_classes_itself() -> None:
    module = nn.Linear(2, 2)
    assert classes_of_module(module) == ()
    module.classes = ["cat", "dog"]
    assert classes_of_module(module) == ("cat", "dog")
