"""The outcome of attacks from the rows of their cells, and which cells are compared with each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustvit.records.cells import RowReader, stored_cells, without_scenario
from robustvit.records.store import Store
from robustvit.results.attack_outcomes import COLUMNS, ModelAttacks, attack_cell, attacks_beside
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import canonical, parse

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
ROWS = pd.DataFrame({
    "sample": list("abcde"), "label": [0, 1, 2, 3, 4], "pred": [0, 0, 2, 0, 0], "attacked": [True, True, True, True, False],
    "felled_by": ["", "apgd_ce", "", "square", ""],
})  # fmt: skip


def description(*nodes: Any) -> dict[str, Any]:
    """The canonical question of a chain of attacks."""
    *after, last = [canonical(bind(lookup("attack", spec.name), spec)) for node in nodes for spec in parse(node)]
    return {"scenario": last, "view": {"size": [4, 5]}, **({"after": after} if after else {})}


def step(node: Any) -> Any:
    return attack_cell("c", description(node), ROWS).steps[0]


def test_only_attacked_samples_count_and_misclassified_ones_were_fooled() -> None:
    found = attack_cell("c", description({"pgd": {"eps": "4/255"}}), ROWS)
    assert found.samples.tolist() == list("abcd")
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert found.steps[0].fooled.tolist() == [False, True, False, True]
    assert (found.values, found.steps[0].ball, found.steps[0].eps) == (60, "linf 4/255", 4 / 255)


@pytest.mark.parametrize(("node", "role"), [
    ({"fgsm": {"eps": 0.1}}, "one step"), ({"pgd": {"eps": 0.1}}, "iterative"), ({"pgd": {"eps": 0.1, "steps": 1}}, "one step"),
    ({"apgd_ce": {"eps": 0.1}}, "iterative"), ({"mi_fgsm": {"eps": 0.1}}, "iterative"), ("ddn", "iterative"),
    ({"square": {"eps": 0.1}}, "search"),
    ({"transfer": {"surrogate": "demo", "attack": {"pgd": {"eps": 0.1}}}}, "transfer"),
])  # fmt: skip
def test_every_attack_has_a_role(node: Any, role: str) -> None:
    assert step(node).role == role


def test_transfer_keeps_the_ball_of_the_attack_inside_it() -> None:
    found = step({"transfer": {"surrogate": "demo", "attack": {"pgd": {"eps": 0.1, "norm": "l2"}}}})
    assert (found.norm, found.eps, found.ball) == ("l2", 0.1, "l2 0.1")


@pytest.mark.parametrize(("node", "norm"), [("ddn", "l2"), ("cw", "l2"), ({"fmn": {"norm": "linf"}}, "linf"), ("fab_t", "linf")])
def test_an_attack_without_a_radius_has_no_bound(node: Any, norm: str) -> None:
    assert (step(node).norm, step(node).eps, step(node).ball) == (norm, np.inf, norm)


def test_each_step_of_a_chain_has_its_own_outcome() -> None:
    found = attack_cell("c", description({"apgd_ce": {"eps": 0.1}}, {"square": {"eps": 0.1}}), ROWS)
    assert [(one.name, one.fooled.tolist()) for one in found.steps] == [
        ("apgd_ce", [False, True, False, False]),
        ("square", [False, False, False, True]),
    ]


def test_attacks_are_the_same_when_only_their_radius_differs() -> None:
    def same(*nodes: Any) -> str:
        return attack_cell("c", description(*nodes), ROWS).same

    assert same({"pgd": {"eps": 0.1}}) == same({"pgd": {"eps": 0.2}})
    assert same({"pgd": {"eps": 0.1}}) != same({"pgd": {"eps": 0.1, "steps": 9}})
    assert same({"apgd_ce": {"eps": 0.1}}, {"square": {"eps": 0.1}}) != same({"square": {"eps": 0.1}})


@pytest.mark.parametrize("key", ["weights", "data_fingerprint", "view", "seed", "precision", "transforms"])
def test_cells_that_differ_in_more_than_the_attack_are_kept_apart(key: str) -> None:
    here = description({"pgd": {"eps": 0.1}})
    assert without_scenario(here) == without_scenario(description({"apgd_ce": {"eps": 0.2}}, {"square": {"eps": 0.2}}))
    assert without_scenario(here) != without_scenario({**here, key: "other"})


def beside(store: Store, name: str, reader: RowReader | None = None) -> list[ModelAttacks]:
    """The attacks beside the cells of a scenario."""
    every = stored_cells(store)
    chosen = [one for one in every if one.question.scenario == name]
    return [found.attacks for found in attacks_beside(reader or RowReader(store, COLUMNS), chosen, every)]


def attacks(answered: Columns, model: str, *names: str) -> dict[tuple[str, str, str], Any]:
    rows = answered([True, False, False, True], attacked=[True, True, True, False])
    return {(model, name, "4/255"): rows for name in names}


def test_cells_of_all_suites_are_beside_an_attack(make_store: Make, answered: Columns) -> None:
    make_store(attacks(answered, "m", "square"), suite="blackbox")
    (found,) = beside(make_store(attacks(answered, "m", "pgd"), suite="linf"), "pgd")
    assert [one.steps[0].name for one in found.cells] == ["pgd", "square"]


def test_another_model_or_data_set_is_no_evidence(make_store: Make, answered: Columns) -> None:
    make_store(attacks(answered, "m", "square"), suite="other data", label="elsewhere")
    store = make_store(attacks(answered, "m", "pgd") | attacks(answered, "rival", "square"), suite="linf")
    (found,) = beside(store, "pgd")
    assert [one.steps[0].name for one in found.cells] == ["pgd"]


def test_nothing_is_read_where_no_cell_is_an_attack(make_store: Make, answered: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(attacks(answered, "m", "pgd"))
    monkeypatch.setattr(Store, "describe", lambda *_: pytest.fail("a cell was read"))
    assert beside(store, "clean") == []


def test_rows_that_were_read_for_metrics_are_not_read_again(make_store: Make, answered: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(attacks(answered, "m", "pgd"))
    reader, (cell,) = RowReader(store, COLUMNS), stored_cells(store)
    reader.rows(cell.question, ["label"])
    monkeypatch.setattr("robustvit.records.cells.rows_of", lambda *_: pytest.fail("rows were read"))
    (found,) = beside(store, "pgd", reader)
    assert len(found.cells[0].samples) == 3


def test_a_cell_without_rows_is_no_evidence(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "pgd", "4/255"): {**answered([], attacked=[]), "top5": np.zeros((0, 5), int)}}, asked=3)
    (found,) = beside(store, "pgd")
    assert found.cells == []
