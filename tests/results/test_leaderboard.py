"""The leaderboard of stores whose predictions are known."""

import gc
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from robustvit.errors import StoreError, UnknownName
from robustvit.records.cells import RowReader, stored_cells
from robustvit.records.records import table
from robustvit.records.store import Store
from robustvit.results.cell_scores import MetricList, score_cells
from robustvit.results.clean_predictions import CleanPredictions
from robustvit.results.leaderboard import COLUMNS, leaderboard, read_csv
from robustvit.results.summary import scenario_names, summary
from robustvit.statistics.estimates import resolve_metric
from robustvit.statistics.resamples import Resampler

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
CONTRACT = [
    "model",
    "transforms",
    "suite",
    "data",
    "scenario",
    "severity",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "status",
    "reason",
    "unit",
    "higher_is_better",
    "seconds",
    "cell",
    "params",
    "seed",
    "precision",
    "view",
    "base",
    "model_view",
    "storage",
    "weights",
    "source",
    "version",
    "environment",
    "repro",
    "gradients",
    "plugins",
    "contents",
]


def right(n: int, wrong: int) -> list[bool]:
    return [i >= wrong for i in range(n)]


def row(board: pd.DataFrame, **wanted: str) -> Mapping[str, Any]:
    for name, value in wanted.items():
        board = board[board[name] == value]
    (found,) = board.to_dict(orient="records")
    return found


def test_the_columns_are_the_contract(make_store: Make, answered: Columns) -> None:
    board = leaderboard(make_store({("m", "clean", ""): answered(right(10, 2))}))
    assert list(board.columns) == CONTRACT
    assert {name: str(kind) for name, kind in board.dtypes.items()} == COLUMNS


def test_a_cell_has_a_complete_row(make_store: Make, answered: Columns) -> None:
    found = row(leaderboard(make_store({("r", "fog", "3"): answered(right(10, 2))})), metric="top1")
    expected = {"value": 80.0, "n": 10, "status": "complete", "unit": "%", "seconds": 1.5, "version": "0.1.0", "environment": "abc"}
    expected |= {
        "weights": "random",
        "repro": "robustvit run --model demo",
        "source": "on-the-fly",
        "higher_is_better": True,
        "severity": "3",
    }
    assert {name: found[name] for name in expected} == expected
    assert found["low"] < 80 < found["high"]


def test_the_same_store_gives_the_same_table(make_store: Make, answered: Columns) -> None:
    store = make_store(
        {("m", "fog", s): answered(right(40, 9 * int(s))) for s in "123"}, metrics=["top1", "nll", "ece", "corruption_error"]
    )
    pd.testing.assert_frame_equal(leaderboard(store), leaderboard(store.path))


def test_too_few_samples_make_a_row_partial(make_store: Make, answered: Columns) -> None:
    found = row(leaderboard(make_store({("m", "clean", ""): answered(right(10, 2))}, asked=25)), metric="top1")
    assert (found["status"], found["reason"], found["n"], found["value"]) == ("partial", "10 of 25 samples", 10, 80.0)


def test_a_partial_cell_is_never_averaged(make_store: Make, answered: Columns) -> None:
    cells = {("m", "fog", "1"): answered(right(10, 2)), ("m", "fog", "2"): answered(right(5, 2))}
    board = leaderboard(make_store(cells, asked=10, metrics=["corruption_error"]))
    found = row(board, metric="corruption_error")
    assert (found["status"], found["reason"]) == ("partial", "1 of 2 cells; lacking fog 2: 5 of 10 samples")
    assert np.isnan(found["value"])


def test_a_cell_without_rows_is_shown_without_a_number(make_store: Make) -> None:
    found = row(leaderboard(make_store({("m", "clean", ""): None}, asked=10)), metric="top1")
    assert (found["status"], found["reason"], found["n"]) == ("partial", "0 of 10 samples", 0)
    assert np.isnan(found["value"])


def test_a_failed_cell_says_why(make_store: Make) -> None:
    store = make_store({("m", "fog", "1"): None})
    store.fail(store.cells()[0], "out of memory")
    found = row(leaderboard(store), metric="top1")
    assert (found["status"], found["reason"]) == ("failed", "out of memory")


