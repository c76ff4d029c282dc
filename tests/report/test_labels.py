"""How names and severity levels are written."""

from robustvit.report import labels
from robustvit.spec.written.words import metric_name


def test_severities_are_ordered_by_size_and_budgets_as_fractions() -> None:
    assert labels.sorted_levels(["10", "9", "1"]) == ["1", "9", "10"]
    assert labels.sorted_levels(["4/255", "0.5/255", "1/255"]) == ["0.5/255", "1/255", "4/255"]
    assert labels.sorted_levels(["strong", "1"]) == ["strong", "1"]


def test_a_shared_denominator_is_left_out() -> None:
    assert labels.shorten_levels(["0", "0.5/255", "4/255"]) == (["0", "0.5", "4"], "1/255")
    assert labels.shorten_levels(["0", "1/255", "1/2"]) == (["0", "1/255", "1/2"], "")
    assert labels.shorten_levels(["1", "2"]) == (["1", "2"], "")


def test_a_scenario_is_named_with_those_parameters_that_tell_it_from_others_of_its_name() -> None:
    keys = [("gaussian_noise", "a=1, c=3"), ("gaussian_noise", "a=2, c=3"), ("fog", "b=1")]
    assert [labels.scenario_title(key, keys) for key in keys] == ["gaussian noise (a=1)", "gaussian noise (a=2)", "fog"]
    through = [("pgd", "steps=10"), ("pgd", "steps=10, through=host")]
    assert [labels.scenario_title(key, through) for key in through] == ["pgd", "pgd (through=host)"]


def test_metrics_have_the_titles_that_they_declare_or_their_names_with_spaces() -> None:
    names = ("ece", "mean_corruption_error", "certified_accuracy(patch=5)", "robust_accuracy", "no_metric")
    assert [metric_name(name) for name in names] == [
        "expected calibration error", "mean corruption error", "certified accuracy (patch=5)", "robust accuracy", "no_metric",
    ]  # fmt: skip


def test_the_tooltip_of_a_metric_has_its_identifier() -> None:
    assert labels.metric_tip("certified_accuracy(patch=5)").splitlines()[0] == "certified_accuracy(patch=5)"
    assert labels.metric_tip("Brier").splitlines()[0] == "brier"
    assert labels.metric_tip("ece").splitlines()[1].startswith("Expected calibration error: ")
    assert labels.metric_tip("no_metric") == ""
