from pathlib import Path

import pytest

from robustvit.errors import RobustvitError, SuiteError
from robustvit.spec.suite_file import load_suite, read_suite, suite_files

GOOD = """
name: mine
title: Mine
data: digits
scenarios:
  - clean
  - pgd: {eps: [1/255, 4/255], steps: 5}
metrics: [top1]
"""

PARTS = (
    GOOD[: GOOD.index("data:")]
    + """parts:
  - data: {digits: {split: train}}
    scenarios: [clean, {fog: {severity: [1, 2]}}]
  - data: [{digits: {ink: grey}}, {digits: {ink: coloured}}]
    scenarios: [clean]
metrics: [top1]
"""
)


def suite(tmp_path: Path, text: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return read_suite(path, "mine.yaml")


@pytest.mark.parametrize("name", suite_files())
def test_every_suite_that_ships_loads_and_names_its_source(name: str) -> None:
    found = load_suite(name)
    assert found.name == name
    assert found.paper
    assert found.citation
    assert found.licence
    assert found.rules


@pytest.mark.parametrize(("old", "new", "message"), [
    ("scenarios: [clean]", "scenario: [clean]", r"mine\.yaml:7: a part of a suite has no key 'scenario'. Did you mean 'scenarios'"),
    ("    scenarios: [clean]\n", "", r"mine\.yaml:7: a part of a suite needs the key 'scenarios'"),
    ("parts:", "data: digits\nparts:", "has both"),
    ("ink: coloured", "ink: grey", "occurs twice"),
    ("[clean, {fog", "[clean, clean, {fog", "occurs twice"),
])  # fmt: skip
def test_parts_that_cannot_be_right_are_refused_with_their_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        suite(tmp_path, PARTS.replace(old, new))


@pytest.mark.parametrize(("old", "new", "message"), [
    ("scenarios:", "scenario:", r"mine\.yaml:5: a suite has no key 'scenario'. Did you mean 'scenarios'"),
    ("metrics: [top1]", "", "a suite needs the key 'metrics'"),
    ("name: mine", "name: My Suite!", "name: String should match"),
    ("steps: 5", "epsilon: 5", r"mine\.yaml:7: attack 'pgd' has no parameter 'epsilon'. .*It takes eps, norm"),
    ("- clean", "- clena", r"mine\.yaml:6: no corruption, attack, .* is called 'clena'. Did you mean 'clean'"),
    ("metrics: [top1]", "metrics: [top_1]", r"mine\.yaml:8: no metric is called 'top_1'. Did you mean 'top1'"),
    ("data: digits", "data: digit", r"mine\.yaml:4: no data is called 'digit'. Did you mean 'digits'"),
    ("- clean", "- fog: {severity: 6}", r"severity is 6; it takes one of 1, 2, 3, 4, 5"),
    ("- clean", "- fog: {severity: [3, 3]}", "occurs twice"),
])  # fmt: skip
def test_mistakes_are_named_with_their_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RobustvitError, match=message) as caught:
        suite(tmp_path, GOOD.replace(old, new))
    assert caught.value.exit_code == 2


def test_an_unknown_suite_gets_the_nearest() -> None:
    with pytest.raises(SuiteError, match="Did you mean 'imagenet-c'"):
        load_suite("imagenet_c")


@pytest.mark.parametrize(("line", "message"), [
    ("seeds: [0, 0]", "seeds are different whole numbers"), ("seeds: [-1]", "greater than or equal to 0"),
    ("seeds: [9223372036854775808]", r"mine\.yaml:9: seeds\.0: .* less than or equal to 9223372036854775807"),
    ("view: {img_size: 0}", r"mine\.yaml:9: --img-size is 0"), ("view: {size: 3}", "a view has no key 'size'"),
])  # fmt: skip
def test_seeds_and_views_are_checked_at_the_door(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        suite(tmp_path, GOOD + line + "\n")
