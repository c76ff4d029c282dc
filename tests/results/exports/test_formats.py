"""The table of export formats: a module is a format."""

import importlib
import pkgutil

import pytest

from robustvit.results import exports
from robustvit.results.export import FORMATS
from robustvit.results.exports.formats import file_of_label, format_name, format_names, format_of, load_format

MODULES = sorted(one.name for one in pkgutil.iter_modules(exports.__path__) if one.name != "formats")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_one_documented_format_of_its_name(module: str) -> None:
    found = format_of(importlib.import_module(f"robustvit.results.exports.{module}"))
    assert found.name == format_name(module)
    assert found.files.__doc__
    assert load_format(found.name) is found


def test_the_leaderboard_takes_every_format() -> None:
    assert format_names() == tuple(sorted(map(format_name, MODULES)))
    assert set(format_names()) <= set(FORMATS)
    assert len(FORMATS) == len(set(FORMATS))


@pytest.mark.parametrize(("label", "name"), [("vit_b16", "vit_b16"), ("hf/ORG/x+tome(r=8)", "hf_ORG_x+tome_r_8"), ("../..", "model")])
def test_labels_are_names_of_files(label: str, name: str) -> None:
    assert file_of_label(label) == name
