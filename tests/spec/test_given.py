"""What a user gives is checked before anything is done with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from robustvit.errors import BadParameter
from robustvit.spec.given import check_path, check_whole, query_pairs, why_not_regular, why_not_small
from robustvit.spec.spec import MOST, parse, refuse_product


@pytest.mark.parametrize("path", ["n" * 256, "a/" * 2050, "a\0b", 5, None, b"x", ["x"]])
def test_what_no_file_is_called_is_refused(path: object) -> None:
    with pytest.raises(BadParameter, match=r"^--store is "):
        check_path(path, "--store")


def test_usual_paths_are_paths(tmp_path: Path) -> None:
    for path in ("", ".", "n" * 255, "é/→", tmp_path, str(tmp_path)):
        assert check_path(path, "--store") == Path(path)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("absent")
    with pytest.raises(BadParameter, match="leads back to itself"):
        check_path(tmp_path / "loop", "--store")
    assert check_path(tmp_path / "dangling", "--store").name == "dangling"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"12345")
    assert why_not_regular(tmp_path / "pipe") == "is a pipe"
    assert why_not_regular(Path("/dev/zero")) == "is a device"
    assert why_not_regular(tmp_path) == "is a folder"
    assert "No such file" in why_not_regular(tmp_path / "absent")
    assert (why_not_small(tmp_path / "file", 5), why_not_small(tmp_path / "file", 4)) == ("", "has 5 bytes, more than the 4 that are read")


@pytest.mark.parametrize("value", [-1, 11, True, 0.5, "5", None, float("nan"), 10**400])
def test_whole_numbers_are_whole_and_in_range(value: object) -> None:
    check_whole(0, "x", 0, 10)
    check_whole(10, "x", 0, 10)
    with pytest.raises(BadParameter, match=r"^x is .*whole number from 0 to 10"):
        check_whole(value, "x", 0, 10)


def test_a_parameter_that_occurs_twice_is_refused() -> None:
    assert query_pairs("a=1&b=", "x") == {"a": "1", "b": ""}
    assert query_pairs("", "x") == {}
    with pytest.raises(BadParameter, match="'split' occurs twice"):
        query_pairs("split=train&split=test", "data 'digits'")


def test_axes_are_counted_before_they_are_multiplied() -> None:
    axis = list(range(1, 101))
    with pytest.raises(BadParameter, match="multiply to 100,000,000 combinations"):
        parse({"pgd": {"eps": axis, "steps": axis, "restarts": axis, "step": axis}})
    refuse_product([MOST], "x")
    with pytest.raises(BadParameter):
        refuse_product([MOST, 2], "x")
