"""Hundreds of hostile calls: each ends in one clear message and an exit code of the house; nothing absurd is taken, nothing hangs."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
from hostile import commands
from hostile.answers import SOME, answered, faults, hostile_calls
from hostile.calls import Call, fault
from hostile.values import values

LEAST = 200  # calls in the usual run


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)])
def test_hostile_calls_are_refused_with_a_message(whole: bool, tmp_path: Path) -> None:
    calls = list(chain.from_iterable(hostile_calls(SOME, tmp_path, whole=whole).values()))
    assert len(calls) >= LEAST
    wrong = faults(calls, answered(calls, tmp_path))
    assert not wrong, f"{len(wrong)} of {len(calls)} calls:\n" + "\n".join(wrong)


def test_every_parameter_of_every_command_has_a_kind() -> None:
    known = set(values("f"))
    for command, params in commands.parameters().items():
        assert set(params) - {"help"} == set(commands.KINDS[command]), command
        assert set(commands.KINDS[command].values()) <= known


JUDGED = [
    ({"code": 0, "err": ""}, "accepted"),
    ({"code": 2, "err": ""}, "silent"),
    ({"code": 2, "err": "no such thing"}, ""),
    ({"code": 1, "err": "Traceback (most recent call last)"}, "traceback"),
    ({"code": 70, "err": "x"}, "traceback"),
    ({"code": -9, "err": "x"}, "traceback"),
    ({"code": None, "err": "", "hung": True}, "hang"),
    ({"code": 2, "err": "x" * 5000}, "long"),
]


@pytest.mark.parametrize(("answer", "expected"), JUDGED)
def test_an_answer_is_judged(answer: dict[str, object], expected: str) -> None:
    assert fault(Call("x"), {"out": "", "hung": False, **answer}) == expected
