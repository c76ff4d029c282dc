import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from robustvit.data.hubs import hub
from robustvit.data.hubs.hub import hfds
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, MissingExtra
from robustvit.primitives.batch import traits

needs_datasets = pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the package datasets is not installed")


@pytest.fixture
def stored(encoded, tmp_path, monkeypatch):
    """A folder with a validation split of four images in parquet; returns it and a cache folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()

    def write(labels=(2, 0, 1, 2), kind=None):
        features = datasets.Features({"image": datasets.Image(), "label": kind or datasets.ClassLabel(names=["ape", "bee", "cat"])})
        rows = {"image": [{"bytes": encoded(i), "path": None} for i in range(4)], "label": list(labels)}
        (tmp_path / "birds").mkdir()
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "birds" / "validation.parquet")
        return {"root": tmp_path / "cache", "name": str(tmp_path / "birds")}

    return write


@needs_datasets
def test_the_rows_of_a_split_are_the_data(stored, encoded):
    data = hfds(**stored())
    assert data.classes == ("ape", "bee", "cat")
    assert data.labels.tolist() == [2, 0, 1, 2]
    assert [name.rpartition("/")[2] for name in data.ids] == ["00000000", "00000001", "00000002", "00000003"]
    assert (data[3].image == np.asarray(Image.open(io.BytesIO(encoded(3))))).all()


@needs_datasets
def test_the_fingerprint_is_the_same_each_time_and_changes_with_the_rows(stored):
    place = stored()
    assert hfds(**place).fingerprint == hfds(**place).fingerprint
    assert hfds(**place, split="validation[:3]").fingerprint != hfds(**place).fingerprint


@needs_datasets
def test_another_split_or_column_than_there_is_is_refused(stored):
    place = stored()
    for wrong in ({"split": "exam"}, {"image": "picture"}):
        with pytest.raises(DataMissing, match=f"{next(iter(wrong.values()))}.* (cannot be loaded|is absent)"):
            hfds(**place, **wrong)


@needs_datasets
def test_a_split_without_labels_is_refused(stored):
    with pytest.raises(DataUnreadable, match=r"4 rows hold none: 0 \(-1\), 1 \(-1\)"):
        hfds(**stored(labels=(-1, -1, -1, -1)))


@needs_datasets
def test_class_folders_are_numbered_as_the_order_says_and_are_ambiguous_without(plant, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    plant(tmp_path / "x", *(f"validation/c{i}/{i}.png" for i in (1, 2, 10)))
    unsure, natural = hfds(tmp_path / "x"), hfds(tmp_path / "x", order="natural")
    assert (unsure.classes, natural.classes) == (("c1", "c10", "c2"), ("c1", "c2", "c10"))
    assert [[data.classes[label] for label in data.labels] for data in (unsure, natural)] == [["c1", "c10", "c2"]] * 2
    assert "label 1" in traits(unsure).ambiguous_order
    assert not traits(natural).ambiguous_order
    assert unsure.fingerprint != natural.fingerprint


@needs_datasets
def test_an_order_of_classes_that_the_data_set_numbers_itself_is_refused(stored):
    with pytest.raises(BadParameter, match="numbers its classes itself"):
        hfds(**stored(), order="natural")


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'robustvit\[datasets\]'"):
        hfds(None, name="org/birds")
