import pytest

from robustvit import registry
from robustvit.loading import load_data
from robustvit.sources import status


def test_the_digits_are_found_everywhere():
    about = status("digits")
    assert (about["found"], about["images"], about["classes"]) == (True, 500, 10)


def test_a_data_set_that_is_absent_tells_where_it_was_looked_for_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTVIT_DATA", str(tmp_path / "all"))
    about = status("imagenet")
    assert not about["found"]
    assert about["looked"] == [str(tmp_path / "all" / "imagenet"), str(tmp_path / "data" / "imagenet")]
    assert about["told"].startswith(f"not found; looked in {tmp_path}/all/imagenet and {tmp_path}/data/imagenet. Register at")


def test_a_data_set_that_cannot_be_opened_tells_why(tmp_path):
    about = status("folder", tmp_path)
    assert not about["found"]
    assert "has no folders in it" in about["told"]


def test_a_data_set_in_its_usual_place_is_found_and_counted(plant, tmp_path, monkeypatch):
    monkeypatch.chdir(plant(tmp_path, "data/folder/cat/1.png", "data/folder/dog/2.png"))
    (tmp_path / "data/folder/dog/notes.txt").touch()
    about = status("folder")
    assert about["told"] == "2 images of 2 classes in data/folder, 1 other files left out"
    assert load_data("folder").fingerprint == about["fingerprint"]


@pytest.mark.parametrize("name", list(registry.entries("data")))
def test_every_data_set_says_how_to_get_it_and_on_what_terms(name):
    entry = registry.lookup("data", name)
    assert entry.rules
    assert entry.source
    assert entry.licence
