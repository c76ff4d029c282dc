"""The page of two stores: its numbers recomputed from the rows, errors at the door, one-sided cells, and hostile names."""

import itertools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import BadParameter, StoreError, UsageError
from robustvit.records.store import Store
from robustvit.report.page import write_bundle, write_report
from robustvit.report.two_stores import comparison_page
from robustvit.report.two_stores.changed_samples import changed_groups
from robustvit.report.two_stores.forest import forest_of
from robustvit.report.two_stores.headline_rows import headline_tables
from robustvit.report.two_stores.sides import two_sides
from robustvit.report.two_stores.verdicts import difference_text, signed, verdicts_of
from robustvit.results.comparison import diff
from robustvit.results.leaderboard import build_leaderboard
from robustvit.results.two_stores.paired_headlines import paired_headlines

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
N = 200
HOSTILE = ("<script>alert(1)</script>", '"></td><img src=x onerror=alert(1)>', "{{7*7}}", "</script><script>alert(1)")


class Page(HTMLParser):
    """Tags with their attributes, and the text without style and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def correct(seed: int, share: float) -> np.ndarray:
    return np.random.default_rng(seed).random(N) < share


@pytest.fixture
def two(make_store: Make, answered: Columns) -> tuple[Store, Store]:
    """Two runs: clean is identical, fog 1 is within chance, fog 5 moved down, snow 3 up, frost only in a, contrast only in b."""
    base = {"clean": correct(0, 0.95), "fog 1": correct(1, 0.9), "fog 5": correct(2, 0.8), "snow 3": correct(3, 0.4)}
    changed = {
        "clean": base["clean"], "fog 1": base["fog 1"] ^ (np.arange(N) < 3), "fog 5": base["fog 5"] & (np.arange(N) % 3 > 0),
        "snow 3": base["snow 3"] | (np.arange(N) % 4 == 0),
    }  # fmt: skip

    def cells(side: dict[str, np.ndarray], model: str = "demo") -> dict[tuple[str, str, str], Any]:
        return {(model, *((*name.split(" "), "")[:2])): answered(list(one)) for name, one in side.items()}  # type: ignore[misc]

    a = cells(base) | {("demo", "frost", "2"): answered([True] * N)}
    b = cells(changed) | {("demo", "contrast", "2"): answered([True] * N)}
    metrics = ("top1", "corruption_error", "mean_corruption_error")
    return make_store(a, name="old", metrics=metrics), make_store(b, name="new", metrics=metrics, salt="v2")


def written(a: Store, b: Store, path: Path, **more: Any) -> str:
    return write_report(a, path / "page.html", against=b, **more).read_text(encoding="utf-8")


def packed_rows(text: str) -> pd.DataFrame:
    packed = json.loads(re.findall(r'id="tidy-data">(.*?)</script>', text, re.DOTALL)[0])
    columns = {name: one.get("v") or [one["t"][i] for i in one["i"]] for name, one in zip(packed["columns"], packed["data"], strict=True)}
    count = max(map(len, columns.values()))
    return pd.DataFrame({name: columns.get(name, [packed["same"].get(name)] * count) for name in packed["all"]})


def rows(store: Store, scenario: str, severity: str) -> pd.DataFrame:
    """The rows of a cell, sorted by sample, read without any of the code that compares."""
    (question,) = [one for one in store.questions() if (one.scenario, one.severity) == (scenario, severity)]
    return pd.concat([pd.read_parquet(file.path) for file in store.files(question.cell)]).sort_values("sample", ignore_index=True)


def test_every_cell_is_in_the_table_with_its_difference_in_top1(two: tuple[Store, Store], tmp_path: Path) -> None:
    table = packed_rows(written(*two, tmp_path)).set_index(["scenario", "severity"])
    for cell in (("clean", ""), ("fog", "1"), ("fog", "5"), ("snow", "3")):
        a, b = (rows(store, *cell) for store in two)
        before, after = (100 * float((one["pred"] == one["label"]).mean()) for one in (a, b))
        found = table.loc[cell]
        assert [found["acc_a"], found["acc_b"], found["difference"]] == pytest.approx([before, after, after - before])
        assert found["changed"] == int((a["pred"] != b["pred"]).sum())
    assert table["verdict"].to_dict() == {
        ("clean", ""): "identical", ("fog", "1"): "within chance", ("fog", "5"): "moved", ("snow", "3"): "moved",
        ("frost", "2"): "only in A", ("contrast", "2"): "only in B",
    }  # fmt: skip


def test_the_plot_has_its_marks_where_the_differences_are(two: tuple[Store, Store], tmp_path: Path) -> None:
    text = written(*two, tmp_path)
    ticks = {float(x): float(t.replace("−", "-")) for x, t in re.findall(r'<text x="([\d.]+)%" y="13"[^>]*>([^<]*)<', text)}
    (low, high), points = (min(ticks), max(ticks)), sorted(ticks.values())
    scale = (points[-1] - points[0]) / (high - low)
    found = dict(re.findall(r'aria-label="(fog 5|snow 3|fog 1): .*?width="1" height="1" x="([\d.]+)%"', text, re.DOTALL))
    for name, x in found.items():
        a, b = (rows(store, *name.split(" ")) for store in two)
        difference = 100 * float((b["pred"] == b["label"]).mean() - (a["pred"] == a["label"]).mean())
        assert points[0] + (float(x) - low) * scale == pytest.approx(difference, abs=0.02)
    assert len(found) == 3


def test_marks_differ_by_shape_and_only_identical_cells_have_no_interval(two: tuple[Store, Store]) -> None:
    forest = forest_of(diff(*two))
    assert forest is not None
    kinds = {row.title + row.level: row.marks[0] for group in forest.groups for row in group.rows}
    assert {name: mark.kind for name, mark in kinds.items()} == {"clean": "identical", "fog1": "still", "fog5": "down", "snow3": "up"}
    assert {name for name, mark in kinds.items() if mark.low == mark.high} == {"clean"}
    assert forest.left_out == 2
    assert forest.single


def test_verdicts_are_counted_and_the_largest_move_is_first(two: tuple[Store, Store]) -> None:
    found = verdicts_of(diff(*two))
    assert found.sentence == "2 of 4 compared cells moved, 1 down, 1 up."
    assert {one.name: one.count for one in found.counts} == {
        "moved": 2, "within chance": 1, "identical": 1, "not compared": 0, "only in A": 1, "only in B": 1,
    }  # fmt: skip
    assert sum(one.share for one in found.counts) == pytest.approx(100)
    assert [one.cell for one in found.moved] == ["fog 5", "snow 3"]
    assert [one.worse for one in found.moved] == [True, False]
    assert all(one.meaning.endswith(".") for one in found.counts)


def test_the_page_has_its_sections_in_order_and_a_text_for_every_picture(two: tuple[Store, Store], tmp_path: Path) -> None:
    page = Page(written(*two, tmp_path))
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == [
        "runs", "verdicts", "headlines", "differences", "cells", "samples",
    ]  # fmt: skip
    assert [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img" and not attrs.get("aria-label")] == []
    unnamed = [a for tag, a in page.tags if tag == "svg" and "role" not in a and a.get("aria-hidden") != "true" and a.get("class") != "at"]
    axes = [attrs for attrs in unnamed if attrs.get("height") == "18"]  # inside a row that is hidden from readers
    assert unnamed == axes
    assert not {key for _, attrs in page.tags for key in attrs} & {"style", "onclick", "onload"}


def test_headline_numbers_are_beside_each_other(two: tuple[Store, Store]) -> None:
    (table,) = headline_tables(paired_headlines(*map(build_leaderboard, two)))
    shown = {row.title: row for row in table.rows}
    assert (shown["clean top-1"].difference, shown["clean top-1"].note) == ("0.0", "equal in every image")
    fog = shown["fog error"]
    assert fog.apart == "worse"
    a, b = (np.mean([(one["pred"] != one["label"]) for one in (rows(s, "fog", "1"), rows(s, "fog", "5"))]) for s in two)
    assert float(fog.difference.replace("−", "-")) == pytest.approx(100 * (b - a), abs=0.06)
    assert shown["frost error"].note == "only in A"
    assert shown["contrast error"].a is None
    assert shown["mean corruption error"].note == "over the 3 cells that both have"


def test_the_samples_that_changed_are_listed_for_both_sides(two: tuple[Store, Store]) -> None:
    (group,) = changed_groups(two, diff(*two), ({}, {}))
    assert [(one.setting, one.side) for one in group.cells] == [(name, side) for name in ("fog 1", "fog 5", "snow 3") for side in (0, 1)]
    apart = {
        name: [a != b for a, b in zip(*(rows(s, *name.split(" "))["pred"] for s in two), strict=True)]
        for name in ("fog 1", "fog 5", "snow 3")
    }
    assert list(group.changed) == [sum(one) for one in apart.values()]
    anywhere = np.any(list(apart.values()), axis=0)
    assert list(group.samples) == [f"s{i:05d}" for i in np.flatnonzero(anywhere)]
    assert group.cells[2].preds.tolist() == rows(two[0], "fog", "5")["pred"][anywhere].tolist()


def test_only_what_differs_in_the_provenance_is_marked(two: tuple[Store, Store]) -> None:
    for store, torch, threads in zip(two, ("2.14", "2.15"), (1, 1), strict=True):
        name = store.write_environment(
            {"versions": {"torch": torch, "timm": "1.0"}, "hardware": {"device": "cpu"}, "switches": {"threads": threads}}
        )
        (manifest,) = store.manifests()
        store.write_manifest(replace(manifest, environment=name, command=f"robustvit run --model demo --store {store.path.name}"))
    boards = [build_leaderboard(store) for store in two]
    boards = [
        replace(board, rows=board.rows.assign(environment=store.manifests()[0].environment))
        for board, store in zip(boards, two, strict=True)
    ]
    found = two_sides(*boards)
    differing = {one.name: ([(w.text, w.differs) for w in one.a], [(w.text, w.differs) for w in one.b]) for one in found.differing}
    same = ("robustvit run --model demo --store", False)
    assert differing == {
        "command": ([same, ("old", True)], [same, ("new", True)]),
        "torch": ([("2.14", True)], [("2.15", True)]),
    }  # fmt: skip
    assert {"timm": "1.0", "device": "cpu", "threads": "1", "seed": "0"}.items() <= dict(found.same).items()


def test_facts_of_a_model_of_one_side_are_not_told_as_differences(make_store: Make, answered: Columns) -> None:
    cells = {(model, "clean", ""): answered([True, False]) for model in ("demo", "more")}
    stores = make_store(cells, name="x"), make_store({("demo", "clean", ""): answered([True, True])}, name="y")
    assert [one.name for one in two_sides(*map(build_leaderboard, stores)).differing] == ["models"]


def rows_of_many() -> pd.DataFrame:
    """A table as of `diff`: four models on fifteen corruptions at five severities; a scenario of each of the first two moved."""
    found = []
    for model, corruption, severity in itertools.product(range(4), range(15), range(1, 6)):
        moved = corruption == model < 2
        difference = (-8.0 - severity) if moved else (corruption - 7) / 10
        found.append({
            "model": f"m{model}", "suite": "made-up", "data": "digits", "severity": str(severity),
            "scenario": f"corruption_{corruption:02d}",
            "params": "", "transforms": "", "seed": 0, "precision": "float32", "storage": "", "n": 60, "acc_a": 80.0,
            "acc_b": 80.0 + difference, "difference": difference, "low": difference - 4, "high": difference + 4, "changed": 0, "only_a": 9,
            "only_b": 1, "p": 0.5, "p_holm": 0.001 if moved else 1.0, "equal": False, "verdict": "moved" if moved else "within chance",
            "partial": "", "cell_a": f"a{len(found)}", "cell_b": f"b{len(found)}", "across": "",
        })  # fmt: skip
    return pd.DataFrame(found)


def test_of_300_cells_those_that_moved_have_intervals_and_the_others_share_a_row() -> None:
    forest = forest_of(rows_of_many())
    assert forest is not None
    assert not forest.single
    assert [[row.title for row in group.rows] for group in forest.groups] == [["corruption 00"], ["corruption 01"], [], []]
    assert [len(group.folded) for group in forest.groups] == [14, 14, 15, 15]
    assert sum(len(row.marks) for group in forest.groups for row in (*group.rows, group.rest) if row is not None) == 300
    assert all(mark.kind == "dot" for group in forest.groups if group.rest for mark in group.rest.marks)
    heights = [mark.y for mark in forest.groups[0].rows[0].marks]
    assert heights == sorted(set(heights)), "from the mildest severity down"
    assert (forest.groups[0].rows[0].text, forest.groups[0].rows[0].note) == ("−13.0 to −9.0", "5 of 5 moved")


def test_a_page_of_300_cells_is_no_wall(two: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_page, "diff", lambda *_, **__: rows_of_many())
    text = written(*two, tmp_path)
    assert "10 of 300 compared cells moved, down." in Page(text).text
    assert text.count('<details class="quiet">') == 4
    assert len(packed_rows(text)) == 300
    assert len(text.encode()) < 300_000


def test_an_axis_reaches_nearly_all_intervals_and_cuts_the_others() -> None:
    table = rows_of_many().head(20)
    table.loc[table.index[-1], ["low", "high"]] = [-90.0, 90.0]
    forest = forest_of(table)
    assert forest is not None
    assert forest.cut
    assert [tick.text for tick in forest.ticks] == ["−20", "−10", "0", "+10", "+20"]
    assert [mark.cut for group in forest.groups for row in group.rows for mark in row.marks if mark.cut] == [(0.0, 100.0)]


def test_a_few_scenarios_are_all_shown_even_where_their_cells_have_no_row_each(make_store: Make, answered: Columns) -> None:
    sides = [
        {("m", f"c{c}", str(s)): answered(list(correct(c + s + shift, 0.7))) for c in range(10) for s in range(1, 6)} for shift in (0, 90)
    ]
    forest = forest_of(diff(make_store(sides[0], name="x"), make_store(sides[1], name="y")))
    assert forest is not None
    ((group,),) = (forest.groups,)
    assert (len(group.rows), group.rest, group.rows[0].level) == (10, None, "1–5")


def test_two_equal_stores_are_told_to_be_identical(two: tuple[Store, Store], tmp_path: Path) -> None:
    shutil.copytree(two[0].path, tmp_path / "copy")
    text = Page(written(two[0], Store(tmp_path / "copy"), tmp_path)).text
    assert "All 5 compared cells are identical." in text
    assert "Nothing that the runs recorded differs" in text
    assert "No prediction changed in a cell that both sides have." in text
    assert forest_of(diff(two[0], two[0].path)) is None


def test_hostile_names_are_shown_and_not_run(make_store: Make, answered: Columns, tmp_path: Path) -> None:
    def both(name: str, model: str, label: str, scenario: str, severity: str) -> tuple[Store, Store]:
        made = []
        for place in (0, 1):
            right = answered([True] * (30 - 25 * place) + [False] * (5 + 25 * place))
            cells = {(model, scenario, severity): right, (model, "fog", "1"): right, (model, f"only{place}", "1"): right}
            made.append(make_store(cells, name=f"{name}{place}", label=label, salt=str(place)))
        return made[0], made[1]

    page = Page(written(*both("hostile", *HOSTILE), tmp_path))
    tame = Page(written(*both("tame", "demo", "digits", "snow", "3"), tmp_path))
    assert [one for one in HOSTILE if one.replace(" ", "") not in page.text.replace(" ", "")] == []
    assert [(tag, sorted(attrs)) for tag, attrs in page.tags] == [(tag, sorted(attrs)) for tag, attrs in tame.tags]


def test_errors_at_the_door_are_one_line(two: tuple[Store, Store], make_store: Make, answered: Columns, tmp_path: Path) -> None:
    a, b = two
    (tmp_path / "link").symlink_to(a.path)
    other = make_store({("vit", "clean", ""): answered([True])}, name="other", suite="blur")
    empty = Store(tmp_path / "empty", create=True)
    cases = [
        (tmp_path / "absent", StoreError, f"--against: there is no store at {tmp_path / 'absent'}"),
        (tmp_path, StoreError, f"--against: there is no store at {tmp_path}"),
        (a.path, UsageError, "is the store itself"),
        (tmp_path / "link", UsageError, "is the store itself"),
        (other, StoreError, f"have no cell in common. {a.path} has demo on made-up; {other.path} has vit on blur."),
        (empty, StoreError, f"{empty.path} has no runs."),
        (5, BadParameter, "--against is 5"),
    ]
    for against, kind, message in cases:
        with pytest.raises(kind, match=re.escape(message)) as raised:
            write_report(a, tmp_path / "x.html", against=against)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "x.html").exists()
    assert b.path.is_dir()


def test_suite_and_model_choose_from_both_sides(make_store: Make, answered: Columns, tmp_path: Path) -> None:
    cells = {(model, "fog", "1"): answered(list(correct(1, 0.5))) for model in ("demo", "rival")}
    a, b = make_store(cells, name="x"), make_store(cells | {("third", "fog", "1"): answered([True])}, name="y", salt="v2")
    make_store({("demo", "clean", ""): answered([True])}, name="x", suite="blur")
    make_store({("demo", "clean", ""): answered([True])}, name="y", suite="blur")
    assert set(packed_rows(written(a, b, tmp_path, models=["rival"]))["model"]) == {"rival"}
    assert set(packed_rows(written(a, b, tmp_path, suite="blur"))["suite"]) == {"blur"}
    with pytest.raises(StoreError, match="has no model 'third'"):
        written(a, b, tmp_path, models=["demo", "third"])
    with pytest.raises(StoreError, match="has no suite 'absent'"):
        written(a, b, tmp_path, suite="absent")


def test_a_page_of_many_predictions_leaves_them_to_a_folder(
    two: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'class="sample-rows"' in written(*two, tmp_path)
    monkeypatch.setattr(comparison_page, "INLINE", 10)
    text = written(*two, tmp_path)
    assert 'class="sample-rows"' not in text
    assert f"robustvit report --store {two[0].path} --against {two[1].path} --bundle DIR" in Page(text).text


def test_a_folder_has_the_images_of_either_side(
    make_store: Make, answered: Columns, add_images: Callable[..., None], encoded: Callable[..., bytes], tmp_path: Path
) -> None:
    a, b = (make_store({("m", "fog", "1"): answered([one, True])}, name=name) for name, one in (("x", True), ("y", False)))
    add_images(a, encoded(8))
    add_images(b, encoded(16))
    page = write_bundle(a, tmp_path / "bundle", against=b)
    packed = json.loads((page.parent / "rows-0.js").read_text().removeprefix("robustvitRows(0, ").removesuffix(");\n"))
    assert (packed["paired"], packed["changed"], packed["samples"]) == (True, [1], ["s00000"])
    images = [(page.parent / packed["images"][str(side)]["0"]).read_bytes() for side in (0, 1)]
    assert images == [encoded(8), encoded(16)]


def test_the_same_stores_give_the_same_page(two: tuple[Store, Store], tmp_path: Path) -> None:
    assert written(*two, tmp_path) == written(*two, tmp_path)


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (-4.24, -7.06, -1.33, "−4.2 [−7.1, −1.3]"), (1.154, 0.978, 1.36, "+1.15 [+0.98, +1.36]"), (0.0, -5.33, 5.33, "0.0 [−5.3, +5.3]"),
        (-0.004, -0.1, 0.1, "0.00 [−0.10, +0.10]"),
    ],
)  # fmt: skip
def test_differences_have_as_many_decimals_as_their_interval_is_fine(value: float, low: float, high: float, text: str) -> None:
    assert " ".join(difference_text(value, low, high)) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"), [(0.667, "%", "+0.67"), (-2.71, "%", "−2.7"), (0.0, "%", "0.0"), (0.01234, "nat", "+0.0123")]
)
def test_differences_without_an_interval_have_two_decimals_below_one_point(value: float, unit: str, text: str) -> None:
    assert signed(value, unit) == text
