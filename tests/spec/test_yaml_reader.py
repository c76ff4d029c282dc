import pytest

from robustvit.errors import SuiteError
from robustvit.spec.yaml_reader import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1e-3", 0.001),
        ("0o7", "0o7"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("true", True),
        ("~", None),
        (".5", 0.5),
        ("4/255", "4/255"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(f"key: {text}", "x.yaml")["key"]
    assert found == value
    assert type(found) is type(value)


def test_every_node_has_its_line() -> None:
    page = parse_yaml("a: 1\nb:\n  - x\n  - y: 2\n", "x.yaml")
    assert page.places["b"] == "x.yaml:2"
    assert page["b"].places == ["x.yaml:3", "x.yaml:4"]
    assert page["b"][1].where == "x.yaml:4"


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: &x [*x]", "a: !!python/object:os.system {}", "a: [", "- 1", "1: 2", "a: !!binary aGk="])
def test_what_is_not_a_plain_document_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(SuiteError, match=r"x\.yaml"):
        parse_yaml(text, "x.yaml")


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 7)]
    with pytest.raises(SuiteError, match="unfolds to more than"):
        parse_yaml("\n".join(lines), "x.yaml")


def test_a_document_nested_too_deeply_is_refused() -> None:
    with pytest.raises(SuiteError, match="nested too deeply"):
        parse_yaml("a: " + "[" * 5000 + "]" * 5000, "x.yaml")
