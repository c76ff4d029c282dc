"""Numbers of other versions of a plug-in, or of other images under one name, are never put beside each other unmarked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import robustvit as rv
from robustvit.errors import StoreError
from robustvit.evaluation.run import run
from robustvit.records.manifest import DataFacts
from robustvit.results.comparison import compare, flips
from robustvit.results.editions import Edition, differences, edition_texts, mixed, unequal
from robustvit.results.leaderboard import build_leaderboard, leaderboard
from robustvit.results.summary import summary

SUITE = "name: s\ntitle: S\ndata: digits\nscenarios: [clean, {graded: {severity: [1, 2, 3, 4, 5]}}]\nmetrics: [top1, corruption_error]\n"
FEWER = SUITE.replace("[1, 2, 3, 4, 5]", "[1, 2]")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(SUITE)
    (tmp_path / "fewer.yaml").write_text(FEWER)
    return tmp_path / "s.yaml"


@pytest.fixture
def registered() -> Any:
    """Registers the corruption `graded` in a version; the second is stronger."""
    from robustvit.spec import registry

    def register(version: int) -> None:
        @rv.corruption(name="graded", version=version, severity="severity")
        def graded(images: Any, draws: Any, *, severity: rv.Severity = 1) -> Any:
            return (images * (1 - 0.15 * severity * version)).clamp(0, 1)

    yield register
    registry._LIVE.pop(("corruption", "graded"), None)


def digits(tmp_path: Path, name: str, change: Any = lambda x: x) -> str:
    """Sixty digits as files, all of one size in bytes."""
    data = rv.load_data("digits")
    for i in range(60):
        path = tmp_path / name / str(data[i].label) / f"{i:03d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(change(data[i].image)).save(path)
    return f"folder:{tmp_path / name}"


def other_model() -> rv.Classifier:
    return rv.load_model("demo").relabel("other")


@pytest.fixture
def two_versions(suite: Path, registered: Any, tmp_path: Path) -> Path:
    """A store with version 1 of a corruption for one model and version 2 for another."""
    for version, model in ((1, rv.load_model("demo")), (2, _changed())):
        registered(version)
        run(suite, [model], store=tmp_path / "store", limit=60)
    return tmp_path / "store"


def _changed() -> rv.Classifier:
    import torch

    model = other_model()
    with torch.no_grad():
        next(iter(model.model.parameters())).add_(1e-3)
    return model


def test_models_under_two_versions_of_a_corruption_are_not_compared(two_versions):
    table = compare(two_versions, "demo", "other").set_index(["scenario", "severity"])
    assert (table.loc["graded", "verdict"] == "other versions: graded 1 and 2").all()
    assert table.loc["graded", "p"].isna().all()
    assert table.loc[("clean", ""), "verdict"] == "no difference shown"
    with pytest.raises(StoreError, match="graded 1 of 'digits' is not compared; other versions: graded 1 and 2"):
        flips(two_versions, "demo", "other")


def test_tables_mark_the_versions_that_models_have_in_one_column(two_versions):
    board = leaderboard(two_versions)
    assert sorted(summary(board)["differs"]) == ["graded 1", "graded 2"]
    alone = summary(leaderboard(two_versions, models=["demo"]))
    assert "differs" not in alone


def test_an_average_over_two_versions_is_undefined(suite, registered, tmp_path):
    registered(1)
    run(suite, ["demo"], store=tmp_path / "store", limit=20)
    registered(2)
    run(tmp_path / "fewer.yaml", ["demo"], store=tmp_path / "store", limit=20)
    board = leaderboard(tmp_path / "store")
    row = board[(board["metric"] == "corruption_error") & (board["scenario"] == "graded")].iloc[0]
    assert (row["status"], row["reason"]) == ("undefined", "graded was computed as version 1 and as version 2")
    assert np.isnan(row["value"])


def test_models_on_other_images_under_one_name_are_not_compared(suite, registered, tmp_path):
    registered(1)
    places = digits(tmp_path, "a"), digits(tmp_path, "b", lambda x: 255 - x)
    for place, model in zip(places, (rv.load_model("demo"), _changed()), strict=True):
        run(suite, [model], place, store=tmp_path / "store", limit=60)
    table = compare(tmp_path / "store", "demo", "other")
    marks = [rv.load_data(place).fingerprint[:6] for place in places]
    assert set(table["verdict"]) == {f"other images of 'folder': content {marks[0]} and {marks[1]}"}
    assert set(summary(leaderboard(tmp_path / "store"))["differs"]) == {f"folder {mark}" for mark in marks}


def edition(fog: str = "1", content: str = "aaaaaaa", data: str = "d", **more: Any) -> Edition:
    return Edition(frozenset({("fog", fog), ("clean", "1")}), data, content, **more)


def test_editions_are_mixed_where_a_name_has_two_versions_or_two_contents():
    assert mixed([edition(), edition(data="e", content="b"), Edition()]) == ""
    assert mixed([edition(), edition("2")]) == "fog was computed as version 1 and as version 2"
    assert mixed([edition(), edition(content="bbbbbbb")]) == "data 'd' has 2 contents (aaaaaa, bbbbbb)"


def test_two_sides_are_unequal_where_what_they_share_differs():
    assert unequal(edition(), edition()) == "" == unequal(edition(), Edition())
    assert unequal(edition(), edition("3")) == "other versions: fog 1 and 3"
    assert unequal(edition(), edition(content="bbbbbbb")) == "other images of 'd': content aaaaaa and bbbbbb"


def test_a_row_names_what_it_stands_on():
    (text,) = edition_texts([[edition(), edition("2", by_names=True)]])
    assert text.plugins == "clean 1, fog 1, fog 2"
    assert text.contents == "d aaaaaa, d aaaaaa (by names and sizes)"


def test_data_of_an_earlier_version_is_said_to_be_known_by_names(suite, registered, tmp_path):
    import json

    registered(1)
    run(suite, ["demo"], digits(tmp_path, "a"), store=tmp_path / "store", limit=10)
    assert not build_leaderboard(tmp_path / "store").rows["contents"].str.contains("by names").any()
    for path in (tmp_path / "store" / "runs").glob("*.json"):
        page = json.loads(path.read_text())
        for facts in page["data"].values():
            del facts["identified_by"]
        del page["checksum"]  # earlier versions wrote none
        path.write_text(json.dumps(page))
    contents = build_leaderboard(tmp_path / "store").rows["contents"]
    assert len(contents) > 0
    assert contents.str.contains("by names and sizes").all()


def test_a_board_says_that_a_model_was_evaluated_on_other_images_of_the_name_too(suite, registered, tmp_path, caplog):
    registered(1)
    for place in (digits(tmp_path, "a"), digits(tmp_path, "b", lambda x: 255 - x)):
        run(suite, ["demo"], place, store=tmp_path / "store", limit=10)
    caplog.clear()
    assert len(leaderboard(tmp_path / "store")) > 0
    leaderboard(tmp_path / "store")
    told = [record.message for record in caplog.records if "two sets of images called 'folder'" in record.message]
    assert len(told) == 1


def test_a_nested_data_set_is_one_thing_with_one_version_and_content() -> None:
    nested = {"name": "patches", "kind": "data", "version": 1, "params": {"fingerprint": "99c30b2a9a7a"}}
    scenario = {"name": "pasted", "kind": "corruption", "version": 2, "params": {"of": nested}}
    description = {"scenario": scenario, "data": {"name": "digits", "params": {}}, "data_fingerprint": "f"}
    facts = DataFacts(label="digits", name="digits", base="digits", classes=10, n=1, asked=1)
    one = Edition.of(description, facts)
    assert one.plugins == {("pasted", "2"), ("patches", "1/99c30b")}
    assert mixed([one, one]) == ""
    nested["params"] = {"fingerprint": "other0"}
    assert mixed([one, Edition.of(description, facts)]) == "patches was computed as version 1/99c30b and as version 1/other0"


def test_a_data_set_that_is_nested_in_a_plug_in_is_not_taken_for_what_is_evaluated():
    columns = {"suite": "s", "base": "digits", "cell": "c", "contents": "digits 6ad475"}
    rows = pd.DataFrame([{**columns, "model": "a", "plugins": "digits 1/1c9e85, patch 1"}, {**columns, "model": "b", "plugins": "clean 1"}])
    assert differences(rows, ["model"]) == {}
    other = rows.assign(contents=["digits 6ad475", "digits 77aa00"])
    assert differences(other, ["model"]) == {("a",): "digits 6ad475", ("b",): "digits 77aa00"}
