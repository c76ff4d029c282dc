"""What rows say of attacks, and which cells are held against each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustvit.records.cells import asked
from robustvit.records.store import Store
from robustvit.results.attack_outcomes import Attempts, Trial, circumstances, trial
from robustvit.spec.registry import bind, lookup
from robustvit.spec.spec import canonical, parse

Make = Callable[..., Store]
Answer = Callable[..., dict[str, Any]]
ROWS = pd.DataFrame({
    "sample": list("abcde"), "label": [0, 1, 2, 3, 4], "pred": [0, 0, 2, 0, 0], "attacked": [True, True, True, True, False],
    "felled_by": ["", "apgd_ce", "", "square", ""],
})  # fmt: skip


def told(*nodes: Any) -> dict[str, Any]:
    """The canonical question of a chain of attacks."""
    *after, last = [canonical(bind(lookup("attack", spec.name), spec)) for node in nodes for spec in parse(node)]
    return {"scenario": last, "view": {"size": [4, 5]}, **({"after": after} if after else {})}


def link(node: Any) -> Any:
    return trial("c", told(node), ROWS).links[0]


def test_only_attacked_samples_count_and_wrong_answers_have_fallen() -> None:
    found = trial("c", told({"pgd": {"eps": "4/255"}}), ROWS)
    assert found.samples.tolist() == list("abcd")
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert found.felled.tolist() == [False, True, False, True]
    assert (found.values, found.links[0].ball, found.links[0].eps) == (60, "linf 4/255", 4 / 255)


@pytest.mark.parametrize(("node", "role"), [
    ({"fgsm": {"eps": 0.1}}, "one step"), ({"pgd": {"eps": 0.1}}, "iterative"), ({"pgd": {"eps": 0.1, "steps": 1}}, "one step"),
    ({"apgd_ce": {"eps": 0.1}}, "iterative"), ({"mi_fgsm": {"eps": 0.1}}, "iterative"), ("ddn", "iterative"), ({"square": {"eps": 0.1}}, "search"),
    ({"transfer": {"surrogate": "demo", "attack": {"pgd": {"eps": 0.1}}}}, "transfer"),
])  # fmt: skip
def test_every_attack_has_its_part(node: Any, role: str) -> None:
    assert link(node).role == role


def test_transfer_keeps_the_ball_of_the_attack_inside_it() -> None:
    found = link({"transfer": {"surrogate": "demo", "attack": {"pgd": {"eps": 0.1, "norm": "l2"}}}})
    assert (found.norm, found.eps, found.ball) == ("l2", 0.1, "l2 0.1")


@pytest.mark.parametrize(("node", "norm"), [("ddn", "l2"), ("cw", "l2"), ({"fmn": {"norm": "linf"}}, "linf"), ("fab_t", "linf")])
def test_an_attack_without_a_radius_has_no_bound(node: Any, norm: str) -> None:
    assert (link(node).norm, link(node).eps, link(node).ball) == (norm, np.inf, norm)


def test_each_link_of_a_chain_answers_for_its_own() -> None:
    found = trial("c", told({"apgd_ce": {"eps": 0.1}}, {"square": {"eps": 0.1}}), ROWS)
    assert [(one.name, one.felled.tolist()) for one in found.links] == [
        ("apgd_ce", [False, True, False, False]),
        ("square", [False, False, False, True]),
    ]


def test_attacks_are_the_same_when_only_their_radius_differs() -> None:
    def same(*nodes: Any) -> str:
        return trial("c", told(*nodes), ROWS).same

    assert same({"pgd": {"eps": 0.1}}) == same({"pgd": {"eps": 0.2}})
    assert same({"pgd": {"eps": 0.1}}) != same({"pgd": {"eps": 0.1, "steps": 9}})
    assert same({"apgd_ce": {"eps": 0.1}}, {"square": {"eps": 0.1}}) != same({"square": {"eps": 0.1}})


@pytest.mark.parametrize("key", ["weights", "data_fingerprint", "view", "seed", "precision", "transforms"])
def test_cells_that_differ_in_more_than_the_attack_are_kept_apart(key: str) -> None:
    here = told({"pgd": {"eps": 0.1}})
    assert circumstances(here) == circumstances(told({"apgd_ce": {"eps": 0.2}}, {"square": {"eps": 0.2}}))
    assert circumstances(here) != circumstances({**here, key: "other"})


def heard(store: Store, *names: str) -> Attempts:
    attempts = Attempts(store)
    for one in asked(store):
        if one.question.scenario in names:
            attempts.expect(one.question)
    return attempts


def attacks(answered: Answer, model: str, *names: str) -> dict[tuple[str, str, str], Any]:
    rows = answered([True, False, False, True], attacked=[True, True, True, False])
    return {(model, name, "4/255"): rows for name in names}


def test_cells_of_all_suites_stand_beside_an_attack(make_store: Make, answered: Answer) -> None:
    make_store(attacks(answered, "m", "square"), suite="blackbox")
    store = make_store(attacks(answered, "m", "pgd"), suite="linf")
    (found,) = heard(store, "pgd").gathered().values()
    assert [one.links[0].name for one in found.trials] == ["pgd", "square"]


def test_another_model_or_data_set_is_no_evidence(make_store: Make, answered: Answer) -> None:
    make_store(attacks(answered, "m", "square"), suite="other data", label="elsewhere")
    store = make_store(attacks(answered, "m", "pgd") | attacks(answered, "rival", "square"), suite="linf")
    (found,) = heard(store, "pgd").gathered().values()
    assert [one.links[0].name for one in found.trials] == ["pgd"]


def test_nothing_is_read_where_no_attack_is_asked_about(
    make_store: Make, answered: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    store = make_store(attacks(answered, "m", "pgd"))
    monkeypatch.setattr(Store, "describe", lambda *_: pytest.fail("a cell was looked at"))
    assert heard(store, "clean").gathered() == {}


def test_rows_that_were_heard_are_not_read_again(make_store: Make, answered: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(attacks(answered, "m", "pgd"))
    attempts = heard(store, "pgd")
    attempts.hear(asked(store)[0].question, ROWS)
    monkeypatch.setattr(Store, "pieces", lambda *_: pytest.fail("rows were read"))
    (found,) = [one.trials[0] for one in attempts.gathered().values()]
    assert isinstance(found, Trial)
    assert len(found.samples) == 4


def test_a_cell_without_rows_says_nothing(make_store: Make, answered: Answer) -> None:
    store = make_store({("m", "pgd", "4/255"): {**answered([], attacked=[]), "top5": np.zeros((0, 5), int)}}, asked=3)
    (found,) = heard(store, "pgd").gathered().values()
    assert found.trials == []
