"""Attacks on compressed models: whose gradients they follow is part of the cell and of every row, and the worst case is over all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import vits

import robustvit as rv
from robustvit.errors import SuiteError
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.primitives.classifier_views import ThroughHost
from robustvit.records.store import load_records
from robustvit.report.cost_plots import cost_plots
from robustvit.report.ranking import strongest_attacks
from robustvit.report.suite_results import results_by_suite
from robustvit.results.attack_outcomes import attacks_beside
from robustvit.results.factors.view import factor_view
from robustvit.results.gradient_masking import findings
from robustvit.results.leaderboard import build_leaderboard, leaderboard
from robustvit.spec.suite_file import read_suite
from robustvit.statistics.intervals import wilson

HARD, SOFT = "dynamic_int8(bits=4, gradient=none)", "dynamic_int8(bits=4)"
SUITE = """name: t
title: t
data: digits
attack_through: {through}
scenarios:
  - clean
  - pgd: {{eps: 4/255, steps: 5}}
  - square: {{eps: 4/255, steps: 50}}
  - transfer: {{surrogate: host, attack: {{pgd: {{eps: 4/255, steps: 5, early: false}}}}}}
metrics: [top1, robust_accuracy, worst_case_accuracy]
"""


def suite(folder: Path, through: str = "[own, host]"):
    (folder / "t.yaml").write_text(SUITE.format(through=through))
    return read_suite(folder / "t.yaml", "t.yaml")


def test_gradients_through_the_host_are_the_hosts_and_logits_are_the_models() -> None:
    host = vits.made(vits.HOSTS["plain"])
    model = rv.transformed(host, SOFT)
    images = vits.images(3)
    through = ThroughHost(model, host)
    assert torch.equal(through(images), model(images))
    leaf, other = images.clone().requires_grad_(), images.clone().requires_grad_()
    weights = torch.randn(3, 5, generator=torch.Generator().manual_seed(3))
    logits = through(leaf)
    assert torch.equal(logits.detach(), model(images))
    found = torch.autograd.grad((logits * weights).sum(), leaf)[0]
    assert torch.equal(found, torch.autograd.grad((host(other) * weights).sum(), other)[0])
    assert (through.gradient, through.outputs) == ("surrogate", 5)


def test_whose_gradients_are_followed_is_part_of_a_cell_and_of_no_other_kind(tmp_path) -> None:
    made = make(suite(tmp_path), ["demo", f"demo+{SOFT}"], None, Settings(limit=4))
    told = [(bool(cell.transforms), cell.scenario.name, cell.attack_through) for cell in made.planned[0].cells]
    assert told == [
        (False, "clean", ""), (False, "pgd", ""), (False, "square", ""), (False, "transfer", ""),
        (True, "clean", ""), (True, "pgd", ""), (True, "pgd", "host"), (True, "square", ""), (True, "transfer", ""),
    ]  # fmt: skip
    plain = make(suite(tmp_path, "own"), [f"demo+{SOFT}"], None, Settings(limit=4))
    assert [cell.id for cell in plain.cells] == [cell.id for cell in made.cells if cell.transforms and not cell.attack_through]
    assert len({cell.id for cell in made.cells}) == len(made.cells)


@pytest.mark.parametrize("through", ["hots", "[own, hots]", "[]", "3"])
def test_what_is_no_policy_is_refused(tmp_path, through) -> None:
    with pytest.raises(SuiteError, match=r"t\.yaml:4: attack_through"):
        suite(tmp_path, through)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    done = rv.run(suite(folder), ["demo", f"demo+{SOFT}", f"demo+{HARD}"], store=folder / "s", limit=64)
    assert len(done.failed) == 1
    return folder / "s"


def test_every_row_of_an_attack_tells_the_gradients_that_it_followed(store) -> None:
    rows = pd.concat([rows.assign(transforms=question.transforms, params=question.params, scenario=question.scenario)
                      for question, rows in load_records(store) if question.kind == "attack" and len(rows)])  # fmt: skip
    used = rows[rows["attacked"] & (rows["gradient"] != "not used")]
    through = used["params"].str.contains("through=host")
    assert set(used.loc[(used["scenario"] == "pgd") & (used["transforms"] == ""), "gradient"]) == {"exact"}
    assert set(used.loc[(used["scenario"] == "pgd") & (used["transforms"] == SOFT) & ~through, "gradient"]) == {"straight-through"}
    assert set(used.loc[through, "gradient"]) == {"surrogate"}
    assert set(used.loc[used["scenario"] == "transfer", "gradient"]) == {"surrogate"}


def test_the_worst_case_is_the_minimum_over_attacks_sample_by_sample(store) -> None:
    board = leaderboard(store)
    worst = board[board["metric"] == "worst_case_accuracy"].set_index("transforms")
    held = [
        (rows["attacked"] & (rows["pred"] == rows["label"])).set_axis(rows["sample"])
        for question, rows in load_records(store)
        if question.kind == "attack" and question.transforms == SOFT
    ]
    assert len(held) == 4
    kept = pd.concat(held, axis=1).all(axis=1)
    low, high = wilson(int(kept.sum()), 64)
    assert worst.loc[SOFT, ["value", "low", "high"]].tolist() == pytest.approx([100 * kept.mean(), 100 * low, 100 * high], abs=1e-3)
    assert kept.mean() < min(one.mean() for one in held)
    counts = dict(part.rsplit(" ", 1) for part in worst.loc[SOFT, "params"].removesuffix(" of 64").split(", "))
    assert sorted(map(int, counts.values())) == sorted(64 - int(one.sum()) for one in held)
    assert next(iter(counts)) == max(counts, key=lambda name: int(counts[name]))
    assert worst.loc[SOFT, "scenario"] == "linf 4/255"


def test_without_a_policy_the_cell_fails_and_no_worst_case_is_told(store) -> None:
    board = leaderboard(store)
    hard = board[board["transforms"] == HARD]
    (failed,) = hard[hard["status"] == "failed"]["reason"].unique()
    assert "gives an input gradient that is zero or missing" in failed
    worst = hard[hard["metric"] == "worst_case_accuracy"].iloc[0]
    assert worst["status"] == "partial"
    assert np.isnan(worst["value"])
    assert "3 of 4 attacks; lacking pgd" in worst["reason"]


def test_attacks_through_the_host_are_evidence_about_the_models_own_gradients(store) -> None:
    from robustvit.records.cells import RowReader, open_store, stored_cells
    from robustvit.results.attack_outcomes import COLUMNS

    reader = RowReader(open_store(store), COLUMNS)
    cells = [one for one in stored_cells(reader.store, None, None) if one.question.transforms == SOFT]
    (setting,) = attacks_beside(reader, cells, ())
    assert sorted(step.role for cell in setting.attacks.cells for step in cell.steps) == ["iterative", "search", "transfer", "transfer"]
    found = findings(store)
    assert set(found.loc[(found["transforms"] == SOFT) & (found["check"] == "transfer"), "status"]) <= {"passed", "failed"}


def test_a_failed_attack_has_no_number_where_models_are_compared(store) -> None:
    """The number that the attack through the host left is another score: the failed one's place is empty."""
    view = factor_view(build_leaderboard(store)).rows.set_index("model")
    hard, soft = view.loc[f"demo → {HARD}"], view.loc[f"demo → {SOFT}"]
    assert np.isnan(hard["pgd 4/255"])
    assert hard["pgd 4/255 (through=host)"] == soft["pgd 4/255 (through=host)"] > 0
    assert soft["linf 4/255 worst_case_accuracy"] < soft["pgd 4/255"]
    assert np.isnan(view.loc["demo", "pgd 4/255 (through=host)"])


def test_the_headline_the_ranking_and_the_figure_have_the_worst_case(store, tmp_path) -> None:
    page = rv.write_report(store, tmp_path / "r.html").read_text()
    assert "in the worst case over attacks at linf 4/255" in page
    assert "worst case linf 4/255" in page
    board = build_leaderboard(store)
    assert "linf 4/255 worst_case_accuracy" in {plot.score for plot in cost_plots(board)}
    (model,) = [one for suite in results_by_suite(board.rows) for one in suite.models if one.rows["transforms"].iloc[0] == HARD]
    strongest = strongest_attacks(model)
    assert not strongest["pgd", "4/255"].known, "the failed attack borrows no number"
    assert strongest["pgd through host", "4/255"].known
