"""Parameters as tables write them, read back."""

from __future__ import annotations

import pytest

from robustvit.results.parameters import differing_parameters, parsed_parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("norm=l2, steps=3", {"norm": "l2", "steps": "3"}),
        ("attack=pgd(steps=3, source=f(x)), eot=1", {"attack": "pgd(steps=3, source=f(x))", "eot": "1"}),
        ("path=a(b, c=1", {"path": "a(b", "c": "1"}),
        ("blocks=[3, 6], data=digits(part=a=b)", {"blocks": "[3, 6]", "data": "digits(part=a=b)"}),
    ],
)
def test_what_brackets_hold_stays_together(text: str, expected: dict[str, str]) -> None:
    assert parsed_parameters(text) == expected


def test_parameters_that_all_share_tell_nothing() -> None:
    others = ["a=1, b=2", "a=1, b=3", "a=1"]
    assert [differing_parameters(one, others) for one in others] == ["b=2", "b=3", ""]
