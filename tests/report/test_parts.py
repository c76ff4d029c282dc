"""What the parts of a report show, before templates draw it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from robustvit.records.store import Store
from robustvit.report.charts import attack_panels, corruption_panels, family_of, heat_map
from robustvit.report.gallery import embedded, gallery, share
from robustvit.report.provenance import conditions, link
from robustvit.report.ranking import Board, Column, board_of, mean_error
from robustvit.report.suite_results import stages
from robustvit.report.text import conclusion, doubts, notices
from robustvit.results.leaderboard import leaderboard


def test_models_are_entrants_of_one_stage_with_colours_of_their_own(store: Store) -> None:
    (stage,) = stages(leaderboard(store))
    assert [(entrant.name, entrant.slot) for entrant in stage.entrants] == [("demo", 0), ("rival", 1)]


def test_namesakes_are_told_apart_by_what_differs(store: Store) -> None:
    board = leaderboard(store)
    board.loc[board["model"] == "rival", ["model", "seed"]] = ["demo", 7]
    (stage,) = stages(board)
    assert [entrant.name for entrant in stage.entrants] == ["demo · seed 0", "demo · seed 7"]


def test_a_model_keeps_its_colour_on_every_stage(store: Store) -> None:
    board = leaderboard(store)
    board.loc[(board["model"] == "rival"), "suite"] = "another"
    assert [stage.entrants[0].slot for stage in stages(board)] == [0, 1]


def test_a_curve_begins_at_the_clean_number(store: Store) -> None:
    (stage,) = stages(leaderboard(store))
    (panel,) = corruption_panels(stage, 10.0)
    assert [tick.text for tick in panel.columns] == ["0", "1", "3", "5"]
    assert panel.hits[0].tip.splitlines()[1].startswith("demo: 95.0")
    assert (panel.title, panel.tag) == ("fog", "weather")


def test_an_attack_has_a_curve_over_its_budget_and_no_place_among_corruptions(store: Store) -> None:
    (stage,) = stages(leaderboard(store))
    (panel,) = attack_panels(stage)
    assert (panel.title, panel.scale, [tick.text for tick in panel.columns]) == ("pgd", "1/255", ["0", "1"])
    assert panel.hits[1].tip.splitlines()[1].startswith("demo: 20.0")
    heat = heat_map(stage.entrants[0])
    assert heat is not None
    assert [band.title for band in heat.bands] == ["fog"]


def test_the_heat_map_shows_each_number_and_the_error_over_severities(store: Store) -> None:
    heat = heat_map(stages(leaderboard(store))[0].entrants[0])
    assert heat is not None
    assert heat.levels == ("1", "3", "5")
    assert [tile.text for tile in heat.bands[0].tiles] == ["85.0", "65.0", "45.0"]
    assert heat.bands[0].average is not None
    assert heat.bands[0].average.text == "35.0"


def test_failed_and_partial_tiles_are_marked(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    cells = {("demo", "fog", "1"): answered([True] * 4), ("demo", "fog", "2"): None}
    store = make_store(cells, asked=8)
    store.fail(next(cell for cell in store.cells() if not store.pieces(cell)), "no room")
    heat = heat_map(stages(leaderboard(store))[0].entrants[0])
    assert heat is not None
    assert [(tile.text, tile.status) for tile in heat.bands[0].tiles] == [("100.0", "partial"), ("✕", "failed")]


@pytest.mark.parametrize(("name", "family"), [("shot_noise", "noise"), ("fog", "weather"), ("pgd", "other"), ("unheard_of", "other")])
def test_families_come_from_the_registry(name: str, family: str) -> None:
    assert family_of(name) == family


def test_the_leaderboard_leaves_out_columns_that_have_no_number_anywhere(store: Store) -> None:
    board = board_of(stages(leaderboard(store)))
    assert [column.title for column in board.columns] == ["clean top1", "mean corruption error", "pgd 1/255"]


def test_the_best_number_of_a_stage_is_marked(store: Store) -> None:
    board = board_of(stages(leaderboard(store)))
    assert [row.entries[0].best for row in board.standings] == [True, False]
    assert [row.entries[1].best for row in board.standings] == [True, False]


def of_sets(make_store: Callable[..., Store], answered: Callable[..., Any], *metrics: str) -> Board:
    cells = {
        (model, name, ""): answered([True] * right + [False] * 9)
        for model, right in (("demo", 9), ("rival", 1))
        for name in ("colour", "edge")
    }
    return board_of(stages(leaderboard(make_store(cells, metrics=metrics))))


def test_every_set_of_pictures_has_a_column_of_its_own(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    board = of_sets(make_store, answered, "nll", "top1")
    assert [(column.title, row.text) for column, row in zip(board.columns, board.standings[0].entries, strict=True)] == [
        ("colour top1", "50.0"),
        ("edge top1", "50.0"),
    ]


def test_sets_that_are_not_asked_top1_show_the_first_metric_asked(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    board = of_sets(make_store, answered, "top5", "nll")
    assert [column.title for column in board.columns] == ["colour top5", "edge top5"]


def test_what_one_cell_alone_was_asked_bears_its_own_name(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    store = make_store({("demo", "edge", ""): answered([True, False])}, metrics=("top1", "brier"))
    assert [column.title for column in board_of(stages(leaderboard(store))).columns] == ["brier", "edge top1"]


def test_no_best_is_marked_where_lower_is_better_unless_it_is_an_error(
    make_store: Callable[..., Store], answered: Callable[..., Any]
) -> None:
    board = of_sets(make_store, answered, "nll")
    assert [entry.best for row in board.standings for entry in row.entries] == [False] * 4
    assert not board.marked
    assert Column("mce_alexnet", "", "%", False).marked


def test_no_best_is_marked_of_what_models_say_without_a_right_answer(
    make_store: Callable[..., Store], answered: Callable[..., Any]
) -> None:
    cells = {
        (model, name, ""): answered([True] * n) for model, n in (("demo", 9), ("rival", 4)) for name in ("imagenet-o", "val-of-imagenet-o")
    }
    board = board_of(stages(leaderboard(make_store(cells, metrics=("confidence",)))))
    assert [column.title for column in board.columns] == ["imagenet-o confidence", "val-of-imagenet-o confidence"]
    assert not board.marked


def test_a_conclusion_falls_back_to_the_first_number_there_is(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    store = make_store({("demo", "edge", ""): answered([True, False])})
    (stage,) = stages(leaderboard(store))
    assert conclusion(stage, stage.entrants[0]).sentence.startswith("has edge top1 50.0\u00a0% [")


def test_a_mean_that_lacks_a_corruption_is_partial_and_no_number(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    cells = {("demo", "fog", "1"): answered([True, False]), ("demo", "snow", "1"): None}
    (entrant,) = stages(leaderboard(make_store(cells, metrics=("top1", "corruption_error"))))[0].entrants
    point = mean_error(entrant)
    assert point is not None
    assert (point.known, point.status) == (False, "partial")


def test_the_conclusion_tells_clean_corrupted_and_attacked_accuracy(store: Store) -> None:
    (stage,) = stages(leaderboard(store))
    told = conclusion(stage, stage.entrants[0]).sentence.replace("\u00a0", " ")
    assert told.startswith("answers 95.0 % [")
    assert "of 20 clean images of digits correctly; errs on 35.0 % over 1 corruption; pgd at 1/255 leaves 20.0 % [" in told


def test_what_is_not_applicable_is_said_once_for_all_models(store: Store) -> None:
    (notice,) = notices(stages(leaderboard(store)))
    assert (notice.status, notice.name, notice.what) == ("undefined", "demo, rival", "mce_alexnet")


def test_a_gallery_follows_one_sample_through_first_middle_and_last_severity(
    make_store: Callable[..., Store], answered: Callable[..., Any], pictured: Callable[..., None], encoded: Callable[..., bytes]
) -> None:
    store = make_store({("demo", "fog", str(severity)): answered([True, False]) for severity in range(1, 6)})
    pictured(store, encoded())
    found = gallery(store, stages(leaderboard(store))[0].entrants[0], {cell: ["zero", "one, the first"] for cell in store.cells()})
    assert found is not None
    assert [(picture.level, picture.answer, picture.right) for picture in found.strips[0].pictures] == [
        ("1", "one", False),
        ("3", "one", False),
        ("5", "one", False),
    ]
    assert found.strips[0].label == "zero"


def test_labels_without_names_are_shown_as_numbers(store: Store) -> None:
    found = gallery(store, stages(leaderboard(store))[0].entrants[0], {})
    assert found is not None
    assert (found.strips[0].title, found.strips[0].label, found.strips[0].pictures[0].answer) == ("clean", "0", "1")


def test_an_answer_beyond_the_names_is_none(store: Store) -> None:
    found = gallery(store, stages(leaderboard(store))[0].entrants[0], {cell: ["zero"] for cell in store.cells()})
    assert found is not None
    assert (found.strips[0].label, found.strips[0].pictures[0].answer) == ("zero", "none")


@pytest.mark.parametrize(("budget", "titles"), [(48, ["colour"] * 2 + ["edge"] * 2), (3, ["colour", "edge"]), (1, ["colour"])])
def test_scenarios_that_share_no_samples_all_show_theirs(
    budget: int, titles: list[str],
    make_store: Callable[..., Store], answered: Callable[..., Any], encoded: Callable[..., bytes],
) -> None:  # fmt: skip
    store = make_store({("demo", name, ""): answered([True, False]) for name in ("colour", "edge")})
    for place, cell in enumerate(store.cells()):
        rows = {"sample": [f"{place}/a", f"{place}/b"], "label": [0, 1], "pred": [1, 1], "image": [encoded()] * 2}
        store.hang(cell, pa.table(rows))
    found = gallery(store, stages(leaderboard(store))[0].entrants[0], {}, budget)
    assert found is not None
    assert [strip.title for strip in found.strips] == titles


def test_a_damaged_gallery_is_said_and_the_others_are_shown(store: Store) -> None:
    (store.path / "cells" / store.cells()[0] / "gallery.parquet").write_bytes(b"PAR1")
    galleries = [gallery(store, entrant, {}) for entrant in stages(leaderboard(store))[0].entrants]
    assert any(one is not None and "gallery.parquet is not whole" in one.damaged for one in galleries)


def test_small_pictures_stay_as_they_are_and_large_ones_are_reduced(encoded: Callable[..., bytes]) -> None:
    small, crisp = embedded(encoded(32))
    large, blurred = embedded(encoded(400, "JPEG"))
    assert (small.startswith("data:image/png"), crisp) == (True, True)
    assert (large.startswith("data:image/jpeg"), blurred) == (True, False)
    assert len(large) < 40_000


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'/>", b"\x89PNG\r\n\x1a\nnot really"])
def test_bytes_that_are_no_picture_are_not_embedded(content: bytes) -> None:
    assert embedded(content) == ("", False)


def test_many_models_share_the_page() -> None:
    assert share(1) == 48
    assert share(100) == 16


@pytest.mark.parametrize(("budget", "levels", "left_out"), [(6, ["1", "3", "5"], 0), (4, ["1", "5"], 0), (2, ["3"], 0), (1, ["3"], 1)])
def test_a_short_budget_takes_severities_before_scenarios(
    budget: int, levels: list[str], left_out: int,
    make_store: Callable[..., Store], answered: Callable[..., Any], pictured: Callable[..., None], encoded: Callable[..., bytes],
) -> None:  # fmt: skip
    store = make_store({("demo", name, str(level)): answered([True, False]) for name in ("fog", "snow") for level in range(1, 6)})
    pictured(store, encoded())
    found = gallery(store, stages(leaderboard(store))[0].entrants[0], {}, budget)
    assert found is not None
    assert [picture.level for picture in found.strips[0].pictures] == levels
    assert found.left_out == left_out


@pytest.mark.parametrize(
    ("url", "kept"), [("https://arxiv.org", True), ("javascript:alert(1)", False), ("data:text/html,x", False), (None, False)]
)
def test_only_web_addresses_become_links(url: str | None, kept: bool) -> None:
    assert bool(link(url)) is kept


def test_the_conditions_name_the_command_and_the_machine(store: Store) -> None:
    (manifest,) = store.manifests()
    name = store.write_environment(
        {"versions": {"torch": "2.15"}, "hardware": {"cpu": "any"}, "switches": {"tf32": False}, "revision": "abc"}
    )
    store.write_manifest(replace(manifest, environment=name))
    told = conditions(store, leaderboard(store).assign(environment=name))
    assert told.runs[0].command == "robustvit run --model demo"
    assert dict(told.machines[0].facts) == {"versions": "torch 2.15", "CPU": "any", "TF32": "off", "revision": "abc"}


def suspects(make_store: Callable[..., Store], answered: Callable[..., Any]) -> Store:
    """Of two models one falls to a single step and not to many."""
    left = {("honest", "fgsm"): 15, ("honest", "pgd"): 5, ("masked", "fgsm"): 5, ("masked", "pgd"): 15}
    cells = {(*key, "4/255"): answered([True] * n + [False] * (20 - n), attacked=[True] * 20) for key, n in left.items()}
    return make_store(cells, metrics=["robust_accuracy"])


def test_what_attacks_left_bears_the_verdict_and_a_suspect_is_never_best(
    make_store: Callable[..., Store], answered: Callable[..., Any]
) -> None:
    board = board_of(stages(leaderboard(suspects(make_store, answered))))
    shown = {
        (row.entrant.model, column.key): entry for row in board.standings for column, entry in zip(board.columns, row.entries, strict=True)
    }
    assert {key[0]: entry.gradients for key, entry in shown.items()} == {"honest": "unchecked", "masked": "suspect"}
    assert not any(entry.best for entry in shown.values())
    assert "gradients suspect: one step beats iterative" in shown["masked", "pgd 4/255"].note


def test_doubts_are_told_once_the_suspects_first(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    found = doubts(stages(leaderboard(suspects(make_store, answered))))
    assert [(one.word, one.name) for one in found] == [("suspect", "masked"), ("unchecked", "honest")]
    assert found[0].why == "one step beats iterative (10 of 20: fgsm against pgd, linf 4/255)"


def test_the_conclusion_about_a_suspect_says_so(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    (stage,) = stages(leaderboard(suspects(make_store, answered)))
    reserves = {entrant.model: conclusion(stage, entrant).reserve for entrant in stage.entrants}
    assert reserves == {"honest": "", "masked": "The gradients that its attacks followed are suspect."}


def test_pages_without_attacks_have_no_doubts(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    assert doubts(stages(leaderboard(make_store({("m", "clean", ""): answered([True])})))) == []
