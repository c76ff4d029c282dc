"""`robustvit factors` and `leaderboard --published` as scripts use them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from robustvit.records.store import Store

Make = Callable[..., Store]
Answer = Callable[..., dict[str, Any]]
TAG = "deit_tiny_patch16_224.fb_in1k"


@pytest.fixture
def store(make_store: Make, answered: Answer) -> Path:
    """Two models, clean and under attack; the card of `mine` carries a tag."""
    made = make_store(
        {
            (model, *variant): answered([True] * right + [False] * (20 - right), attacked=[True] * 20 if variant[0] == "pgd" else None)
            for model, clean, left in (("mine", 15, 8), ("other", 18, 4))
            for variant, right in ((("clean", ""), clean), (("pgd", "1/255"), left))
        },
        metrics=["top1", "robust_accuracy"],
        data="imagenet",
    )
    (manifest,) = made.manifests()
    manifest.models["mine"] = replace(manifest.models["mine"], identity=f"timm(arch={TAG})", macs=10**9)
    manifest.models["other"] = replace(manifest.models["other"], macs=2 * 10**9)
    made.write_manifest(manifest)
    return made.path


def test_published_numbers_stand_beside_measured_ones(robustvit: Callable[..., Any], store: Path) -> None:
    result = robustvit("leaderboard", "--store", store, "--published")
    assert result.code == 0
    assert TAG in result.out
    assert "other rules: crop" in result.out or "size 32, published at 224" in result.out
    (row,) = json.loads(robustvit("leaderboard", "--store", store, "--published", "-f", "json").out)
    assert (row["published"], row["measured"], row["n"], row["verdict"]) == (72.19, 75.0, 20, "other rules")


def test_numbers_of_ones_own_are_taken(robustvit: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(f"model,base,scenario,metric,value,unit,n,source\n{TAG},imagenet,clean,top1,74,%,50000,me\n")
    result = robustvit("leaderboard", "--store", store, "--references", tmp_path / "own.csv", "-f", "csv", "-o", tmp_path / "out.csv")
    assert result.code == 0
    assert pd.read_csv(tmp_path / "out.csv")["verdict"].tolist() == ["agrees"]


def test_a_bad_file_of_ones_own_is_one_message(robustvit: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("model,base,metric,value,source\na,digits,top1,x,d\n")
    result = robustvit("leaderboard", "--store", store, "--references", tmp_path / "own.csv")
    assert result.code == 2
    assert "own.csv:2: column 'value' is 'x'" in result.err


def test_the_needed_columns_alone_find_the_clean_number(robustvit: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(f"model,base,metric,value,source\n{TAG},imagenet,top1,75,me\n")
    result = robustvit("leaderboard", "--store", store, "--references", tmp_path / "own.csv", "-f", "json")
    assert [row["scenario"] for row in json.loads(result.out)] == ["clean"]
    assert "without a measured one" not in result.err


def test_rows_that_match_nothing_are_counted_by_reason(robustvit: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    rows = (f"{TAG},imagenet,fog,top1,75,me", "b,imagenet,,top1,75,me", "c,imagenet,,top1,75,me", f"{TAG},imagenet,,top1,75,me")
    (tmp_path / "own.csv").write_text("\n".join(["model,base,scenario,metric,value,source", *rows]))
    result = robustvit("leaderboard", "--store", store, "--references", tmp_path / "own.csv")
    assert f"own.csv: 3 without a measured one: 2 model not here (b, c; here {TAG})" in result.err
    assert "1 other scenario (fog; here clean, pgd)" in result.err


def test_the_data_of_a_store_may_be_named(robustvit: Callable[..., Any], make_store: Make, answered: Answer, tmp_path: Path) -> None:
    made = make_store({("m", "clean", ""): answered([True, False])}, name="photos", data="my-photos")
    (tmp_path / "own.csv").write_text("model,base,metric,value,source\nb,my-photos,top1,75,me\n")
    result = robustvit("leaderboard", "--store", made.path, "--references", tmp_path / "own.csv")
    assert (result.code, "1 model not here (b)" in result.err) == (0, True)


def test_a_store_without_tags_says_how_models_are_known(robustvit: Callable[..., Any], make_store: Make, answered: Answer) -> None:
    made = make_store({("m", "clean", ""): answered([True, False])}, name="untagged")
    result = robustvit("leaderboard", "--store", made.path, "--published", "-f", "json")
    assert (result.code, json.loads(result.out)) == (0, [])
    assert "by timm's name with its tag" in result.err


def test_the_factors_of_a_store_mark_what_nothing_beats(robustvit: Callable[..., Any], store: Path) -> None:
    result = robustvit("factors", "--store", store)
    assert result.code == 0
    assert "pgd 1/255" in result.out
    assert [("*" in line) for line in result.out.splitlines() if " 1 " in line or " 2 " in line] == [True, False]


@pytest.mark.parametrize("format", ["csv", "json", "md"])
def test_every_format_of_a_fit_can_be_read(robustvit: Callable[..., Any], format: str) -> None:
    result = robustvit("factors", "--published", "--fit", "effective", "--format", format)
    assert result.code == 0
    assert "vit_base_patch8_224" in result.out.replace("\\", "").splitlines()[3 if format == "json" else 2 if format == "md" else 1]
    assert ("over 49 models" in result.out) == (format != "csv")


@pytest.fixture
def gaps(make_store: Make, answered: Answer) -> Path:
    """Five models, clean and under attack; nothing is left of one under attack, and one was never attacked."""
    lefts = {"a": (15, 4), "b": (16, 6), "c": (17, 9), "none": (18, 0), "spared": (19, None)}
    cells = {(model, "clean", ""): answered([True] * clean + [False] * (20 - clean)) for model, (clean, _) in lefts.items()}
    attacked = {
        (model, "pgd", "1/255"): answered([True] * left + [False] * (20 - left), attacked=[True] * 20)
        for model, (_, left) in lefts.items()
        if left is not None
    }
    return make_store(cells | attacked, metrics=["top1", "robust_accuracy"], name="gaps").path


def test_a_fit_lists_the_models_that_it_leaves_out(robustvit: Callable[..., Any], gaps: Path) -> None:
    result = robustvit("factors", "--store", gaps, "--fit", "effective", "--shift", "pgd 1/255")
    assert "0 % on pgd 1/255, whose logit is infinite" in result.out
    assert "no number on pgd 1/255" in result.out
    assert "over 3 models; left out: 2 of 5" in result.out


def test_json_and_csv_list_the_models_left_out(robustvit: Callable[..., Any], gaps: Path, tmp_path: Path) -> None:
    words = ("factors", "--store", gaps, "--fit", "effective", "--shift", "pgd 1/255", "--format")
    rows = json.loads(robustvit(*words, "json").out)["rows"]
    reasons = ["0 % on pgd 1/255, whose logit is infinite", "no number on pgd 1/255"]
    assert [(row["model"], row["effective"], row["left_out"]) for row in rows[3:]] == [
        ("none", None, reasons[0]),
        ("spared", None, reasons[1]),
    ]
    robustvit(*words, "csv", "--output", tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["left_out"].tolist()[3:] == reasons


def test_a_store_is_measured_from_the_published_line(robustvit: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    result = robustvit("factors", "--store", store, "--fit", "effective", "--shift", "pgd 1/255")
    assert result.code == 1
    assert "at least 3 models" in result.err
    result = robustvit("factors", "--store", store, "--fit", "effective", "--shift", "pgd 1/255", "--line", "published")
    assert result.code == 2
    assert "no model here has a number called 'pgd 1/255'" in result.err


def test_the_plot_is_written(robustvit: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    result = robustvit("factors", "--store", store, "--plot", tmp_path / "new" / "p.svg", "--format", "json")
    assert result.code == 0
    assert "Wrote" in result.err
    assert ElementTree.parse(tmp_path / "new" / "p.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fit", "efective"], "--fit 'efective' is unknown. Did you mean 'effective'?"),
        (["--cost", "flops"], "--cost 'flops' is unknown. It takes macs, parameters, weight_bytes, moved_bytes, peak_bytes, latency."),
        (["--format", "xml"], "--format 'xml' is unknown."),
        (["--line", "others"], "--line 'others' is unknown."),
        (["--factor", "recipe"], "--factor is for --fit augreg."),
        (["--line", "published"], "--line published is for --fit effective."),
        (["--model", "demo"], "--suite and --model choose from a store."),
        (["--shift", "imagenet-q"], "no model here has a number called 'imagenet-q'."),
    ],
)
def test_a_mistake_is_one_message(robustvit: Callable[..., Any], words: list[str], message: str) -> None:
    result = robustvit("factors", "--published", *words)
    assert result.code == 2
    assert message in result.err


def test_a_factor_that_is_not_there_is_named(robustvit: Callable[..., Any]) -> None:
    result = robustvit("factors", "--published", "--fit", "augreg", "--factor", "colour")
    assert result.code == 1
    assert "no factor 'colour'" in result.err


def test_the_report_shows_both_sections(store: Path, tmp_path: Path) -> None:
    from robustvit.report.page import write_report

    page = write_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<section id="published">' in page
    assert '<section id="cost">' in page
    assert page.count('class="mark"') > 2
    assert "timm results-imagenet.csv" in page
