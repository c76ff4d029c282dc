"""Fits over a factor view: exact lines, an independent least squares, planted laws, brute force for the front."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LinearRegression

from robustvit.errors import NotApplicable, UsageError
from robustvit.results.factors.pareto_front import pareto
from robustvit.results.factors.regression import augreg_fit, effective_robustness, scaling_fit
from robustvit.results.factors.view import FactorView, factor_view


def view(clean: list[float], shifted: list[float], **more: list[object]) -> FactorView:
    """A factor view of made-up models with intervals of one point."""
    frame = pd.DataFrame({"model": [f"m{i}" for i in range(len(clean))], "clean": clean, "shift": shifted, **more})
    for name in ("clean", "shift"):
        frame[f"{name}_low"], frame[f"{name}_high"] = frame[name] - 1, frame[name] + 1
    return FactorView(frame, {"clean": True, "shift": True})


def on_line(clean: list[float], intercept: float = -1.0, slope: float = 1.5) -> list[float]:
    return list(100 * expit(intercept + slope * logit(np.array(clean) / 100)))


@pytest.fixture(scope="module")
def published() -> FactorView:
    return factor_view()


CLEAN = [60.0, 70.0, 75.0, 80.0, 85.0, 88.0]


def test_models_on_a_line_have_no_effective_robustness() -> None:
    found = effective_robustness(view(CLEAN, on_line(CLEAN)), "shift")
    assert (found.line.intercept, found.line.slope, found.line.r2) == pytest.approx((-1.0, 1.5, 1.0))
    assert found.table["effective"].abs().max() < 1e-9


def test_a_model_above_the_line_of_others_is_that_many_points_above() -> None:
    others = view(CLEAN, on_line(CLEAN))
    mine = view([78.0], [on_line([78.0])[0] + 4])
    (row,) = effective_robustness(mine, "shift", among=others).table.to_dict("records")
    assert row["effective"] == pytest.approx(4)
    assert row["low"] < row["effective"] < row["high"]


def test_the_interval_adds_both_numbers_in_squares() -> None:
    others, at = view(CLEAN, on_line(CLEAN)), on_line([77.0, 78.0, 79.0])
    (row,) = effective_robustness(view([78.0], [at[1]]), "shift", among=others).table.to_dict("records")
    assert row["high"] == pytest.approx(np.hypot(1, at[1] - at[0]))
    assert row["low"] == pytest.approx(-np.hypot(1, at[2] - at[1]))


def test_the_line_is_that_of_an_independent_least_squares(published: FactorView) -> None:
    line = effective_robustness(published, "imagenet-a").line
    x, y = logit(published.rows[["clean"]].to_numpy() / 100), logit(published.rows["imagenet-a"].to_numpy() / 100)
    other = LinearRegression().fit(x, y)
    assert (line.intercept, line.slope, line.r2) == pytest.approx((other.intercept_, other.coef_[0], other.score(x, y)))
    assert line.n == 49


@pytest.mark.parametrize("shifted", [[50.0, 60.0], [50.0, 60.0, 0.0], [50.0, 60.0, float("nan")]])
def test_a_line_needs_three_models_between_0_and_100_percent(shifted: list[float]) -> None:
    with pytest.raises(NotApplicable, match="at least 3 models"):
        effective_robustness(view(CLEAN[: len(shifted)], shifted), "shift")


NAN = float("nan")


def test_models_left_out_are_listed_last_with_the_reason() -> None:
    clean, shifted = [*CLEAN, 100.0, 75.0, NAN, 0.0, 70.0], [*on_line(CLEAN), 50.0, 0.0, 40.0, NAN, NAN]
    table = effective_robustness(view(clean, shifted), "shift").table
    assert table["left_out"].tolist()[:6] == [""] * 6
    assert dict(zip(table["model"][6:], table["left_out"][6:], strict=True)) == {
        "m6": "100 % on clean, whose logit is infinite", "m7": "0 % on shift, whose logit is infinite", "m8": "no clean accuracy",
        "m9": "0 % on clean, whose logit is infinite; no number on shift", "m10": "no number on shift",
    }  # fmt: skip
    assert table["effective"].isna().tolist() == [False] * 6 + [True] * 5


def test_a_table_may_hold_nothing_but_models_left_out() -> None:
    found = effective_robustness(view([75.0, 76.0], [0.0, NAN]), "shift", among=view(CLEAN, on_line(CLEAN))).table
    assert found["left_out"].tolist() == ["0 % on shift, whose logit is infinite", "no number on shift"]


def test_models_left_out_do_not_move_the_line() -> None:
    more = effective_robustness(view([*CLEAN, 100.0, NAN], [*on_line(CLEAN), 50.0, 40.0]), "shift").line
    assert (more.n, more.intercept, more.slope) == pytest.approx((6, -1.0, 1.5))


def test_too_few_models_for_a_line_are_counted_and_named() -> None:
    message = r"between 0 and 100 %; 2 of 4 have them; left out: m2 \(0 % on shift, .*\), m3 \(no number on shift\)$"
    with pytest.raises(NotApplicable, match=message):
        effective_robustness(view(CLEAN[:4], [50.0, 60.0, 0.0, NAN]), "shift")


def test_equal_clean_accuracies_leave_no_line() -> None:
    with pytest.raises(NotApplicable, match="same clean accuracy"):
        effective_robustness(view([70.0] * 3, [50.0, 55.0, 60.0]), "shift")


def test_a_score_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"'shft'.*Did you mean 'shift'"):
        effective_robustness(view(CLEAN, CLEAN), "shft")


def test_an_error_has_no_expected_accuracy() -> None:
    errors = FactorView(view(CLEAN, CLEAN).rows, {"clean": True, "shift": False})
    with pytest.raises(NotApplicable, match="no accuracy beside"):
        effective_robustness(errors, "shift")


def test_the_clean_accuracy_is_no_shift(published: FactorView) -> None:
    with pytest.raises(NotApplicable, match="'clean' is no accuracy beside"):
        augreg_fit(published, "clean")


def test_coefficients_are_those_of_an_independent_least_squares(published: FactorView) -> None:
    found = augreg_fit(published, "imagenet-r", ["pretraining", "kind"])
    dummies = pd.get_dummies(published.rows[["pretraining", "kind"]]).drop(columns=["pretraining_in1k", "kind_transformer"]).to_numpy(float)
    x = np.column_stack([logit(published.rows["clean"] / 100), dummies])
    y = logit(published.rows["imagenet-r"].to_numpy() / 100)
    other = LinearRegression().fit(x, y)
    mine = found.table.set_index("term")["coefficient"]
    assert found.r2 == pytest.approx(other.score(x, y))
    assert mine["logit(clean)"] == pytest.approx(other.coef_[0])
    assert sorted(mine.drop(["intercept", "logit(clean)"])) == pytest.approx(sorted(other.coef_[1:]))


def test_standard_errors_are_those_of_the_formula_for_one_regressor() -> None:
    rng = np.random.default_rng(0)
    frame = view(CLEAN, [value + noise for value, noise in zip(on_line(CLEAN), rng.normal(0, 2, 6), strict=True)])
    slope = augreg_fit(frame, "shift", []).table.set_index("term").loc["logit(clean)"]
    from scipy.stats import linregress

    other = linregress(logit(frame.rows["clean"] / 100), logit(frame.rows["shift"] / 100))
    assert (slope["coefficient"], slope["standard_error"], slope["p"]) == pytest.approx((other.slope, other.stderr, other.pvalue))


def test_the_commonest_level_is_what_others_are_compared_with() -> None:
    frame = view(CLEAN, [value + (5 if i < 2 else 0) for i, value in enumerate(on_line(CLEAN))], recipe=["b", "b", "a", "a", "a", "a"])
    found = augreg_fit(frame, "shift", ["recipe"])
    assert found.against == {"recipe": "a"}
    assert found.table["term"].tolist() == ["intercept", "logit(clean)", "recipe = b"]
    assert found.table["coefficient"].iloc[2] > 0


def test_a_number_enters_as_it_is_and_models_without_it_are_left_out() -> None:
    frame = view(CLEAN, on_line(CLEAN), weight_decay=[0.1, 0.03, 0.1, 0.03, 0.0, float("nan")])
    found = augreg_fit(frame, "shift", ["weight_decay"])
    assert (found.n, found.freedom) == (5, 2)
    assert found.table["coefficient"].iloc[2] == pytest.approx(0, abs=1e-9)


def test_collinear_factors_are_named() -> None:
    frame = view(CLEAN, on_line(CLEAN), recipe=list("aabbbb"), family=list("xxyyyy"))
    with pytest.raises(NotApplicable, match="'family = x' is a linear combination"):
        augreg_fit(frame, "shift", ["recipe", "family"])


def test_more_terms_than_models_are_refused() -> None:
    with pytest.raises(NotApplicable, match="7 terms needs at least 8 models; 6"):
        augreg_fit(view(CLEAN, on_line(CLEAN), family=list("abcdef")), "shift", ["family"])


def planted(a: float = 0.5, b: float = 0.4, c: float = 0.1, d: float = 0.7) -> FactorView:
    macs = np.array([0.3, 0.7, 1.5, 3.0, 6.0, 12.0, 25.0, 50.0]) * 1e9
    frame = pd.DataFrame({"model": list("abcdefgh"), "macs": macs, "clean": 100 * (1 - (a * (macs / 1e9 + d) ** -b + c))})
    return FactorView(frame, {"clean": True})


def test_a_planted_scaling_law_is_found() -> None:
    found = scaling_fit(planted(), "clean")
    assert (found.a, found.b, found.c, found.d) == pytest.approx((0.5, 0.4, 0.1, 0.7), rel=0.02)
    assert found.converged
    assert "; converged" in str(found)
    assert found.rmse < 1e-5


def test_an_error_scales_as_it_is() -> None:
    rows = planted().rows
    errors = FactorView(rows.assign(mce=100 - rows["clean"]), {"mce": False})
    assert scaling_fit(errors, "mce").b == pytest.approx(0.4, rel=0.02)


def test_a_scaling_law_needs_five_models() -> None:
    small = FactorView(planted().rows.iloc[:4], {"clean": True})
    with pytest.raises(NotApplicable, match="at least five models; 4"):
        scaling_fit(small, "clean")


def test_a_search_that_does_not_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from robustvit.results.factors import regression as fits

    search = fits.least_squares
    monkeypatch.setattr(fits, "least_squares", lambda *args, **given: search(*args, **{**given, "max_nfev": 1}))
    found = scaling_fit(planted(), "clean")
    assert not found.converged
    assert "NOT converged" in str(found)


@pytest.mark.parametrize("higher", [True, False])
def test_the_front_is_that_of_brute_force(higher: bool) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"model": range(60), "macs": rng.integers(1, 12, 60), "s": rng.integers(0, 12, 60)})
    points = [(one.macs, one.s if higher else -one.s) for one in frame.itertuples()]
    beaten = [any(m <= macs and s >= score and (m, s) != (macs, score) for m, s in points) for macs, score in points]
    assert set(pareto(FactorView(frame, {"s": higher}), "macs", "s")["model"]) == {i for i, worse in enumerate(beaten) if not worse}


def test_a_model_without_a_cost_has_no_place_on_the_front() -> None:
    frame = pd.DataFrame({"model": ["a", "b"], "macs": [1.0, float("nan")], "s": [1.0, 9.0]})
    assert pareto(FactorView(frame, {"s": True}), "macs", "s")["model"].tolist() == ["a"]


def test_fits_of_the_published_table_are_the_same_every_time(published: FactorView) -> None:
    again = factor_view()
    assert str(scaling_fit(published, "clean")) == str(scaling_fit(again, "clean"))
    assert str(effective_robustness(again, "imagenet-a").line) == (
        "logit(imagenet-a) = -6.6016 + 3.6577 · logit(clean), R² 0.8885, over 49 models"
    )
