from pathlib import Path

import pytest

from robustvit.errors import BadParameter, DataUnreadable
from robustvit.spec import registry
from robustvit.spec.data_address import default_places, parse_data, places_in, resolve_root
from robustvit.spec.spec import Spec


@pytest.mark.parametrize(
    ("text", "spec", "place"),
    [
        ("digits", Spec("digits"), None),
        ("imagenet?split=train", Spec("imagenet", (("split", "train"),)), None),
        ("folder:/data/mine", Spec("folder"), Path("/data/mine")),
        ("npz:a/b.npz?classes=10", Spec("npz", (("classes", "10"),)), Path("a/b.npz")),
        ("hfds/timm/mini?split=val", Spec("hfds", (("name", "timm/mini"), ("split", "val"))), None),
        ("tfds/mnist_corrupted/fog?split=test", Spec("tfds", (("name", "mnist_corrupted/fog"), ("split", "test"))), None),
        ("wds/shards/val", Spec("wds"), Path("shards/val")),
        ("folder:what?/mine", Spec("folder"), Path("what?/mine")),
        ("my.module:birds", Spec("my.module:birds"), None),
    ],
)
def test_an_address_is_parsed_to_a_name_parameters_and_a_place(text, spec, place):
    assert parse_data(text) == (spec, place)


@pytest.mark.parametrize("text", ["folder:", "hfds/", "wds//", "digits?split=a&b"])
def test_an_address_with_a_part_missing_is_refused(text):
    with pytest.raises(BadParameter, match="data '"):
        parse_data(text)


def test_the_users_folder_is_searched_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTVIT_DATA", str(tmp_path / "all"))
    assert resolve_root("birds", None) is None
    (tmp_path / "data" / "birds").mkdir(parents=True)
    assert resolve_root("birds", None) == Path("data/birds")
    (tmp_path / "all" / "birds").mkdir(parents=True)
    assert resolve_root("birds", None) == tmp_path / "all" / "birds"
    assert resolve_root("birds", tmp_path) == tmp_path


def test_the_places_are_in_the_order_of_the_search(monkeypatch):
    monkeypatch.setenv("ROBUSTVIT_DATA", "/all")
    assert list(default_places("birds")) == ["$ROBUSTVIT_DATA/birds", "./data/birds"]


def test_a_folder_that_is_given_is_the_data_or_holds_it_under_its_name(tmp_path):
    assert resolve_root("birds", tmp_path) == tmp_path
    (tmp_path / "birds").mkdir()
    assert resolve_root("birds", str(tmp_path)) == tmp_path / "birds"
    assert resolve_root("imagenet", tmp_path) == tmp_path
    assert places_in("birds", tmp_path) == [tmp_path / "birds", tmp_path]


def test_a_folder_of_classes_is_never_one_of_its_classes(tmp_path):
    (tmp_path / "folder").mkdir()
    assert resolve_root("folder", tmp_path) == tmp_path


DECLARED = {
    name: entry.folders for name, entry in registry.entries("data").items() if entry.folders
}  # by data set: the further names of its folder


def test_some_data_sets_have_folders_of_other_names():
    assert DECLARED["cifar10-c"] == ("CIFAR-10-C",)
    assert {"cifar10", "cifar100", "cifar100-c"} <= set(DECLARED)


@pytest.mark.parametrize(("name", "folder"), [(name, one) for name, folders in DECLARED.items() for one in folders])
def test_a_folder_is_found_under_every_name_that_is_declared_whatever_its_case(tmp_path, monkeypatch, name, folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTVIT_DATA", str(tmp_path / "all"))
    (tmp_path / "all" / folder.swapcase()).mkdir(parents=True)
    assert resolve_root(name, tmp_path / "all") == resolve_root(name, None) == tmp_path / "all" / folder.swapcase()
    assert tmp_path / "all" / folder in (*places_in(name, tmp_path / "all"), tmp_path)
    assert f"./data/{folder}" in default_places(name)


def test_two_folders_that_may_be_the_data_set_are_refused_with_both_names(tmp_path):
    for one in ("CIFAR-10-C", "cifar10-C"):
        (tmp_path / one).mkdir()
    with pytest.raises(DataUnreadable, match=r"holds CIFAR-10-C/ and cifar10-C/, and either may be this data set"):
        resolve_root("cifar10-c", tmp_path)


def test_two_names_of_one_folder_are_one(tmp_path):
    (tmp_path / "CIFAR-10-C").mkdir()
    (tmp_path / "cifar10-c").symlink_to("CIFAR-10-C")
    assert resolve_root("cifar10-c", tmp_path) == tmp_path / "CIFAR-10-C"
