"""Published numbers beside measured ones: which model is which, what agrees, and what was measured under other rules."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import UsageError
from robustvit.records.manifest import ModelFacts
from robustvit.records.store import Store
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.results.published.agreement import beside, page, tag_of, unmatched
from robustvit.results.published.files import read_references

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
TAG = "deit_tiny_patch16_224.fb_in1k"
HEAD = "model,img_size,base,scenario,metric,value,unit,tolerance,n,pictures,source"


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """Published numbers from the lines of a file."""

    def write(*lines: str, head: str = HEAD) -> pd.DataFrame:
        (tmp_path / "own.csv").write_text("\n".join([head, *lines, ""]))
        return read_references(tmp_path / "own.csv", "own.csv")

    return write


@pytest.fixture
def board(make_store: Make, answered: Columns) -> Callable[..., Leaderboard]:
    """The leaderboard of a model with this card: 15 of 20 clean images correct, at 32 px."""

    def build(identity: str = f"timm(arch={TAG}, num_classes=1000)", tag: str = "fb_in1k") -> Leaderboard:
        made = make_store({("mine", "clean", ""): answered([True] * 15 + [False] * 5)}, data="imagenet")
        found = build_leaderboard(made)
        return replace(found, cards={"mine": replace(found.cards["mine"], identity=identity, tag=tag)})

    return build


def line(value: str = "75", size: str = "32", tolerance: str = "0.2", n: str = "20", pictures: str = "on-the-fly") -> str:
    return f"{TAG},{size},imagenet,clean,top1,{value},%,{tolerance},{n},{pictures},somebody"


def test_a_number_within_its_tolerance_agrees(board, published) -> None:
    (one,) = beside(board(), published(line("75.1"))).to_dict("records")
    assert (one["verdict"], one["why"], one["measured"], one["published"]) == ("agrees", "", 75.0, 75.1)
    assert one["difference"] == pytest.approx(-0.1)


def test_on_the_same_images_sampling_error_is_not_allowed_for(board, published) -> None:
    assert list(beside(board(), published(line("76")))["verdict"]) == ["differs"]


def test_standard_errors_are_of_the_measured_interval(board, published) -> None:
    (one,) = beside(board(), published(line("70"))).to_dict("records")
    error = (one["high"] - one["low"]) / 2 / 1.959964
    assert one["standard_errors"] == pytest.approx(5 / error, rel=1e-5)


def test_on_a_sample_sampling_error_is_allowed_for(board, published) -> None:
    (near,) = beside(board(), published(line("85", n="50000"))).to_dict("records")
    (far,) = beside(board(), published(line("99", n="50000"))).to_dict("records")
    assert (near["verdict"], near["why"], far["verdict"]) == ("agrees", "on 20 of 50000 images", "differs")


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"size": "224"}, "size 32, published at 224"),
        ({"n": "10"}, "20 images, published on 10"),
        ({"pictures": "released"}, "images on-the-fly, published with released"),
    ],
)
def test_other_rules_are_named(board, published, rules: dict[str, str], why: str) -> None:
    (one,) = beside(board(), published(line(**rules))).to_dict("records")
    assert (one["verdict"], one["why"]) == ("other rules", why)


def test_another_crop_or_filter_is_another_rule(board, published) -> None:
    head = HEAD.replace("base", "crop_pct,interpolation,base")
    given = line().replace("imagenet", "0.5,bilinear,imagenet", 1)
    (one,) = beside(board(), published(given, head=head)).to_dict("records")
    assert one["why"] == "crop 32 px of 36 (center), published with 32 of 64 (center); bicubic, published with bilinear"


def test_the_same_rules_come_before_others(board, published) -> None:
    found = beside(board(), published(line(), line(size="224")))
    assert list(found["verdict"]) == ["agrees"]


@pytest.mark.parametrize(
    ("identity", "tag", "known"),
    [
        (f"timm(arch={TAG}, kwargs=a=1,b=2, num_classes=1000)", "fb_in1k", TAG),
        ("timm(arch=deit_tiny_patch16_224, num_classes=1000)", "fb_in1k", TAG),
        ("timm(arch=deit_tiny_patch16_224, num_classes=1000)", "", ""),
        ("timm(arch=deit_tiny_patch16_224, num_classes=1000, weights=random)", "", ""),
        ("timm(arch=deit_tiny_patch16_224, num_classes=1000, surgery=[magnitude(amount=0.5, scope=global)])", "fb_in1k", ""),
        ("hf(arch=deit_tiny_patch16_224)", "fb_in1k", ""),
        ("", "", ""),
    ],
)
def test_a_model_is_known_by_its_card(identity: str, tag: str, known: str) -> None:
    assert tag_of(ModelFacts(identity=identity, tag=tag)) == known


def test_arguments_of_the_constructor_make_another_model(board, published) -> None:
    (one,) = beside(board(f"timm(arch={TAG}, kwargs=depth=6)"), published(line())).to_dict("records")
    assert (one["verdict"], one["why"]) == ("other rules", "built with kwargs=depth=6")


def test_no_arguments_are_no_other_rule(board, published) -> None:
    (one,) = beside(board(f"timm(arch={TAG}, kwargs=, num_classes=1000)"), published(line())).to_dict("records")
    assert one["verdict"] == "agrees"


def test_a_label_alone_identifies_no_model(board, published) -> None:
    assert not len(beside(board("", ""), published(line())))


def test_fractions_become_the_units_of_the_board(board, published) -> None:
    (one,) = beside(board(), published(line("0.75", tolerance="0.001").replace("%", "fraction"))).to_dict("records")
    assert (one["published"], one["tolerance"], one["verdict"]) == (75.0, pytest.approx(0.1), "agrees")


def test_a_star_stands_for_any_parameters_of_a_metric(board, published) -> None:
    plain = board()
    found = replace(plain, rows=plain.rows.replace({"metric": {"top1": "top1(baseline=[1])"}}))
    assert len(beside(found, published(line().replace("top1", "top1(*)")))) == 1
    assert not len(beside(found, published(line())))


def test_a_page_is_text_and_json_has_no_nan(board, published) -> None:
    found = beside(board(), published(line("75.1")))
    assert page(found).iloc[0]["difference"] == "-0.10"
    assert json.loads(found.to_json(orient="records"))[0]["published_n"] == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modell,base\n", r"own.csv:1: there is no column 'modell'. Did you mean 'model'"),
        ("model,base,metric,value\n", r"own.csv:1: the column 'source' is missing"),
        ("model,model,base,metric,value,source\n", r"own.csv:1: 'model' is there twice"),
        ("model,base,metric,value,source\na,digits,top1,1\n", r"own.csv:2: 4 values; the first line names 5"),
        ("model,base,metric,value,source\na,digits,top1,1,s\na,digits,error,x,s\n", r"own.csv:3: column 'value' is 'x'; it takes a number"),
        ("model,base,metric,value,source\na,digits,top1,nan,s\n", r"own.csv:2: column 'value' is 'nan'"),
        ("model,base,metric,value,source\na,digits,,1,s\n", r"own.csv:2: column 'metric' is empty"),
        ("model,base,metric,value,source,n\na,digits,top1,1,s,0\n", r"own.csv:2: column 'n' is '0'; it takes a whole number from 1"),
        ("model,base,metric,value,source,tolerance\na,digits,top1,1,s,-1\n", r"own.csv:2: column 'tolerance' is '-1'"),
        ("model,base,metric,value,source,crop_pct\na,digits,top1,1,s,1.5\n", r"own.csv:2: column 'crop_pct' is '1.5'; it takes a share"),
        ("model,base,metric,value,source,unit\na,digits,top1,1,s,pct\n", r"own.csv:2: column 'unit' is 'pct'"),
        (
            "model,base,metric,value,source\na,digits,top1,1,s\na,digits,top1,2,s\n",
            r"own.csv:3: gives again what line 2 gives: top1 of a on digits",
        ),
        ('model,base,metric,value,source\na,digits,top1,1,"s\n', r"own.csv:2: not CSV"),
    ],
)
def test_a_bad_file_is_named_with_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_references(tmp_path / "own.csv", "own.csv")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv cannot be read"):
        read_references(tmp_path / "none.csv")


def test_absent_columns_are_empty(published) -> None:
    found = published("a,digits,top1,1,s", head="model,base,metric,value,source")
    assert found["n"].isna().all()
    assert np.isnan(found["crop_pct"].iloc[0])
    assert found["severity"].iloc[0] == ""


NEEDED = "model,base,metric,value,source"


def test_an_empty_scenario_is_clean_for_a_metric_of_cells(board, published) -> None:
    found = beside(board(), published(f"{TAG},imagenet,top1,75,me", head=NEEDED))
    assert list(found["scenario"]) == ["clean"]


def test_an_empty_scenario_is_the_average_for_a_metric_over_a_model(published) -> None:
    found = published("a,imagenet,mce_alexnet,120,me", head=NEEDED)
    assert list(found["scenario"]) == [""]


def test_an_empty_unit_is_that_of_the_metric(published) -> None:
    assert list(published("a,digits,top1,75,me", "a,digits,nll,3,me", head=NEEDED)["unit"]) == ["%", "nat"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,digits,,topp1,1,%", r"own.csv:2: column 'metric' is 'topp1'; there is no such metric. Did you mean 'top1'"),
        ("a,imagenett,,top1,1,%", r"own.csv:2: column 'base' is 'imagenett'. Did you mean 'imagenette' or 'imagenet'"),
        ("a,digits,,top1,175.4,%", r"own.csv:2: column 'value' is '175.4'; top1 in % is from 0 to 100"),
        ("a,digits,,top1,-1,", r"own.csv:2: column 'value' is '-1'; top1 in % is from 0 to 100"),
        ("a,digits,,top1,75.4,fraction", r"own.csv:2: column 'value' is '75.4'; top1 as a fraction is from 0 to 1"),
        ("a,digits,,nll,-1,nat", r"own.csv:2: column 'value' is '-1'; nll is at least 0"),
        ("a,digits,,hf_dependence,101,%", r"own.csv:2: column 'value' is '101'; hf_dependence in % is at most 100"),
        ("a,digits,,corruption_error,1,%", r"own.csv:2: column 'scenario' is empty; corruption_error is of one corruption"),
        ("a,digits,clean,mce_alexnet,1,%", r"own.csv:2: column 'scenario' is 'clean'; mce_alexnet is an average over a suite"),
    ],
)
def test_an_unknown_metric_data_set_or_range_is_an_error(published, row: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        published(f"{row},s", head="model,base,scenario,metric,value,unit,source")


def test_data_of_ones_own_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(f"{NEEDED}\na,my-photos,top1,1,me\n")
    assert list(read_references(tmp_path / "own.csv", bases=["my-photos"])["base"]) == ["my-photos"]


def test_numbers_without_a_measured_one_are_counted_by_reason(board, published) -> None:
    rows = ("x.a,imagenet,,,top1", "y.a,imagenet,,,top1", f"{TAG},digits,,,top1", f"{TAG},imagenet,fog,,top1", f"{TAG},imagenet,,3,top1",
            f"{TAG},imagenet,,,top5", f"{TAG},imagenet,,,top1")  # fmt: skip
    known = published(*(f"{row},1,me" for row in rows), head="model,base,scenario,severity,metric,value,source")
    assert [str(one) for one in unmatched(board(), known)] == [
        f"2 model not here (x.a, y.a; here {TAG})", "1 other data (digits; here imagenet)", "1 other scenario (fog; here clean)",
        "1 other severity (3; here without one)", "1 other metric (top5; here top1)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"value": np.nan}, "measured without a value"), ({"transforms": "smooth"}, "measured on a transformed model only")],
)
def test_a_number_that_cannot_be_put_beside_another_says_why(board, published, changed: dict[str, Any], reason: str) -> None:
    plain = board()
    assert [str(one) for one in unmatched(replace(plain, rows=plain.rows.assign(**changed)), published(line()))] == [
        f"1 {reason} (clean top1)"
    ]


def test_each_number_is_measured_or_counted_once(board, published) -> None:
    known = published(line(), line().replace("top1", "top5"), line().replace(TAG, "z"))
    assert len(beside(board(), known)) + sum(one.rows for one in unmatched(board(), known)) == len(known)


def test_a_model_of_timms_tables_has_its_published_numbers_beside_it(make_store: Make, answered: Columns) -> None:
    cells: dict[Any, Any] = {("mine", "clean", ""): answered([True] * 15 + [False] * 5), ("mine", "fog", "3"): answered([True] * 20)}
    found = build_leaderboard(make_store(cells, data="imagenet", metrics=["top1", "top5"]))
    card = replace(found.cards["mine"], identity="timm(arch=resnet50.tv_in1k)", tag="tv_in1k")
    rows = beside(replace(found, cards={"mine": card}))
    clean = rows[(rows["scenario"] == "clean") & (rows["metric"] == "top1")].set_index("source")["published"]
    assert clean["timm results-imagenet.csv"] == 76.156
    assert clean["Taori et al. 2020, ImageNet testbed: robustness_top1s.csv"] == 76.13
    assert clean["RobustBench model_info/imagenet/Linf"] == 76.52
    fog = rows[rows["scenario"] == "fog"]
    assert set(fog["verdict"]) == {"other rules"}
    assert fog["why"].str.contains("images on-the-fly, published with released").any()
    assert fog["why"].str.contains("published at 224").all()


def test_a_number_of_other_parameters_says_so(make_store: Make, answered: Columns, published: Callable[..., pd.DataFrame]) -> None:
    row = f"{TAG},32,imagenet,clean,steps=9,top1,75,%,0.2,20,on-the-fly,somebody"
    table = published(row, head=HEAD.replace("scenario,", "scenario,params,"))
    found = build_leaderboard(make_store({("mine", "clean", ""): answered([True] * 15 + [False] * 5)}, data="imagenet"))
    card = replace(found.cards["mine"], identity=f"timm(arch={TAG})", tag="fb_in1k")
    (one,) = beside(replace(found, cards={"mine": card}), table).to_dict("records")
    assert (one["verdict"], one["why"]) == ("other rules", "no parameters, published with steps=9")


def test_models_that_are_not_here_are_counted_at_once(board) -> None:
    import time

    begun = time.perf_counter()
    (first, *_) = unmatched(board(identity="timm(arch=resnet50.tv_in1k)", tag="tv_in1k"))
    assert time.perf_counter() - begun < 20, "seventy thousand numbers of other models are not looked at one by one"
    assert first.reason == "model not here"
    assert first.rows > 70_000
    assert first.here == ("resnet50.tv_in1k",)