def test_a_damaged_piece_fails_its_cell_and_no_other(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", "1"): answered(right(10, 2)), ("m", "snow", "1"): answered(right(10, 2))})
    path = store.files(store.cells()[0])[0].path
    path.write_bytes(path.read_bytes()[:100])
    board = leaderboard(store)
    assert sorted(board["status"]) == ["complete", "failed"]
    assert "is not whole" in board.loc[board["status"] == "failed", "reason"].item()


def test_mce_off_imagenet_is_not_a_number(make_store: Make, answered: Columns) -> None:
    found = row(leaderboard(make_store({("m", "fog", "1"): answered(right(10, 2))}, metrics=["mce_alexnet"])), metric="mce_alexnet")
    assert found["status"] == "undefined"
    assert "ImageNet's 1000 classes" in found["reason"]
    assert np.isnan(found["value"])


def test_attack_metrics_fit_attack_cells_alone(make_store: Make, answered: Columns) -> None:
    cells = {("m", "clean", ""): answered(right(8, 2)), ("m", "pgd", "1/255"): answered(right(8, 5), attacked=right(8, 2))}
    board = leaderboard(make_store(cells, metrics=["robust_accuracy", "attack_success", "corruption_error"]))
    assert set(board["scenario"]) == {"pgd"}
    assert row(board, metric="robust_accuracy")["value"] == 37.5
    found = row(board, metric="attack_success")
    assert (found["value"], found["n"], found["params"]) == (50.0, 6, "steps=10")


def test_an_average_over_severities_has_a_paired_interval(make_store: Make, answered: Columns) -> None:
    """The same samples are misclassified at both severities, so the average's interval is about as wide as one severity's (Wilson's)."""
    cells = {("m", "fog", s): answered(right(100, 30)) for s in "12"} | {("m", "snow", "1"): answered(right(100, 30))}
    board = leaderboard(make_store(cells, metrics=["corruption_error"]))
    one, other = (row(board, scenario=name) for name in ("fog", "snow"))
    assert (one["value"], one["low"], one["high"]) == pytest.approx((other["value"], other["low"], other["high"]), abs=0.7)
    assert (one["seconds"], other["seconds"]) == (3.0, 1.5)


def test_any_metric_can_be_computed_from_any_store(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "clean", ""): answered(right(10, 2))})
    board = leaderboard(store, metrics=["brier", {"ece": {"bins": 5}}])
    assert list(board["metric"]) == ["brier", "ece(bins=5)"]
    with pytest.raises(UnknownName, match="brier"):
        leaderboard(store, metrics=["brir"])


def test_models_and_suites_are_chosen(make_store: Make, answered: Columns) -> None:
    store = make_store({("a", "clean", ""): answered(right(4, 1)), ("b", "clean", ""): answered(right(4, 1))})
    make_store({("a", "clean", ""): answered(right(4, 1))}, suite="other")
    assert set(leaderboard(store, models=["b"])["model"]) == {"b"}
    assert set(leaderboard(store, suite="other")["suite"]) == {"other"}
    with pytest.raises(StoreError, match="no suite 'othr'"):
        leaderboard(store, suite="othr")


def test_rows_beyond_those_requested_are_left_out(make_store: Make, answered: Columns) -> None:
    found = row(leaderboard(make_store({("m", "clean", ""): answered(right(20, 5))}, asked=10)), metric="top1")
    assert (found["n"], found["value"], found["status"]) == (10, 50.0, "complete")


def test_a_gap_in_an_early_shard_is_not_filled_by_a_later_one(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "clean", ""): answered(right(300, 0))}, asked=600)
    later = answered(right(400, 0), ids=[f"t{i}" for i in range(400)])
    store.write(store.cells()[0], 1, 0, table(later), {})
    found = row(leaderboard(store), metric="top1")
    assert (found["status"], found["n"]) == ("partial", 300 + 600 - 512)


def test_a_later_version_of_a_cell_replaces_it(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", "1"): answered(right(10, 2))}, metrics=["top1", "corruption_error"])
    newer = {("m", "fog", "1"): answered(right(10, 5))}
    make_store(newer, metrics=["top1", "corruption_error"], salt="v2", started="2026-02-01T00:00:00+00:00")
    board = leaderboard(store)
    assert (row(board, metric="top1")["value"], row(board, metric="corruption_error")["value"]) == (50.0, 50.0)


def test_an_uninstalled_metric_of_a_suite_is_undefined(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "clean", ""): answered(right(10, 2))})
    manifest = store.manifests()[0]
    manifest.suite.metrics.append({"name": "theirs", "params": {}, "kind": "metric", "version": 1})
    store.write_manifest(manifest)
    found = row(leaderboard(store), metric="theirs")
    assert found["status"] == "undefined"
    assert "no metric is called 'theirs'" in found["reason"]


def test_an_empty_store_has_an_empty_board(tmp_path: Any) -> None:
    board = leaderboard(Store(tmp_path / "new", create=True))
    assert len(board) == 0
    assert list(board.columns) == CONTRACT
    assert len(summary(board)) == 0


