"""The constants' own laws: AlexNet scores 100 by each of its measures."""

from collections.abc import Mapping

import numpy as np
import pytest

from robustvit.errors import MissingCells, NotApplicable
from robustvit.metrics.corruption import (
    SEVERITIES,
    alexnet,
    ce_alexnet,
    corruption_error,
    mce_alexnet,
    mean_corruption_error,
    mean_err_15,
    relative_mce_alexnet,
    stand_ins,
)  # fmt: skip
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.resamples import Resampler


def graded(rates: Mapping[tuple[str, str], float], data: str = "imagenet", classes: int = 1000) -> CellMeans:
    """Cells whose mean errors are exactly the rates: n zeros and ones cannot have the mean .69528, so each sample has that value."""
    resampler = Resampler()
    key = resampler([str(i) for i in range(8)]).key
    cells = {cell: Values(key, np.full(8, rate)) for cell, rate in rates.items()}
    return CellMeans("imagenet-c", data, classes, cells, resampler)


def of_alexnet() -> dict[tuple[str, str], float]:
    table = alexnet()["ce_per_severity"]
    return {(name, s): rate for name, rates in table.items() for s, rate in zip(SEVERITIES, rates, strict=True)} | {
        ("clean", ""): alexnet()["clean"]
    }


def test_alexnet_has_an_mce_of_one_hundred() -> None:
    errors = graded(of_alexnet())
    assert 100 * mce_alexnet(errors)[0] == pytest.approx(100.0, abs=1e-9)
    assert 100 * relative_mce_alexnet(errors)[0] == pytest.approx(100.0, abs=1e-9)
    assert 100 * ce_alexnet(errors, "fog")[0] == pytest.approx(100.0, abs=1e-9)


def test_the_fifteen_constants_average_to_the_published_mean() -> None:
    assert len(alexnet()["ce_mean"]) == 15
    assert mean_err_15(graded(of_alexnet()))[0] == pytest.approx(0.788993, abs=5e-7)


def test_every_mean_is_the_mean_of_its_severities() -> None:
    for name, rates in alexnet()["ce_per_severity"].items():
        assert np.mean(rates) == pytest.approx(alexnet()["ce_mean"][name], abs=1e-12)


def test_a_corruption_error_averages_the_severities_asked() -> None:
    assert corruption_error(graded({("fog", "1"): 0.2, ("fog", "5"): 0.6}), "fog")[0] == pytest.approx(0.4)


def test_the_suite_mean_weighs_corruptions_equally() -> None:
    errors = graded({("clean", ""): 0.0, ("fog", "1"): 0.2, ("fog", "5"): 0.6, ("snow", "3"): 0.8})
    assert mean_corruption_error(errors)[0] == pytest.approx(0.6)


def test_the_quotient_is_taken_after_averaging() -> None:
    rates = {("fog", s): rate for s, rate in zip(SEVERITIES, [0.1, 0.2, 0.3, 0.4, 0.5], strict=True)}
    assert ce_alexnet(graded(rates), "fog")[0] == pytest.approx(0.3 / 0.819324)


def test_mce_is_the_mean_of_quotients_and_not_the_quotient_of_means() -> None:
    """A model with AlexNet's errors but half of them under brightness, AlexNet's easiest: 14.5 of 15, whatever brightness weighs."""
    rates = {(name, s): rate * (0.5 if name == "brightness" else 1.0) for (name, s), rate in of_alexnet().items()}
    assert mce_alexnet(graded(rates))[0] == pytest.approx(14.5 / 15, abs=1e-9)


@pytest.mark.parametrize("compute", [mce_alexnet, relative_mce_alexnet])
def test_off_imagenet_there_is_no_mce(compute: object) -> None:
    with pytest.raises(NotApplicable, match="'digits' with 10"):
        compute(graded(of_alexnet(), "digits", 10))  # type: ignore[operator]


def test_a_missing_cell_leaves_no_mean() -> None:
    whole = graded(of_alexnet())
    lacking = CellMeans("imagenet-c", "imagenet", 1000, {**whole.cells, ("fog", "3"): None}, whole.resampler)
    for ask in (mce_alexnet, mean_err_15, relative_mce_alexnet):
        with pytest.raises(MissingCells, match="74 of 75 cells; lacking fog 3"):
            ask(lacking)


STAND_INS = {"elastic_transform": "elastic_transform_imagecorruptions", "frost": "frost_imagecorruptions"}


def with_stand_ins(rates: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {(STAND_INS.get(name, name), severity): rate for (name, severity), rate in rates.items()}


@pytest.mark.parametrize("compute", [mce_alexnet, relative_mce_alexnet, mean_err_15])
def test_imagecorruptions_definitions_stand_in_and_the_mark_names_them(compute) -> None:
    errors = graded(with_stand_ins(of_alexnet()))
    assert compute(errors)[0] == pytest.approx(compute(graded(of_alexnet()))[0])
    assert stand_ins(errors).endswith("frost_imagecorruptions for frost, elastic_transform_imagecorruptions for elastic_transform")


def test_a_corruptions_own_quotient_has_its_stand_in_marked() -> None:
    errors = graded({("frost_imagecorruptions", s): 0.5 for s in SEVERITIES})
    assert ce_alexnet(errors, "frost_imagecorruptions")[0] == pytest.approx(0.5 / 0.826572)
    assert "frost_imagecorruptions for frost" in stand_ins(errors, "frost_imagecorruptions")
    assert stand_ins(errors, "fog") == ""


def test_nothing_stands_in_for_a_corruption_that_the_suite_has() -> None:
    other = {(name, s): 1.0 for (name, s) in with_stand_ins(of_alexnet()) if name in STAND_INS.values()}
    both = graded({**of_alexnet(), **other})
    assert 100 * mce_alexnet(both)[0] == pytest.approx(100.0)
    assert stand_ins(both) == stand_ins(graded(of_alexnet())) == ""


def test_the_relative_one_needs_the_clean_cell() -> None:
    rates = of_alexnet()
    del rates["clean", ""]
    with pytest.raises(NotApplicable, match="0 of the 1 cells"):
        relative_mce_alexnet(graded(rates))


def test_a_corruption_outside_the_table_has_no_quotient() -> None:
    with pytest.raises(NotApplicable, match="no 'spatter'"):
        ce_alexnet(graded({("spatter", s): 0.5 for s in SEVERITIES}), "spatter")
