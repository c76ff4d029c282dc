"""Hundreds of hostile calls: each ends in one clear message and an exit code of the house; nothing absurd is taken, nothing hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from conftest import answers, write_store
from hostile import api, commands, contents, files, plugins, stores
from hostile.calls import Call, fault
from hostile.values import values

WHOLE = "ROBUSTVIT_HOSTILE" in os.environ  # all calls; as a rule one in some, and at least one of each parameter
SOME = {"options": 4, "contents": 1, "plug-ins": 1, "api": 2}
GROUPS = [*SOME, *(["stores"] if WHOLE else [])]  # of stores, what each odd table should come to is still to be settled
LEAST = 500  # calls in the usual run


def hostile_calls(group: str, place: Path) -> Iterator[Call]:
    """The calls of a group, on hostile files that are written into a folder, `f`."""
    root, whole = files.write(place / "f"), place / "whole"
    write_store(whole, {("a", "clean", ""): answers([True] * 6 + [False] * 2), ("b", "clean", ""): answers([True] * 4 + [False] * 4)})
    stores.write(root, whole)
    if group == "options":
        yield from commands.hostile_calls(str(root))
    elif group == "contents":
        yield from contents.hostile_calls(root)
    elif group == "stores":
        yield from contents.calls_on_stores(root, whole)
    elif group == "plug-ins":
        yield from plugins.hostile_calls(root)
    else:
        yield from api.hostile_calls(str(root / "store"))


def some(calls: Iterable[Call], every: int) -> list[Call]:
    """One call in `every`, and the first for each parameter, file or function; all of them where that is wished."""
    chosen, seen = [], set[str]()
    for number, call in enumerate(calls):
        subject = " ".join(call.name.split(" ")[:2])
        if WHOLE or number % every == 0 or subject not in seen:
            chosen.append(call)
        seen.add(subject)
    return chosen


def faults(calls: list[Call], place: Path) -> list[str]:
    """A line for each call whose answer is wrong."""
    (place / "calls.json").write_text(json.dumps([call.as_json() for call in calls]))
    paths = [str(place / "f"), *filter(None, [os.environ.get("PYTHONPATH")])]
    words = [sys.executable, str(Path(__file__).with_name("zygote.py")), str(place / "calls.json"), str(place / "answers.jsonl")]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"})
    given = [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]
    wrong = [(fault(call, answer), call, answer) for call, answer in zip(calls, given, strict=True)]
    return [f"{what}: {call.name} ({one['code']}): {(one['err'] or one['out'])[-300:]}" for what, call, one in wrong if what]


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_hostile_calls_are_refused_with_a_message(group: str, tmp_path: Path) -> None:
    calls = some(hostile_calls(group, tmp_path), SOME.get(group, 1))
    wrong = faults(calls, tmp_path)
    assert not wrong, f"{len(wrong)} of {len(calls)} calls:\n" + "\n".join(wrong)


@pytest.mark.slow
def test_there_are_hundreds(tmp_path: Path) -> None:
    assert sum(len(some(hostile_calls(group, tmp_path / group), every)) for group, every in SOME.items()) >= LEAST


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
