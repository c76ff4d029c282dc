from pathlib import Path

import pytest

from robustvit.errors import BadParameter
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
