"""Data sets of TensorFlow Datasets: a stand-in of the package, and the package itself where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from robustvit.data.hubs import tfds as module
from robustvit.data.hubs.tfds import tfds
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, MissingExtra
from robustvit.evaluation.loading import load_data

needs_tfds = pytest.mark.skipif(
    any(importlib.util.find_spec(one) is None for one in module._PACKAGES),
    reason="the packages of robustvit[tfds] are not installed",
)


class Builder:
    """Four records of two classes, as a prepared builder gives them."""

    def __init__(self, records, name="birds"):
        self.records = records
        features = {"image": object(), "label": SimpleNamespace(names=["ape", "bee"]), "file": object()}
        self.info = SimpleNamespace(name=name, full_name=f"{name}/1.0.0", data_dir="/there", features=features, splits={"test": None})

    def as_data_source(self, split, decoders):
        if split != "test":
            raise ValueError(f"Unknown split '{split}'.\nA long list")
        assert set(decoders) == {"image"}
        return self.records


@pytest.fixture
def package(encoded, monkeypatch):
    """Puts a stand-in in the place of the package; returns the builder whose records may be changed."""
    builder = Builder([{"image": encoded(i), "label": i % 2, "file": b""} for i in range(4)])

    def by_name(name, data_dir):
        if not name.startswith("birds"):
            raise ImportError(f"Dataset {name} not found.\nThe list of them")
        return builder

    stand_in = SimpleNamespace(
        builder=by_name, builder_from_directory=lambda place: builder, decode=SimpleNamespace(SkipDecoding=lambda: "skip")
    )
    monkeypatch.setattr(module, "_PACKAGES", ())
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", stand_in)
    return builder


def test_the_records_of_a_split_are_the_data(package, encoded):
    data = load_data("tfds/birds/grey?split=test")
    assert (data.name, data.classes, data.labels.tolist()) == ("tfds/birds/grey", ("ape", "bee"), [0, 1, 0, 1])
    assert data.ids[3] == "tfds/birds/grey/test/00000003"
    assert (data[3].image == np.asarray(Image.open(io.BytesIO(encoded(3))))).all()


def test_the_folder_of_a_prepared_version_is_opened(package, tmp_path):
    assert load_data(f"tfds:{tmp_path}").name == "tfds/birds"


def test_other_images_are_another_fingerprint(package, encoded):
    one = tfds(None, name="birds").fingerprint
    package.records[2]["image"] = encoded(9)
    assert tfds(None, name="birds").fingerprint != one


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"name": "bird"}, DataMissing, r"bird cannot be opened: Dataset bird not found\.$"),
        ({"name": "../birds"}, BadParameter, "is no name of a data set"),
        ({"name": "huggingface:birds"}, BadParameter, "is no name of a data set"),
        ({"name": "birds", "split": "val"}, DataMissing, r"split 'val' of birds/1.0.0 .*: Unknown split 'val'\. .* the splits test"),
        ({"name": "birds", "image": "imag"}, BadParameter, "no feature 'imag'. Did you mean 'image'"),
        ({"name": "birds", "label": "file"}, BadParameter, "feature 'file' of birds/1.0.0 holds no classes"),
        ({}, DataMissing, "data 'tfds' needs its files"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_refused_by_name(package, asked, error, message):
    with pytest.raises(error, match=message):
        tfds(None, **asked)


def test_labels_of_no_class_and_a_split_without_records_are_refused(package):
    package.records[1]["label"] = -1  # as the package marks labels that are withheld
    with pytest.raises(DataUnreadable, match=r"1 rows have no class from 0 to 1: 1 \(-1\)"):
        tfds(None, name="birds")
    package.records = []
    with pytest.raises(DataMissing, match="has no records"):
        tfds(None, name="birds")


def test_without_the_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(module, "_PACKAGES", ("numpy", "no_such_package"))
    with pytest.raises(MissingExtra, match=r"robustvit\[tfds\]"):
        load_data("tfds/cifar10")


@needs_tfds
def test_the_package_itself_gives_what_it_was_given(encoded, tmp_path: Path):
    library = importlib.import_module("tensorflow_datasets")

    class Birds(library.core.GeneratorBasedBuilder):
        VERSION = library.core.Version("1.0.0")

        def _info(self):
            shape = library.features.Image(shape=(None, None, 3))
            features = {"image": shape, "label": library.features.ClassLabel(names=["ape", "bee"])}
            return library.core.DatasetInfo(builder=self, features=library.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"test": self._generate_examples()}

        def _generate_examples(self):
            for i in range(6):
                yield f"{i}", {"image": io.BytesIO(encoded(i)), "label": i % 2}

    for form in ("array_record", "tfrecord"):
        Birds(data_dir=str(tmp_path / form), file_format=form).download_and_prepare(file_format=form)
    data = load_data(f"tfds:{tmp_path / 'array_record/birds/1.0.0'}")
    assert (data.name, data.classes, len(data)) == ("tfds/birds", ("ape", "bee"), 6)
    known = {np.asarray(Image.open(io.BytesIO(encoded(i)))).tobytes(): i for i in range(6)}
    order = [known[data[row].image.tobytes()] for row in range(6)]
    assert sorted(order) == list(range(6))
    assert data.labels.tolist() == [i % 2 for i in order]
    assert data.fingerprint == load_data(f"tfds:{tmp_path / 'array_record/birds/1.0.0'}").fingerprint
    with pytest.raises(DataMissing, match=r"split 'test' of birds/1\.0\.0 cannot be read: Random access .* file_format='array_record'"):
        load_data(f"tfds:{tmp_path / 'tfrecord/birds/1.0.0'}")
