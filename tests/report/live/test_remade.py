"""A value is made again only where what it is made of has changed, one at a time, and seldom."""

from __future__ import annotations

import threading

import pytest

from robustvit.report.live.remade import Remade


class Maker:
    """Makes values as soon as it may, and takes `cost` seconds of a clock that stands still otherwise."""

    def __init__(self, cost: float = 1.0) -> None:
        self.cost, self.time, self.begun, self.made = cost, 0.0, list[str](), list[str]()
        self.gate = threading.Event()
        self.gate.set()

    def clock(self) -> float:
        return self.time

    def __call__(self, of: str) -> str:
        self.begun.append(of)
        assert self.gate.wait(30)
        self.time += self.cost
        self.made.append(of)
        return of.upper()


def test_a_value_of_the_same_is_made_once() -> None:
    maker = Maker()
    value = Remade(maker, patience=30.0, clock=maker.clock)
    assert [value.latest("a") for _ in range(3)] == [("A", "a")] * 3
    assert maker.made == ["a"]


def test_between_two_makings_lies_nine_times_as_long_as_one_takes() -> None:
    maker = Maker(cost=2.0)
    value = Remade(maker, patience=30.0, clock=maker.clock)
    value.latest("a")  # over at 2
    maker.time = 19.9
    assert value.latest("b") == ("A", "a")
    maker.time = 20.1
    assert value.latest("b") == ("B", "b")


def test_nobody_waits_longer_than_their_patience_and_one_is_made_at_a_time() -> None:
    maker = Maker(cost=0.0)
    maker.gate.clear()
    value = Remade(maker, patience=0.01, clock=maker.clock)
    assert [value.latest("a"), value.latest("b")] == [None, None]
    assert not value.wait(0.01)
    maker.gate.set()
    assert value.wait(30)
    assert maker.begun == ["a"]


def test_a_making_that_fails_leaves_the_last_value_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def make(of: str) -> str:
        if of == "bad":
            raise ZeroDivisionError
        return of

    value = Remade(make, patience=30.0, clock=lambda: 0.0)
    assert [value.latest(of) for of in ("a", "bad", "c")] == [("a", "a"), ("a", "a"), ("c", "c")]
