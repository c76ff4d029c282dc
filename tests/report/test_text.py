"""The sentences of a report."""

from collections.abc import Callable
from typing import Any

from robustvit.records.store import Store
from robustvit.report.points import Point, value_text
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.report.text import conclusion, gradient_warnings, notices, verdict_words
from robustvit.results.leaderboard import leaderboard


def test_a_conclusion_falls_back_to_the_first_number(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    store = make_store({("demo", "edge", ""): answered([True, False])})
    (suite,) = results_by_suite(leaderboard(store))
    assert conclusion(suite, suite.models[0]).sentence.startswith("has edge top-1 accuracy 50.0\u00a0% [")


def test_the_conclusion_has_clean_corrupted_and_robust_accuracy(suite: SuiteResults) -> None:
    sentence = conclusion(suite, suite.models[0]).sentence.replace("\u00a0", " ")
    assert sentence.startswith("classifies 95.0 % [")
    assert (
        "of 20 clean images of digits correctly; mean corruption error 35.0 % [18.2, 55.4] over 1 corruption; robust accuracy 20.0 % ["
        in sentence
    )
    assert sentence.endswith("] under pgd at 1/255.")


def test_the_conclusion_names_the_hardest_corruption(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    cells = {("demo", name, "5"): answered([True] * right + [False] * (20 - right)) for name, right in (("fog", 5), ("snow", 15))}
    (suite,) = results_by_suite(leaderboard(make_store(cells, metrics=("top1", "corruption_error"))))
    sentence = conclusion(suite, suite.models[0]).sentence.replace("\u00a0", " ")
    assert sentence == "has mean corruption error 50.0 % [32.2, 67.8] over 2 corruptions, highest on fog (25.0 % accuracy at severity 5)."


def test_a_metric_undefined_for_all_models_has_one_notice(suite: SuiteResults) -> None:
    (notice,) = notices([suite])
    assert (notice.name, notice.what) == ("demo, rival", "mean corruption error relative to AlexNet")


def test_gradient_warnings_are_distinct_and_suspect_ones_come_first(masked: list[SuiteResults]) -> None:
    found = gradient_warnings(masked)
    assert [(one.verdict, one.name) for one in found] == [("suspect", "masked"), ("unchecked", "honest")]
    assert found[0].why == "one step beats iterative (10 of 20: fgsm against pgd, linf 4/255)"


def test_a_verdict_that_lacks_checks_says_what_would_settle_it(suite: SuiteResults, masked: list[SuiteResults]) -> None:
    (unchecked,) = gradient_warnings([suite])
    assert unchecked.name == "demo, rival"
    assert unchecked.settled_by.startswith(
        "one step: an attack of one step and an iterative one with the same norm and eps; random search: "
    )
    assert unchecked.settled_by.count(": ") == unchecked.why.partition(" (")[0].count(", ") + 1
    assert gradient_warnings(masked)[0].settled_by == ""
    assert verdict_words([suite]) == ["unchecked"]
    assert verdict_words(masked) == ["suspect", "unchecked"]


def test_the_conclusion_warns_of_suspect_gradients(masked: list[SuiteResults]) -> None:
    caveats = {model.label: conclusion(masked[0], model).caveat for model in masked[0].models}
    assert caveats == {"honest": "", "masked": "Its gradients are suspect (gradient masking): its robust accuracy may be overestimated."}


def test_suites_without_attacks_have_no_gradient_warnings(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    assert gradient_warnings(results_by_suite(leaderboard(make_store({("m", "clean", ""): answered([True])})))) == []


def test_a_value_is_written_with_unit_and_interval() -> None:
    assert value_text(Point(40.0, 38.0, 42.0)) == "40.0\u00a0% [38.0,\u00a042.0]"
    assert value_text(Point(0.123456), "") == "0.123"


def test_a_conclusion_has_a_measurement_of_every_cell(make_store: Callable[..., Store]) -> None:
    cells = {
        ("demo", "loss_surface", eps): {"sample": ["a"], "label": [0], "value_probability": [value]}
        for eps, value in (("1", 0.0), ("4", 1.0))
    }
    (suite,) = results_by_suite(leaderboard(make_store(cells, metrics=("probability_outputs",))))
    sentence = conclusion(suite, suite.models[0]).sentence
    assert "loss surface 1 probability outputs 0.0" in sentence
    assert "loss surface 4 probability outputs 100.0" in sentence


def test_a_store_of_corruptions_alone_is_summed_up_by_what_it_has(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    store = make_store({("demo", "fog", level): answered([True] * right + [False] * (4 - right)) for level, right in (("1", 3), ("2", 1))})
    (suite,) = results_by_suite(leaderboard(store))
    assert conclusion(suite, suite.models[0]).sentence == "has top-1 accuracy 25.0 to 75.0\u00a0% over 2 cells of fog on digits."
