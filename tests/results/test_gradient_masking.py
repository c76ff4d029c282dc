"""The verdict on gradients, from rows made by hand: both outcomes of every check, ties, the threshold, missing attacks."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from robustvit.records.store import Store
from robustvit.results.attack_outcomes import AttackCell, ModelAttacks, attack_cell
from robustvit.results.gradient_masking import CHECKS, Finding, Verdict, findings, verdict, verdict_word, worst_verdict
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import canonical, parse

N = 100
FGSM, PGD, SQUARE = ({name: {"eps": "8/255"}} for name in ("fgsm", "pgd", "square"))
TRANSFER = {"transfer": {"surrogate": "demo", "attack": {"pgd": {"eps": "8/255"}}}}


def attack(node: Any, fooled: Iterable[int], *, n: int = N, classes: int = 5, after: tuple[Any, ...] = (), by: Any = None) -> AttackCell:
    """A cell of an attack on samples 0 … n − 1, all correct when clean, some of them fooled. by: in a chain, by which attack."""
    wrong, labels = np.isin(np.arange(n), list(fooled)), np.arange(n) % classes
    spec, *before = [canonical(bind(lookup("attack", one.name), one)) for given in (node, *after) for one in parse(given)]
    rows = pd.DataFrame({"sample": [f"s{i:04d}" for i in range(n)], "label": labels, "pred": labels + wrong, "attacked": True})
    rows["felled_by"] = [(by or {}).get(i, spec["name"]) if fools else "" for i, fools in enumerate(wrong)]
    return attack_cell(f"{spec['name']} {node}", {"scenario": spec, "after": before, "view": {"size": [4, 4]}}, rows)


def surface(error: Iterable[float] = (), *, win: int = 0, probability: float = 0.0, gradient: str = "exact", n: int = N) -> pd.DataFrame:
    """Rows of loss_surface: the first slopes as given, the others exact; the first `win` random steps win."""
    errors = [*error, *[0.0] * n][:n]
    return pd.DataFrame({
        "sample": [f"s{i:04d}" for i in range(n)], "gradient": gradient, "value_slope_error": errors, "value_step_gain": 1.0,
        "value_random_gain": np.where(np.arange(n) < win, 2.0, 1.0), "value_probability": probability,
    })  # fmt: skip


def of(check: str, *cells: AttackCell, surfaces: Iterable[pd.DataFrame] = ()) -> list[Finding]:
    found = verdict(ModelAttacks(list(cells), {str(i): rows for i, rows in enumerate(surfaces)}))
    return [one for one in found.findings if one.check == check]


def only(check: str, *cells: AttackCell) -> Finding:
    (found,) = of(check, *cells)
    return found


WEAK = [("one step", FGSM), ("random search", SQUARE), ("transfer", TRANSFER)]


@pytest.mark.parametrize(("check", "weak"), WEAK)
def test_a_weaker_attack_that_succeeds_where_the_stronger_fails_makes_gradients_suspect(check: str, weak: Any) -> None:
    found = only(check, attack(weak, range(30)), attack(PGD, range(10, 25)))
    assert (found.status, found.count, found.of) == ("failed", 15, N)
    assert len(found.cells) == 2
    assert "against pgd, linf 8/255" in found.between


@pytest.mark.parametrize(("check", "weak"), WEAK)
def test_a_weaker_attack_that_succeeds_less_proves_nothing(check: str, weak: Any) -> None:
    assert only(check, attack(weak, range(30)), attack(PGD, range(40))).status == "passed"
    assert only(check, attack(weak, range(30)), attack(PGD, range(30))).count == 0


@pytest.mark.parametrize(("check", "weak"), WEAK)
def test_without_its_counterpart_a_check_is_not_made(check: str, weak: Any) -> None:
    other = {**PGD["pgd"], "eps": "4/255"}
    assert only(check, attack(weak, range(9))).between.startswith("needs ")
    for cells in ([attack(weak, range(9))], [attack(PGD, range(9))], [attack(weak, range(9)), attack({"pgd": other}, range(3))], []):
        assert only(check, *cells).status == "unchecked"


def test_another_norm_is_another_ball() -> None:
    assert only("one step", attack(FGSM, range(9)), attack({"pgd": {"eps": "8/255", "norm": "l2"}}, ())).status == "unchecked"


def test_the_threshold_is_the_exact_test_of_one_in_a_hundred() -> None:
    for count in range(6):
        found = only("one step", attack(FGSM, range(count)), attack(PGD, ()))
        p = binomtest(count, N, 0.01, alternative="greater").pvalue
        assert found.p == pytest.approx(p)
        assert found.status == ("failed" if p < 0.05 else "passed")
    assert [only("one step", attack(FGSM, range(k)), attack(PGD, ())).status for k in (3, 4)] == ["passed", "failed"]


def test_many_tests_of_one_model_are_corrected() -> None:
    cells = [attack({name: {"eps": f"{eps}/255"}}, range(4) if name == "fgsm" else ()) for eps in range(1, 5) for name in ("fgsm", "pgd")]
    assert [one.status for one in of("one step", *cells[:2])] == ["failed"]
    quiet = [attack({"fgsm": {"eps": f"{eps}/255"}}, ()) for eps in range(2, 5)]
    found = of("one step", *cells[:2], *quiet, *cells[3::2])
    assert {one.status for one in found} == {"passed"}


def test_a_sample_that_any_gradient_attack_misclassified_does_not_count() -> None:
    assert only("random search", attack(SQUARE, range(20)), attack(FGSM, range(8)), attack(PGD, range(5, 20))).count == 0


def test_one_step_is_compared_with_iterative_attacks_alone() -> None:
    assert only("random search", attack(SQUARE, range(9)), attack(FGSM, range(9))).status == "unchecked"


def test_square_at_the_end_of_a_chain_is_random_search() -> None:
    ball = {"eps": "8/255"}
    chain = attack({"square": ball}, range(50), after=({"apgd_ce": ball}, {"apgd_t": ball}), by={**dict.fromkeys(range(40), "apgd_ce")})
    found = only("random search", chain)
    assert (found.count, found.of, found.status) == (10, N, "failed")
    assert found.between == "square against apgd_ce, apgd_t, linf 8/255"


def test_samples_that_only_one_side_attacked_do_not_count() -> None:
    found = only("one step", attack(FGSM, range(60), n=60), attack(PGD, range(50), n=50))
    assert (found.count, found.of) == (0, 50)
    assert only("one step", attack(FGSM, (), n=0), attack(PGD, (), n=0)).between == "no sample that both sides attacked"


@pytest.mark.parametrize("node", [{"pgd": {"eps": 1}}, {"pgd": {"eps": 9, "norm": "l2"}}, {"pgd": {"eps": 48, "norm": "l1"}}, "ddn", "cw"])
def test_an_unbounded_attack_must_fool_every_sample(node: Any) -> None:
    assert only("unbounded", attack(node, range(N))).status == "passed"
    found = only("unbounded", attack(node, range(N - 10)))
    assert (found.status, found.count, found.of) == ("failed", 10, N)


@pytest.mark.parametrize("node", [{"pgd": {"eps": 0.49}}, {"pgd": {"eps": 3, "norm": "l2"}}, {"square": {"eps": 1}}, {"fgsm": {"eps": 1}}])
def test_a_bounded_attack_or_one_without_iterations_is_not_checked(node: Any) -> None:
    assert only("unbounded", attack(node, ())).status == "unchecked"


def test_in_reach_of_grey_the_samples_of_one_class_may_stay_robust() -> None:
    robust = set(range(0, N, 5))  # all of class 0
    assert only("unbounded", attack({"pgd": {"eps": 0.5}}, set(range(N)) - robust)).count == 0
    found = only("unbounded", attack({"pgd": {"eps": 0.5}}, set(range(N)) - robust - {1, 2, 3, 4, 6, 7, 8}))
    assert (found.count, found.status) == (7, "failed")
    assert only("unbounded", attack({"pgd": {"eps": 1}}, set(range(N)) - robust)).count == 20


def test_a_model_with_one_label_is_not_checked() -> None:
    found = only("unbounded", attack({"pgd": {"eps": 1}}, (), classes=1))
    assert (found.status, found.between) == ("unchecked", "all samples that were attacked have one label")


def test_unbounded_attacks_count_together() -> None:
    assert only("unbounded", attack("ddn", range(60)), attack({"pgd": {"eps": 1}}, range(40, N))).count == 0


def test_what_is_misclassified_in_a_ball_must_be_in_a_larger_one() -> None:
    small, large = ({"apgd_ce": {"eps": eps}} for eps in ("2/255", "8/255"))
    assert only("larger ball", attack(small, range(20)), attack(large, range(20))).status == "passed"
    found = only("larger ball", attack(large, range(5, 20)), attack(small, range(20)))
    assert (found.status, found.count, found.between) == ("failed", 5, "apgd_ce, linf 2/255 against linf 8/255")


@pytest.mark.parametrize("nodes", [
    [{"fgsm": {"eps": 0.1}}, {"fgsm": {"eps": 0.2}}], [{"pgd": {"eps": 0.1}}, {"apgd_ce": {"eps": 0.2}}],
    [{"pgd": {"eps": 0.1}}, {"pgd": {"eps": 0.2, "steps": 3}}], [{"pgd": {"eps": 0.1}}, {"pgd": {"eps": 0.2, "norm": "l2"}}], ["ddn", "cw"],
])  # fmt: skip
def test_only_one_and_the_same_iterative_attack_has_a_curve(nodes: list[Any]) -> None:
    assert only("larger ball", attack(nodes[0], range(20)), attack(nodes[1], ())).status == "unchecked"


def test_neighbours_on_a_curve_are_compared() -> None:
    cells = [attack({"pgd": {"eps": f"{eps}/255"}}, range(10 * eps)) for eps in (4, 1, 2)]
    assert [one.between for one in of("larger ball", *cells)] == [
        "pgd, linf 1/255 against linf 2/255",
        "pgd, linf 2/255 against linf 4/255",
    ]


def failed(*surfaces: pd.DataFrame) -> list[tuple[str, int]]:
    return [(one.claim, one.count) for one in of("loss surface", surfaces=surfaces) if one.status == "failed"]


def test_each_claim_about_the_loss_surface_is_tested() -> None:
    assert failed(surface()) == []
    assert failed(surface([0.5] * N)) == []
    assert failed(surface([0.9] * 7)) == [("the loss does not follow its gradient", 7)]
    assert failed(surface(win=7)) == [("a random step beats the gradient's", 7)]
    assert failed(surface(probability=1.0)) == [("the outputs are probabilities", N)]


def test_a_surrogate_gradient_need_not_be_a_slope() -> None:
    assert failed(surface([1.0] * N, gradient="straight-through")) == []
    assert failed(surface([1.0] * N, gradient="straight-through", win=9)) == [("a random step beats the gradient's", 9)]


def whole(*more: AttackCell) -> ModelAttacks:
    """Everything that the checks need, and all of them pass."""
    cells = [attack(FGSM, range(10)), attack(PGD, range(50)), attack({"pgd": {"eps": 1}}, range(N)), attack(SQUARE, range(20))]
    return ModelAttacks([*cells, *more], {"surface": surface()})


def test_a_model_that_passes_everything_is_honest() -> None:
    found = verdict(whole(attack(TRANSFER, range(9))))
    assert (found.status, str(found)) == ("honest", "honest")
    assert list(dict.fromkeys(one.check for one in found.findings)) == list(CHECKS)


def test_transfer_alone_may_be_missing_and_the_verdict_says_so() -> None:
    assert str(verdict(whole())) == "honest (transfer unchecked)"


def test_what_could_not_be_checked_is_named() -> None:
    found = verdict(ModelAttacks([attack(FGSM, ()), attack(PGD, range(5))], {}))
    assert str(found) == "unchecked: random search, transfer, unbounded, larger ball, loss surface (1 of 6 checks passed)"
    assert str(verdict(ModelAttacks())) == f"unchecked: {', '.join(CHECKS)} (0 of 6 checks passed)"


def test_a_suspect_verdict_gives_the_worst_counts() -> None:
    other = {"eps": "2/255"}
    attacks = whole(attack(TRANSFER, range(30, 80)), attack({"fgsm": other}, range(20)), attack({"pgd": other}, range(8)))
    text = str(verdict(attacks))
    assert text == (
        "suspect: one step beats iterative (12 of 100: fgsm against pgd, linf 2/255); "
        "transfer beats white-box (30 of 100: transfer against fgsm, pgd, linf 8/255)"
    )


def test_the_order_of_rows_and_of_cells_changes_nothing() -> None:
    attacks = whole(attack(TRANSFER, range(30, 80)))

    def turned_around(one: AttackCell) -> AttackCell:
        steps = tuple(replace(step, fooled=step.fooled[::-1]) for step in one.steps)
        return replace(one, samples=one.samples[::-1], labels=one.labels[::-1], steps=steps)

    turned = [turned_around(one) for one in attacks.cells]
    for cells in (attacks.cells[::-1], turned, [attacks.cells[0], *turned[1:]]):
        found = verdict(ModelAttacks(cells, attacks.surfaces))
        assert {(one.check, one.count, one.of, one.p) for one in found.findings} == {
            (one.check, one.count, one.of, one.p) for one in verdict(attacks).findings
        }


def test_the_worst_verdict_comes_first() -> None:
    texts = ["honest (transfer unchecked)", "", "unchecked: one step (0 of 6 checks passed)", "suspect: b (1 of 2: x)", "honest"]
    assert [verdict_word(text) for text in texts] == ["honest", "", "unchecked", "suspect", "honest"]
    assert worst_verdict(texts) == texts[3]
    assert worst_verdict(texts[:3]) == texts[2]
    assert worst_verdict([""]) == ""


def test_a_verdict_of_nothing_but_passed_findings_is_honest() -> None:
    passed = tuple(Finding(check, "", "", status="passed") for check in CHECKS)
    assert Verdict(passed).status == "honest"


def test_all_findings_of_a_store_are_a_table(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    right = [True] * 20
    cells = {
        ("m", "fgsm", "4/255"): answered([False] * 9 + [True] * 11, attacked=right),
        ("m", "pgd", "4/255"): answered(right, attacked=right),
    }
    found = findings(make_store(cells))
    assert set(found["model"]) == {"m"}
    assert found.loc[found["check"] == "one step", ["status", "count", "of"]].to_numpy().tolist() == [["failed", 9, 20]]
    assert set(found["check"]) == set(CHECKS)


@pytest.mark.parametrize("node", [{"pgd": {"eps": 1}}, {"pgd": {"eps": 0.5}}, "ddn"])
def test_a_model_that_is_never_correct_was_never_attacked(node: Any) -> None:
    found = only("unbounded", attack(node, (), n=0))
    assert (found.status, found.of) == ("unchecked", 0)