def test_the_leaderboard_enters_three_modules_once_each(make_store: Make, answered: Columns) -> None:
    cells = attacked(answered, "m", fgsm=5, pgd=15) | {
        ("m", "clean", ""): answered(right(20, 0)),
        ("m", "fog", "1"): answered(right(20, 3)),
    }
    store = make_store(cells, metrics=["top1", "robust_accuracy", "fooling_rate", "corruption_error"])
    here, entered = "robustvit.results.leaderboard", []

    def profile(frame: FrameType, event: str, _: object) -> None:
        module, caller = (one.f_globals.get("__name__", "") if one else "" for one in (frame, frame.f_back))
        if (
            event == "call"
            and caller == here != module
            and module.startswith("robustvit.results")
            and frame.f_code.co_filename != "<string>"
        ):
            entered.append(module.rpartition(".")[2])

    sys.setprofile(profile)
    try:
        leaderboard(store)
    finally:
        sys.setprofile(None)
    assert entered == ["group_scores", "gradient_masking", "editions"]


def test_a_summary_has_one_row_per_model(make_store: Make, answered: Columns) -> None:
    cells = {(m, "clean", ""): answered(right(10, 1)) for m in "mr"} | {("m", "fog", "1"): answered(right(10, 4)), ("r", "fog", "1"): None}
    table = summary(leaderboard(make_store(cells, asked=10, metrics=["top1", "corruption_error", "mce_alexnet"])))
    assert list(table["model"]) == ["m", "r (random weights)"]
    assert table["clean top-1"][0].startswith("90.0 [")
    assert list(table["fog error"]) == ["40.0 [16.8, 68.7]", "partial"]
    assert list(table["mce_alexnet"]) == ["undefined", "undefined"]
    assert list(table["status"]) == ["complete", "1 of 2 cells partial"]


def test_a_board_is_made_with_torch_blocked(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", "1"): answered(right(10, 2))}, metrics=["top1", "ece", "corruption_error"])
    code = "import sys; sys.modules['torch'] = None; from robustvit.results import leaderboard, export; "
    code += f"b = leaderboard.build_leaderboard({str(store.path)!r}); print(len(b.rows), len(export.export(b, 'md')) > 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["3", "True"], done.stderr


def test_an_average_of_values_that_a_cell_does_not_have_says_what_is_missing(make_store: Make, answered: Columns) -> None:
    """A cell of one lone frame has no pair: the leaderboard goes on, and the average is partial."""
    lone = {**answered([True], ids=["cat#3"]), "against": np.array([2])}
    board = leaderboard(make_store({("m", "rotate", "1"): lone}, metrics=["flip_rate", "mean_flip_rate"]))
    found = board.set_index("metric")[["status", "reason"]]
    assert found.loc["flip_rate", "status"] == "undefined"
    assert tuple(found.loc["mean_flip_rate"]) == (
        "partial",
        "0 of 1 cells; lacking rotate 1: no frame has the frame that it is compared with",
    )


def test_a_metric_that_fits_no_cell_says_what_is_missing(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "clean", ""): answered(right(10, 2))})
    found = row(leaderboard(store, metrics=["top1", "ece_temperature"]), metric="ece_temperature")
    assert (found["status"], found["reason"]) == ("undefined", "no cell has the column logits. Run with --keep logits.")


def test_a_metric_of_one_cell_alone_is_in_the_summary(make_store: Make, answered: Columns) -> None:
    alone = make_store({("m", "clean", ""): answered(right(10, 2))}, metrics=["top1", "nll"])
    assert {"clean top-1", "nll"} <= set(summary(leaderboard(alone)).columns)


def test_a_metric_of_every_cell_is_not(make_store: Make, answered: Columns) -> None:
    many = make_store({("m", "fog", s): answered(right(10, 2)) for s in "12"}, metrics=["top1", "nll"])
    assert "nll" not in summary(leaderboard(many)).columns


def test_the_summary_counts_the_samples_of_cells_and_not_of_metrics(make_store: Make, answered: Columns) -> None:
    attacked = {**answered(right(8, 3)), "attacked": np.arange(8) < 6, **dict.fromkeys(("linf", "l2", "l0"), np.zeros(8))}
    store = make_store({("m", "clean", ""): answered(right(10, 2)), ("m", "pgd", "1/255"): attacked}, metrics=["top1", "attack_success"])
    assert summary(leaderboard(store))["n"].tolist() == ["8 to 10"]


def test_the_summary_shows_a_minimum_norm_attack_by_its_curve(make_store: Make, answered: Columns) -> None:
    found = {**answered(right(8, 3)), "attacked": np.ones(8, dtype=bool), **dict.fromkeys(("linf", "l2", "l1", "l0"), np.arange(8.0))}
    table = summary(leaderboard(make_store({("m", "ddn", ""): found}, metrics=["top1", {"robust_accuracy_at": {"eps": 1.0}}])))
    assert table["ddn robust_accuracy_at(eps=1)"].tolist() == ["75.0 [40.9, 92.9]"]
    assert "ddn top-1" not in table


