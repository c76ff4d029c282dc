import pytest
from layouts import LAYOUTS, plant_images
from layouts import plant as planted

from robustvit.cli.commands.data_status import describe, status, variant_name
from robustvit.errors import UnknownName
from robustvit.evaluation.loading import load_data
from robustvit.spec import registry


def test_the_digits_are_found_everywhere():
    about = status("digits")
    assert (about["found"], about["images"], about["classes"]) == (True, 500, 10)


def test_the_status_of_an_absent_data_set_names_the_places_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTVIT_DATA", str(tmp_path / "all"))
    about = status("imagenet")
    assert not about["found"]
    assert about["looked"] == [str(tmp_path / "all" / "imagenet"), str(tmp_path / "data" / "imagenet")]
    assert about["told"].startswith(f"not found; looked in {tmp_path}/all/imagenet and {tmp_path}/data/imagenet. Register at")


def test_the_status_of_a_data_set_that_cannot_be_opened_has_the_reason(tmp_path):
    about = status("folder", tmp_path)
    assert not about["found"]
    assert "has no folders in it" in about["told"]


def test_a_data_set_in_its_usual_place_is_found_and_counted(tmp_path, monkeypatch):
    plant_images(tmp_path, ["data/folder/cat/1.png", "data/folder/dog/2.png"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/folder/dog/notes.txt").touch()
    about = status("folder")
    assert about["told"] == "2 images of 2 classes in data/folder; left out: 1 file with another ending (.txt)"
    assert about["left_out"] == "1 file with another ending (.txt)"
    assert load_data("folder").fingerprint == about["fingerprint"]


def test_classes_whose_order_is_ambiguous_are_said_to_be_so_and_orders_are_no_variants(tmp_path):
    plant_images(tmp_path, ["1/1.png", "2/2.png", "10/3.png"])
    (variant,) = describe("folder", tmp_path)["variants"]
    assert variant["params"] == {}
    for told in (variant["told"], status("folder", tmp_path)["told"]):
        assert f"3 images of 3 classes in {tmp_path}. data 'folder': the names of its 3 classes do not say which is label 1" in told


@pytest.mark.parametrize("name", list(registry.entries("data")))
def test_every_data_set_says_how_to_get_it_and_on_what_terms(name):
    entry = registry.lookup("data", name)
    assert entry.rules
    assert entry.source
    assert entry.licence


def test_the_status_of_an_incomplete_set_counts_its_images(tmp_path):
    about = status("imagenet-a", planted(tmp_path, LAYOUTS["imagenet-a"]()))
    assert (about["images"], about["expected"]) == (200, 7_500)
    assert about["told"] == f"200 of 7,500 images of 200 classes in {tmp_path}"


def test_every_split_is_described_by_its_name(tmp_path):
    about = describe("imagenet-v2", planted(tmp_path, LAYOUTS["imagenet-v2"]()))
    described = {variant_name(one["params"]): one for one in about["variants"]}
    assert {name: one["found"] for name, one in described.items()} == {
        "split=matched-frequency": False, "split=threshold-0.7": False, "split=top-images": True,
    }  # fmt: skip
    assert described["split=top-images"]["images"] == 1000
    assert "holds no imagenetv2-threshold-0.7/ or " in described["split=threshold-0.7"]["told"]
    assert about["found"]
    assert about["doc"].startswith("ImageNetV2, one of its three sets.")


def test_an_address_narrows_the_variants(tmp_path):
    about = describe("imagenet-v2?split=top-images", planted(tmp_path, LAYOUTS["imagenet-v2"]()))
    assert [(one["params"], one["found"]) for one in about["variants"]] == [({"split": "top-images"}, True)]


def test_classes_without_images_and_facts_are_named_and_refused_choices_left_out(tmp_path):
    about = describe("imagenet?classes=all&factors=none", planted(tmp_path, LAYOUTS["imagenet with reassessed labels"]()))
    described = {variant_name({k: one["params"][k] for k in ("split", "labels")}): one for one in about["variants"]}
    assert set(described) == {"split=val, labels=original", "split=val, labels=real", "split=train, labels=original"}
    assert len(described["split=val, labels=real"]["absent"]) == 996
    assert described["split=val, labels=real"]["facts"] == ["fact_real"]


def test_every_corruption_and_severity_is_a_variant(tmp_path):
    about = describe("imagenet-c", planted(tmp_path, LAYOUTS["imagenet-c"]()))
    assert [variant_name(one["params"]) for one in about["variants"] if one["found"]] == ["corruption=fog, severity=3"]
    assert len(about["variants"]) == 19 * 5


def test_a_set_made_of_another_has_no_variants_and_an_unknown_one_is_refused():
    assert describe("sequences")["variants"] == []
    with pytest.raises(UnknownName, match="imagenet-v2"):
        describe("imagenet-v3")


@pytest.mark.parametrize("given", ["all", "all/imagenet-a"])
def test_a_data_set_is_found_in_the_folder_that_is_given_or_under_its_name_there(tmp_path, given):
    planted(tmp_path / "all/imagenet-a", LAYOUTS["imagenet-a"]())
    about = describe("imagenet-a", tmp_path / given)
    assert (about["found"], about["where"]) == (True, str(tmp_path / "all/imagenet-a"))
    assert status("imagenet-a", tmp_path / given)["images"] == 200
    assert load_data("imagenet-a", data_dir=tmp_path / given).fingerprint == about["variants"][0]["fingerprint"]


def test_two_folders_of_one_data_set_are_told_without_stopping_the_list(tmp_path):
    for one in ("CIFAR-10-C", "cifar10-c"):
        (tmp_path / one).mkdir()
    found = status("cifar10-c", tmp_path)
    assert (found["found"], found["where"]) == (False, None)
    assert "holds CIFAR-10-C/ and cifar10-c/" in found["told"]
    assert not describe("cifar10-c", tmp_path)["found"]
