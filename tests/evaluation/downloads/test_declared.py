from dataclasses import replace

import pytest

from robustvit.errors import BadParameter
from robustvit.evaluation.downloads.declared import downloads_of
from robustvit.spec import registry

ENTRY = registry.lookup("data", "imagenet-3dcc")
FETCHED = [name for name, entry in registry.entries("data").items() if entry.downloads]


@pytest.mark.parametrize("name", FETCHED)
def test_every_download_is_declared_right_and_says_where_its_checksum_was_read(name):
    files = downloads_of(registry.lookup("data", name))
    assert len({one.url for one in files}) == len(files)
    assert all(one.source for one in files if one.checksum or one.size)
    assert all(one.url.startswith(("https://", "hf://")) for one in files)


@pytest.mark.parametrize("name", FETCHED)
def test_every_choice_of_parameters_has_a_file(name):
    entry = registry.lookup("data", name)
    files = downloads_of(entry)
    for param in entry.params:
        for value in param.hint.choices:
            assert any(one.serves({param.name: value}) for one in files), (param.name, value)


def test_braces_stand_for_the_values_of_a_parameter():
    files = downloads_of(ENTRY)
    assert len(files) == 12
    assert [one.file for one in files if one.serves({"corruption": "flash", "severity": 3})] == ["flash.tar.gz"]


def test_a_parameter_that_is_left_open_needs_all_files():
    files = downloads_of(registry.lookup("data", "imagenet-c"))
    assert sum(one.serves({}) for one in files) == 5
    assert [one.file for one in files if one.serves({"corruption": "fog"})] == ["weather.tar"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "file:///etc/passwd"}, "no address that can be fetched"),
        ({"url": "ftp://a/b.tar"}, "no address that can be fetched"),
        ({}, "no address that can be fetched"),
        ({"url": "https://a/b.tar", "md5": "abc"}, "no md5, which has 32 digits"),
        ({"url": "https://a/b.tar", "sha265": "abc"}, "Did you mean 'sha256'"),
        ({"url": "https://a/b.tar", "into": "../x"}, "leads out of the folder"),
        ({"url": "https://a/b.tar", "only": {"coruption": ("fog",)}}, "Did you mean 'corruption'"),
    ],
)
def test_a_wrong_declaration_is_refused(given, said):
    with pytest.raises(BadParameter, match=said):
        downloads_of(replace(ENTRY, downloads=(given,)))