def attacked(answered: Columns, model: str, **robust: int) -> dict[tuple[str, str, str], Any]:
    """Attacks at 4/255 on 20 samples that were correct when clean, and how many stay robust to each."""
    return {(model, name, "4/255"): answered(right(20, 20 - left), attacked=[True] * 20) for name, left in robust.items()}


def test_the_verdict_on_gradients_is_beside_attacks_alone(make_store: Make, answered: Columns) -> None:
    cells = attacked(answered, "m", fgsm=5, pgd=15) | {("m", "clean", ""): answered(right(20, 0))}
    board = leaderboard(make_store(cells, metrics=["top1", "robust_accuracy", "corruption_error"]))
    verdict = "suspect: one step beats iterative (10 of 20: fgsm against pgd, linf 4/255)"
    assert set(board.loc[board["scenario"].isin(["fgsm", "pgd"]), "gradients"]) == {verdict}
    assert set(board.loc[~board["scenario"].isin(["fgsm", "pgd"]), "gradients"]) == {""}


def test_evidence_of_other_suites_counts_in_one_suites_board(make_store: Make, answered: Columns) -> None:
    make_store(attacked(answered, "m", pgd=15), suite="a", metrics=["robust_accuracy"])
    store = make_store(attacked(answered, "m", square=5) | attacked(answered, "rival", pgd=9), suite="b", metrics=["robust_accuracy"])
    for suite in ("a", "b", None):
        board = leaderboard(store, suite=suite, models=["m"])
        assert set(board["gradients"]) == {"suspect: random search beats gradients (10 of 20: square against pgd, linf 4/255)"}
    assert row(leaderboard(store), model="rival")["gradients"].startswith("unchecked: ")


def test_a_board_that_was_written_keeps_its_verdicts(make_store: Make, answered: Columns, tmp_path: Path) -> None:
    board = leaderboard(make_store(attacked(answered, "m", fgsm=5, pgd=15), metrics=["robust_accuracy"]))
    board.to_csv(tmp_path / "board.csv", index=False)
    assert read_csv(tmp_path / "board.csv")["gradients"].tolist() == board["gradients"].tolist()


def test_the_summary_marks_accuracies_under_attack_of_a_suspect(make_store: Make, answered: Columns) -> None:
    cells = attacked(answered, "m", fgsm=5, pgd=15) | attacked(answered, "n", fgsm=15, pgd=5)
    table = summary(leaderboard(make_store(cells, metrics=["robust_accuracy"]))).set_index("model")
    assert table["pgd 4/255 accuracy"].to_dict() == {"m": "75.0 [53.1, 88.8] !", "n": "25.0 [11.2, 46.9]"}
    assert table["gradients"].to_dict() == {"m": "suspect", "n": "unchecked"}
    assert table.columns.tolist()[-2:] == ["gradients", "status"]


def test_a_summary_without_attacks_has_no_column_for_them(make_store: Make, answered: Columns) -> None:
    assert "gradients" not in summary(leaderboard(make_store({("m", "clean", ""): answered(right(10, 2))})))


def test_attacks_that_differ_in_their_norm_or_steps_have_names_of_their_own() -> None:
    params = ["norm=linf, steps=20", "norm=l2, steps=20", "norm=linf, steps=50", "of=pgd(norm=l2, steps=3)", "of=fgsm(norm=l2)"]
    attacks = pd.DataFrame({"scenario": ["pgd"] * 3 + ["replay"] * 2, "severity": ["4/255", "1", "4/255", "2", "2"], "params": params})
    assert scenario_names(attacks) == [
        "pgd linf steps=20 4/255", "pgd l2 steps=20 1", "pgd linf steps=50 4/255",
        "replay of=pgd(norm=l2, steps=3) 2", "replay of=fgsm(norm=l2) 2",
    ]  # fmt: skip
    assert scenario_names(attacks[:1]) == ["pgd 4/255"]


def test_scored_cells_hold_no_rows_in_memory(make_store: Make, answered: Columns) -> None:
    """Neither those of complete cells nor those of failed ones: a view of no rows would hold the texts of all."""
    n = 900
    cells = {("m", "fog", str(level)): answered(right(n, 10)) for level in range(1, 6)}
    store = make_store(cells, asked=n + 1)
    store.fail(store.cells()[0], "out of memory")
    metrics = {"made-up": MetricList([resolve_metric("top1")])}
    gc.collect()
    before = pa.total_allocated_bytes()
    reader = RowReader(store, {})
    scored = score_cells(reader, stored_cells(store), CleanPredictions(reader, []), metrics=metrics, resampler=Resampler())
    gc.collect()
    assert pa.total_allocated_bytes() - before < 20 * n  # the ids of all five are 14 bytes a row, once
    assert [len(one.found.rows) for one in scored] == [0] * 5
    assert "pred" in scored[0].found.rows
