"""One number in one call is the one of a run and its leaderboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import BadParameter, RobustvitError, UnknownName


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("score")
    (place / "s.yaml").write_text(
        "{name: s, title: s, data: digits, metrics: [top1, nll, robust_accuracy], "
        "scenarios: [clean, fog: {severity: [3, 5]}, pgd: {eps: 4/255, steps: 3}]}"
    )
    rv.run(place / "s.yaml", ["demo"], store=place / "r", limit=20)
    return rv.leaderboard(place / "r")


@pytest.mark.parametrize(
    ("scenario", "params", "metric", "where"),
    [
        ("clean", {}, None, {"scenario": "clean", "metric": "top1"}),
        ("fog", {"severity": 5}, None, {"scenario": "fog", "severity": "5", "metric": "top1"}),
        ("fog(severity=3)", {}, "nll", {"scenario": "fog", "severity": "3", "metric": "nll"}),
        ("pgd", {"eps": "4/255", "steps": 3}, None, {"scenario": "pgd", "metric": "robust_accuracy"}),
        ("pgd(eps=4/255)", {"steps": 3}, "top1", {"scenario": "pgd", "metric": "top1"}),
    ],
)
def test_a_score_is_the_number_of_a_run(
    board: Any, scenario: str, params: dict[str, Any], metric: str | None, where: dict[str, str]
) -> None:
    found = rv.score("demo", "digits", scenario, metric=metric, limit=20, **params)
    (row,) = board[(board[list(where)] == list(where.values())).all(axis=1)].to_dict("records")
    assert {name: getattr(found, name) for name in ("value", "low", "high", "n", "unit", "metric")} == {
        name: row[name] for name in ("value", "low", "high", "n", "unit", "metric")
    }
    assert (found.model, found.data) == ("demo", "digits")
    assert f"{found.value:.1f} [" in str(found)
    assert f"n = {found.n}" in found._repr_html_()


def test_a_store_keeps_the_rows_and_each_call_has_its_own_cell(tmp_path: Path) -> None:
    first = [rv.score("demo", "digits", f"fog(severity={level})", limit=20, store=tmp_path / "r") for level in (1, 5)]
    again = rv.score("demo", "digits", "fog(severity=1)", limit=20, store=tmp_path / "r")
    assert again == first[0] != first[1]
    assert len(rv.Store(tmp_path / "r").questions()) == 2


def test_nothing_is_left_where_no_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rv.score("demo", "digits", limit=4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "params", "error", "message"),
    [
        (("demo", "digits", "pgdd"), {}, UnknownName, "Did you mean 'pgd'"),
        (("demo", "digitz"), {}, UnknownName, "Did you mean 'digits'"),
        (("demoo", "digits"), {}, RobustvitError, "demo"),
        (("demo", "digits", "fog"), {"severity": [1, 2]}, BadParameter, "the lists among severity stand for 2"),
        (("demo", "digits", "columns"), {"width": 4}, BadParameter, "'columns' is a certificate, which has several metrics; name one"),
        (("demo", "digits", "clean"), {"metric": "brierr"}, UnknownName, "brier"),
        (("demo", "digits", "clean"), {"metric": "robust_accuracy"}, BadParameter, "'clean' has no 'robust_accuracy'"),
        (("demo", "digits", "fog"), {"severity": 9}, BadParameter, "severity"),
        (("demo", "digits", "fog"), {"severity": 1, "limit": -1}, BadParameter, "limit"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: tuple[str, ...], params: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        rv.score(*words, **params)
    assert "\n" not in str(caught.value)


class Sums(nn.Module):
    """Logits, or what a function makes of them."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.line, self.change = nn.Linear(192, 10), change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.line(images.flatten(1)))


def given(change: Callable[[Tensor], Tensor], name: str) -> rv.Classifier:
    return rv.Classifier(Sums(change), mean=0.5, std=0.5, size=8, name=name)


def test_a_number_that_is_undefined_says_so_and_why() -> None:
    found = rv.score(given(lambda logits: logits.softmax(1), "p"), "digits", metric="nll", limit=20)
    assert str(found).startswith("nll of p on digits, clean: undefined, the model's outputs are probabilities, not logits")
    assert "<b>undefined, the model" in found._repr_html_()


def test_a_failure_is_raised_and_not_logged_as_well(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    broken = given(lambda logits: logits * torch.nan, "broken")
    with pytest.raises(RobustvitError, match="'clean' failed: model 'broken' gives logits that are not finite"):
        rv.score(broken, "digits", limit=20)
    assert not caplog.records
    rv.run("quick", [broken], store=tmp_path / "r", limit=20)
    assert "clean on broken failed" in caplog.text
