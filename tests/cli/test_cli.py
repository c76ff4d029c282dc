"""The command line as scripts use it: commands, exit codes, and one message for every mistake."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import LAYOUTS, plant, plant_images
from PIL import Image

from robustvit.evaluation import run as runner
from robustvit.evaluation.time_budget import Deadline
from robustvit.records.store import Store

SMALL = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=1,num_heads=2"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a few samples of the demo on quick."""
    from robustvit.evaluation import run as runner

    place = tmp_path_factory.mktemp("cli") / "store"
    runner.run("quick", ["demo", SMALL], store=place, limit=12)
    return place


def test_help_shows_every_command_and_an_example_of_each(robustvit) -> None:  # type: ignore[no-untyped-def]
    verbs = ["run", "plan", "leaderboard", "report", "compare", "diff", "list", "check", "new", "data", "corrupt", "train"]
    page = robustvit("--help")
    assert page.code == 0
    for verb in verbs:
        assert verb in page.out
        assert f"Example: robustvit {verb}" in robustvit(verb, "--help").out


def test_run_shows_the_leaderboard_and_where_the_report_is(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first = robustvit("run", "--store", tmp_path / "s", "--limit", 5)
    assert first.code == 0
    assert "demo" in first.out
    assert f"Report: {tmp_path / 's' / 'report.html'}" in first.out
    second = robustvit("run", "--store", tmp_path / "s", "--limit", 5)
    assert "Nothing to do" in second.out


def test_underscores_and_dashes_are_both_taken(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert robustvit("plan", "--batch_size", 8, "--img-size", 32, "--store", tmp_path / "s").code == 0


def test_json_is_json(robustvit, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page = json.loads(robustvit("run", "--store", store, "--limit", 12, "--json").out)
    assert page["computed"] == 0
    assert page["leaderboard"][0]["metric"]
    assert json.loads(robustvit("plan", "--store", store, "--limit", 12, "--json").out)["rows_to_do"] == 0
    assert json.loads(robustvit("list", "corruptions", "--json").out)[0]["name"]
    assert json.loads(robustvit("data", "--json").out)


def test_plan_computes_nothing_and_estimates_time_and_disk(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = robustvit("plan", "--store", tmp_path / "none", "--limit", 20)
    assert result.code == 0
    assert "To do: 460 of 460 rows" in result.out
    assert "on this machine" in result.out
    assert not (tmp_path / "none").exists()


def test_plan_names_transforms_where_there_are_any(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    head = "name: t\ntitle: t\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n"
    (tmp_path / "t.yaml").write_text(head + "transforms: [[], [{attention_temperature: {temperature: 2}}]]\n")
    result = robustvit("plan", "--suite", tmp_path / "t.yaml", "--store", tmp_path / "none", "--limit", 4)
    assert "attention_temperature(temperature=2)" in result.out
    assert "transforms" not in robustvit("plan", "--store", tmp_path / "none", "--limit", 4).out


def test_plan_shows_missing_weights_as_unresolved(robustvit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = robustvit("plan", "--model", "vit_b16", "--store", tmp_path / "none")
    assert result.code == 0
    assert "unresolved" in result.out


def test_the_csv_has_the_columns_that_scripts_use(robustvit, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert robustvit("leaderboard", "--store", store, "--format", "csv", "-o", tmp_path / "b.csv").code == 0
    board = pd.read_csv(tmp_path / "b.csv")
    wanted = [
        "model",
        "transforms",
        "suite",
        "data",
        "scenario",
        "severity",
        "metric",
        "value",
        "low",
        "high",
        "n",
        "status",
        "seconds",
        "cell",
        "params",
        "seed",
        "source",
        "version",
        "repro",
    ]
    assert set(wanted) <= set(board.columns)
    assert set(board["status"]) <= {"complete", "partial", "failed", "undefined"}


@pytest.mark.parametrize("format", ["csv", "json", "md", "latex", "timm", "table"])
def test_every_format_is_printed(robustvit, store: Path, format: str) -> None:  # type: ignore[no-untyped-def]
    result = robustvit("leaderboard", "--store", store, "--format", format)
    assert result.code == 0
    assert "demo" in result.out


def test_a_format_that_the_store_does_not_fill_says_why(robustvit, store: Path) -> None:  # type: ignore[no-untyped-def]
    result = robustvit("leaderboard", "--store", store, "--format", "robustbench")
    assert result.code == 2
    assert "demo was evaluated on digits; RobustBench has leaderboards of cifar10, cifar100, imagenet" in result.err


def test_compare_and_diff_report_what_changed(robustvit, store: Path) -> None:  # type: ignore[no-untyped-def]
    other = next(
        name
        for name in pd.DataFrame(json.loads(robustvit("leaderboard", "--store", store, "-f", "json").out))["model"].unique()
        if name != "demo"
    )
    assert robustvit("compare", "demo", other, "--store", store).code == 0
    assert robustvit("compare", "demo", other, "--store", store, "--flips").code == 0
    assert robustvit("diff", store, store).code == 0


def test_list_and_check(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "fog" in robustvit("list", "corruptions").out
    assert "severity" in robustvit("list", "corruption", "fog").out
    assert "@inproceedings" in robustvit("list", "suites", "imagenet-c").out
    assert "vit_b16" in robustvit("list", "models").out
    assert robustvit("check").code == 0
    (tmp_path / "bad.yaml").write_text("name: bad\ntitle: Bad\ndata: digits\nscenarios:\n  - fgo\nmetrics: [top1]\n")
    result = robustvit("check", tmp_path / "bad.yaml")
    assert result.code == 2
    assert "bad.yaml:5" in result.err
    assert "Did you mean 'fog'" in result.err


@pytest.mark.parametrize(("words", "code", "message"), [
    (["run", "--suite", "quik"], 2, "no suite is called 'quik'. Did you mean 'quick'"),
    (["run", "--model", "demoo"], 2, "Did you mean 'demo'"),
    (["run", "--model", "vit_bse_patch16_224"], 2, "Did you mean"),
    (["run", "--data", "digit"], 2, "Did you mean 'digits'"),
    (["run", "--data", "imagenet"], 1, "imagenet"),
    (["run", "--limit", "0"], 2, "--limit"),
    (["run", "--limit", "2.5"], 2, "--limit"),
    (["run", "--img-size", "-1"], 2, "--img-size"),
    (["run", "--crop-pct", "3"], 2, "--crop-pct"),
    (["run", "--interpolation", "bicubik"], 2, "Did you mean 'bicubic'"),
    (["run", "--precision", "float8"], 2, "float32"),
    (["run", "--device", "cuda:77"], 2, "device"),
    (["run", "--device", "gpu"], 2, "device"),
    (["run", "--batch-size", "0"], 2, "--batch-size"),
    (["run", "--batch-size", "1000000"], 2, "--batch-size"),
    (["run", "--limit", "nan"], 2, "--limit"),
    (["run", "--limit", "some"], 2, "--limit"),
    (["run", "--workers", "-1"], 2, "--workers"),
    (["run", "--seed", "-1"], 2, "--seed"),
    (["run", "--seed", "18446744073709551616"], 2, "from 0 to 9,223,372,036,854,775,807"),
    (["plan", "--seed", "18446744073709551616"], 2, "from 0 to 9,223,372,036,854,775,807"),
    (["corrupt", "a", "b", "--seed", "18446744073709551616"], 2, "from 0 to 9,223,372,036,854,775,807"),
    (["train", "--seed", "18446744073709551616", "--out", "x.safetensors"], 2, "from 0 to 9,223,372,036,854,775,807"),
    (["run", "--budget", "soon"], 2, "--budget is 'soon'; it takes a time above nothing with its unit: 90s, 10m or 2h."),
    (["plan", "--budget", "0m"], 2, "--budget is '0m'"),
    (["new", "attack", "class"], 2, "cannot be used as a name"),
    (["run", "--keep", "everything"], 2, "--keep"),
    (["run", "-m", "demo", "-m", "demo"], 2, "named twice"),
    (["run", "-m", "demo", "-m", "vit_b16", "--checkpoint", "x.pth"], 2, "one --model"),
    (["run", "-m", "vit_ti16", "--checkpoint", "nothing.safetensors"], 1, "nothing.safetensors"),
    (["run", "--suite", "missing.yaml"], 2, "missing.yaml"),
    (["leaderboard", "--store", "nowhere"], 1, "there is no store at nowhere"),
    (["leaderboard", "--format", "xls"], 2, "--format"),
    (["compare", "a", "b", "--store", "nowhere"], 1, "there is no store"),
    (["diff", "nowhere", "nowhere2"], 1, "there is no store"),
    (["list", "atacks"], 2, "Did you mean 'attacks'"),
    (["list", "attacks", "pdg"], 2, "Did you mean 'pgd'"),
    (["new", "attack", "Bad Name"], 2, "cannot be used as a name"),
    (["new", "atack", "x"], 2, "Did you mean 'attack'"),
    (["train", "--defense", "plane", "--out", "x.safetensors"], 2, "Did you mean 'plain'"),
    (["train", "--epochs", "0", "--out", "x.safetensors"], 2, "epochs is 0"),
    (["run", "--nonsense"], 2, "nonsense"),
])  # fmt: skip
def test_a_mistake_is_one_message_and_an_exit_code(  # type: ignore[no-untyped-def]
    robustvit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = robustvit(*words)
    assert result.code == code, result
    assert message in result.err.replace("│ ", "").replace(" │", "")
    assert "Traceback" not in result.err
    assert not (tmp_path / "results").exists()


def folder(root: Path, names: list[str], count: int = 2) -> Path:
    for label in names:
        (root / label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((40, 40, 3), 40 * i, np.uint8)).save(root / label / f"{i}.png")
    return root


def test_an_empty_folder_and_an_unreadable_image_are_named(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    result = robustvit("run", "--data", "folder", "--data-dir", tmp_path / "empty", "--store", tmp_path / "s")
    assert result.code == 1
    assert str(tmp_path / "empty") in result.err
    bad = folder(tmp_path / "bad", [str(i) for i in range(10)])
    (bad / "3" / "1.png").write_bytes(b"not an image")
    result = robustvit("run", "--data", "folder", "--data-dir", bad, "--store", tmp_path / "s", "--quiet")
    assert result.code == 1
    assert "1.png" in result.err


def test_classes_that_do_not_match_the_model_are_refused(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    two = folder(tmp_path / "two", ["cat", "dog"])
    result = robustvit("run", "--data", "folder", "--data-dir", two, "--store", tmp_path / "s")
    assert result.code == 1
    assert "has 10 classes" in result.err


def test_a_newer_store_and_a_truncated_file_are_reported(robustvit, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    newer = shutil.copytree(store, tmp_path / "newer")
    (newer / "store.json").write_text('{"schema": 99}')
    result = robustvit("leaderboard", "--store", newer)
    assert (result.code, "schema 99" in result.err) == (1, True)
    broken = shutil.copytree(store, tmp_path / "broken")
    victim = next(broken.rglob("000000-*.parquet"))
    victim.write_bytes(victim.read_bytes()[:50])
    result = robustvit("leaderboard", "--store", broken)
    assert result.code == 3
    assert victim.name in result.err


@contextlib.contextmanager
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No handlers of pytest, so that a command sets its own; the level that it sets is put back."""
    root = logging.getLogger()
    level = root.level
    with monkeypatch.context() as patched:
        patched.setattr(root, "handlers", [])
        yield
    root.setLevel(level)


def test_damaged_manifests_are_told_in_one_line_however_often_a_command_reads_them(  # type: ignore[no-untyped-def]
    robustvit, store: Path, tmp_path: Path, monkeypatch
) -> None:
    broken = shutil.copytree(store, tmp_path / "broken")
    for place in range(9):
        (broken / "runs" / f"{place}.json").write_text("{")
    for command in (("leaderboard",), ("run", "--suite", "quick", "--limit", "1", "-q")):
        with own_logging(monkeypatch):
            told = robustvit(*command, "--store", broken).err
        assert told.count("are damaged") == 1, told
        assert f"9 manifests in {broken / 'runs'} are damaged: 0.json, 1.json" in told
        assert "more. Cells that no other one names are left out" in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_cannot_be_written_is_reported(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    result = robustvit("run", "--limit", 2, "--store", tmp_path / "s")
    assert result.code == 1
    assert "cannot write" in result.err


def test_a_run_whose_budget_is_spent_says_what_is_complete_and_goes_on(robustvit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(runner, "Deadline", lambda budget: Deadline(budget, itertools.count().__next__))
    words = ("run", "--store", tmp_path / "s", "--limit", 5)
    result = robustvit(*words, "--budget", "6s")
    assert result.code == 0
    assert "Stopped when the budget of 6s was spent: 5 of 23 cells are complete, 25 of 115 rows computed" in " ".join(result.out.split())
    assert "partial" in result.out
    assert "--budget" not in Store(tmp_path / "s").manifests()[0].command
    assert "The same command continues from there; until then robust accuracies are upper bounds." in " ".join(result.out.split())
    assert "90 of 115 rows computed" in robustvit(*words).out


def test_a_plan_says_how_many_runs_of_a_budget_it_takes(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = ("plan", "--store", tmp_path / "none", "--limit", 20, "--budget")
    assert "At --budget 99h that is about 1 run." in robustvit(*words, "99h").out


def test_a_failing_cell_is_noted_the_others_go_on_and_the_exit_code_says_so(
    robustvit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "breaking.py").write_text(
        "import robustvit as rv\n\n@rv.corruption()\n"
        "def breaks(images, draws, *, by: float = 2.0):\n    '''Leaves [0, 1].'''\n    return images + by\n"
    )
    (tmp_path / "s.yaml").write_text("name: s\ntitle: S\ndata: digits\nscenarios:\n  - clean\n  - breaking:breaks\nmetrics: [top1]\n")
    result = robustvit("run", "--suite", "s.yaml", "--store", "st", "--limit", 3, "--quiet", "--allow-code")
    assert result.code == 3
    assert "must be pixels in [0, 1]" in result.err
    listed = robustvit("leaderboard", "--store", "st", "-f", "json")
    assert listed.code == 3
    board = pd.DataFrame(json.loads(listed.out)).set_index("scenario")
    assert board.loc["clean", "status"] == "complete"
    assert board.loc["breaking:breaks", "status"] == "failed"


def test_clearing_the_cache_says_how_much(robustvit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("ROBUSTVIT_CACHE", str(tmp_path / "cache"))
    assert robustvit("run", "--limit", 3, "--store", tmp_path / "s", "--quiet").code == 0
    assert any((tmp_path / "cache").rglob("*.npy"))
    assert "Freed" in robustvit("data", "--clear-cache").out
    assert not any((tmp_path / "cache").rglob("*.npy"))


def test_corrupt_writes_a_tree_and_names_what_cannot_be_read(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from PIL import Image

    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "one.png")
    words = ("corrupt", tmp_path / "one.png", tmp_path / "out", "--corruption", "fog", "--severity", 3, "--size", 32)
    assert "Wrote 1 image to" in robustvit(*words).out
    assert "1 existed" in robustvit(*words).out
    assert Image.open(tmp_path / "out/fog/3/one.png").size == (32, 32)
    (tmp_path / "bad.png").write_bytes(b"")
    result = robustvit("corrupt", tmp_path / "bad.png", tmp_path / "out2", "-c", "fog")
    assert result.code == 1
    assert "bad.png: the file is empty" in result.err
    assert robustvit("corrupt", tmp_path / "one.png", tmp_path / "out3", "--resize", 64).code == 2


def test_a_metric_takes_parameters(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    robustvit("run", "--limit", "5", "--store", str(tmp_path / "s"), "-q")
    result = robustvit("leaderboard", "--store", str(tmp_path / "s"), "--metric", "ece?bins=5", "--format", "csv")
    assert (result.code, "ece(bins=5)" in result.out) == (0, True)


def test_one_data_set_is_shown_in_full(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root = plant(tmp_path, LAYOUTS["imagenet-v2"]())
    result = robustvit("data", "imagenet-v2", "--data-dir", root)
    assert result.code == 0
    assert "✓ split=top-images: 1,000 of 10,000 images" in result.out
    assert "· split=threshold-0.7: " in result.out
    assert f"found in {root}" in result.out
    assert "licence MIT" in result.out
    about = json.loads(robustvit("data", "imagenet-v2", "--data-dir", root, "--json").out)
    assert [one["found"] for one in about["variants"]] == [False, False, True]


def test_verification_notes_equal_images_and_fails_for_different_labels(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plant_images(tmp_path, ["cat/1.png", "cat/2.png", "dog/3.png"])
    (tmp_path / "cat/4.png").write_bytes((tmp_path / "cat/1.png").read_bytes())
    result = robustvit("data", "folder", "--data-dir", tmp_path, "--verify")
    assert (result.code, "verified: all 4 images can be read" in result.out) == (0, True)
    assert "note: 1 group of equal images under one label: folder/cat/1.png = folder/cat/4.png" in result.out
    (tmp_path / "dog/5.png").write_bytes((tmp_path / "cat/2.png").read_bytes())
    (tmp_path / "dog/3.png").write_bytes(b"none")
    result = robustvit("data", f"folder:{tmp_path}", "--verify")
    assert result.code == 1
    assert "wrong: 1 cannot be read: folder/dog/3.png" in result.out
    assert "wrong: 1 group of equal images under different labels: folder/cat/2.png = folder/dog/5.png" in result.out
    verdict = json.loads(robustvit("data", "folder", "--data-dir", tmp_path, "--verify", "--json").out)["variants"][0]["verdict"]
    assert (verdict["right"], len(verdict["unreadable"])) == (False, 1)


def test_verification_wants_a_name_and_something_to_read(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert robustvit("data", "--verify").code == 2
    assert robustvit("data", "imagenet-a", "--data-dir", tmp_path / "none", "--verify").code == 1


def test_data_that_cannot_be_opened_where_it_should_be_fails(robustvit, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROBUSTVIT_DATA", raising=False)
    assert robustvit("data", "imagenet-a").code == 0
    assert robustvit("data", "imagenet-a", "--data-dir", tmp_path / "none").code == 1
    assert robustvit("data", "sequences", "--data-dir", tmp_path).code == 0
    plant_images(tmp_path, ["data/imagenet-a/cat/1.png"])
    assert robustvit("data", "imagenet-a", "--json").code == 1


@pytest.mark.parametrize(("limit", "rows"), [("1", 1), ("1.0", 500), ("0.5", 250), ("200", 200), ("1e2", 100)])
def test_a_limit_written_as_a_fraction_is_a_share(robustvit, tmp_path: Path, limit: str, rows: int) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "clean.yaml").write_text("name: clean\ntitle: Clean\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n")
    page = robustvit("plan", "--suite", tmp_path / "clean.yaml", "--limit", limit, "--store", tmp_path / "none", "--json").out
    assert [cell["wanted"] for cell in json.loads(page)["cells"]] == [rows]


@pytest.mark.parametrize("option", [False, True])
def test_data_of_which_two_folders_may_be_it_fails_and_names_them_once(robustvit, tmp_path: Path, monkeypatch, option: bool) -> None:  # type: ignore[no-untyped-def]
    for name in ("imagenette2", "imagenette2-320"):
        (tmp_path / name / "val" / "n01440764").mkdir(parents=True)
    monkeypatch.setenv("ROBUSTVIT_DATA", str(tmp_path))
    done = robustvit("data", "imagenette", *(["--data-dir", tmp_path] if option else []))
    assert done.code == 1
    assert done.out.count("holds imagenette2/ and imagenette2-320/, and either may be this data set") == 1


def test_run_and_plan_report_which_data_lacks_images(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root = plant(tmp_path / "a", LAYOUTS["imagenet-a"]())
    (tmp_path / "clean.yaml").write_text("name: clean\ntitle: Clean\ndata: imagenet-a\nscenarios: [clean]\nmetrics: [top1]\n")
    model = SMALL.replace("num_classes=10&", "")
    options = ("--suite", tmp_path / "clean.yaml", "--model", model, "--data-dir", root, "--store", tmp_path / "s", "--limit", 2)
    for verb in ("plan", "run"):
        result = robustvit(verb, *options)
        assert result.code == 0
        assert "not the whole set: imagenet-a holds 200 of its 7,500 images" in result.err
        assert "left out" not in result.err
    assert json.loads(robustvit("plan", *options, "--json").out)["incomplete"] == ["imagenet-a holds 200 of its 7,500 images"]
    page = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert "images in the full set" in page


def test_run_plan_report_and_data_say_what_is_left_out(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root = plant_images(tmp_path, ["x/a/1.png", "x/b/2.png", "y/3.png"]) or tmp_path / "x"
    (root / "a/more").symlink_to(tmp_path / "y")
    (root / "b/3.avif").touch()
    (tmp_path / "clean.yaml").write_text("name: clean\ntitle: Clean\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n")
    model, store = SMALL.replace("num_classes=10", "num_classes=2"), tmp_path / "s"
    options = ("--suite", tmp_path / "clean.yaml", "--model", model, "--data", f"folder:{root}", "--store", store)
    said = "1 linked folder, 1 file with another ending (.avif)"
    for verb in ("plan", "run"):
        assert f"left out: folder: {said}" in robustvit(verb, *options).err
        assert json.loads(robustvit(verb, *options, "--json").out)["left_out"] == [f"folder: {said}"]
    page = (store / "report.html").read_text(encoding="utf-8")
    assert "left out" in page
    assert said in page
    assert f"2 images of 2 classes in {root}; left out: {said}" in robustvit("data", f"folder:{root}").out


def test_the_leaderboard_says_whose_gradients_are_suspect_or_unchecked(robustvit, make_store, answered) -> None:  # type: ignore[no-untyped-def]
    left = {("m", "fgsm"): 5, ("m", "pgd"): 15, ("n", "pgd"): 15}
    cells = {(*key, "4/255"): answered([True] * n + [False] * (20 - n), attacked=[True] * 20) for key, n in left.items()}
    result = robustvit("leaderboard", "--store", make_store(cells, metrics=["robust_accuracy"]).path)
    assert "75.0 [53.1, 88.8] !" in result.out
    assert "! gradients suspect: m · one step beats iterative (10 of 20: fgsm against pgd, linf 4/255)" in result.err
    assert (
        "gradients unchecked: n · one step, random search, transfer, unbounded, larger ball, loss surface (0 of 6 checks passed)."
        in result.err
    )


def test_a_run_whose_cells_failed_does_not_say_that_the_store_holds_them(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page = tmp_path / "odd.yaml"
    page.write_text("name: odd\ntitle: Odd\ndata: digits\nscenarios: [{adversarial_patch: {size: 40}}]\nmetrics: [robust_accuracy]\n")
    result = robustvit("run", "--suite", page, "--limit", 4, "--store", tmp_path / "s")
    assert result.code == 3
    assert "0 of 4 rows computed" in result.out
    assert "1 of 1 cells failed." in result.out
    assert "the store holds" not in result.out


def test_a_plan_does_not_count_the_rows_of_damaged_files_and_names_them(robustvit, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    copy, models = shutil.copytree(store, tmp_path / "copy"), ("--model", "demo", "--model", SMALL)
    rows = max(copy.glob("cells/*/0*.parquet"))
    rows.write_bytes(rows.read_bytes()[:-9])
    planned = robustvit("plan", *models, "--store", copy, "--limit", 12)
    assert "To do: 12 of " in planned.out
    assert f"damaged: {rows}: run makes what it held again" in planned.err
    page = json.loads(robustvit("plan", *models, "--store", copy, "--limit", 12, "--json").out)
    assert (page["rows_to_do"], page["damaged"]) == (12, [str(rows)])
    assert rows.is_file()


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}'])
def test_a_plan_names_a_damaged_description_of_a_cell_and_leaves_it(robustvit, store: Path, tmp_path: Path, content: str) -> None:  # type: ignore[no-untyped-def]
    copy, given = shutil.copytree(store, tmp_path / "copy"), ("--limit", 12)
    described = min(copy.glob("cells/*/cell.json"))
    whole = described.read_text()
    described.write_text(content)
    planned = robustvit("plan", "--model", "demo", "--model", SMALL, "--store", copy, *given)
    assert planned.err.count("damaged:") == 1
    assert f"damaged: {described}: run makes what it held again" in planned.err
    assert "To do: 0 of " in planned.out
    assert described.read_text() == content
    assert f"damaged: {described}" in robustvit("run", "--model", "demo", "--model", SMALL, "--store", copy, *given).err
    assert described.read_text() == whole


@pytest.fixture
def named_otherwise(tmp_path: Path) -> Path:
    """The file of a suite whose name is `quick`, and whose plug-ins nobody may import."""
    path = tmp_path / "mine.yaml"
    path.write_text("name: quick\ntitle: Mine\ndata: digits\nscenarios: [nowhere:nothing]\nmetrics: [top1]\n")
    return path


def test_reading_commands_take_the_file_of_a_suite_where_run_does(robustvit, store: Path, tmp_path: Path, named_otherwise: Path) -> None:  # type: ignore[no-untyped-def]
    commands = {
        "leaderboard": ("leaderboard", "--format", "csv"), "compare": ("compare", "demo", SMALL, "--json"),
        "factors": ("factors", "--format", "csv"), "report": ("report", "-o", tmp_path / "page.html"),
    }  # fmt: skip
    for words in commands.values():
        by_name, by_file = (robustvit(*words, "--store", store, "--suite", suite) for suite in ("quick", named_otherwise))
        assert (by_file.code, by_file.out) == (by_name.code, by_name.out)
        assert by_file.code == 0


def test_a_suite_file_that_is_not_there_or_has_no_name_is_told_by_reading_commands(robustvit, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "nameless.yaml").write_text("title: Mine\n")
    for path, message in (("none.yaml", "there is no such suite file"), ("nameless.yaml", "a suite needs the key 'name'")):
        told = robustvit("leaderboard", "--store", store, "--suite", tmp_path / path)
        assert (told.code, message in told.err) == (2, True)


def test_check_takes_names_of_suites_as_well_as_files(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\ntitle: Mine\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n")
    told = robustvit("check", "quick", mine)
    assert (told.code, told.out.splitlines()) == (
        0, ["✓ suites/quick.yaml: 23 scenarios, 7 metrics", f"✓ {mine}: 1 scenario, 1 metric"]
    )  # fmt: skip
    told = robustvit("check", "qiuck")
    assert (told.code, "no suite is called 'qiuck'. Did you mean 'quick'?" in told.err) == (2, True)


def test_list_without_a_kind_shows_the_kinds_with_their_counts(robustvit) -> None:  # type: ignore[no-untyped-def]
    rows = json.loads(robustvit("list", "--json").out)
    assert [row["name"] for row in rows][:3] == ["suites", "models", "data"]
    for row in rows:
        assert row["count"] == len(json.loads(robustvit("list", row["name"], "--json").out)) > 0
    assert robustvit("list").out.split()[:6] == ["name", "count", "among", "them", "suites", str(rows[0]["count"])]
    assert "quick" in rows[0]["among them"]


OUTPUTS = {
    "leaderboard": ["leaderboard", "--format", "csv", "-o"],
    "published": ["leaderboard", "--published", "-o"],
    "factors": ["factors", "--published", "-f", "csv", "-o"],
    "plot": ["factors", "--published", "--plot"],
    "report": ["report", "-o"],
    "train": ["train", "--epochs", "1", "--out"],
}  # commands that take the name of a file to write


@pytest.mark.parametrize("words", OUTPUTS.values(), ids=OUTPUTS)
def test_the_folder_of_an_output_is_made_and_a_file_in_its_place_is_named(robustvit, store: Path, tmp_path: Path, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    given = words[:-1] if words[0] == "train" else [words[0], "--store", store, *words[1:-1]]
    (tmp_path / "file").touch()
    refused = robustvit(*given, words[-1], tmp_path / "file/deep/out.safetensors")
    assert refused.code in (1, 2)
    assert str(tmp_path / "file/deep/out.safetensors") in refused.err
    if words[0] != "train":  # which takes its time
        assert robustvit(*given, words[-1], tmp_path / "new/deep/out").code == 0
        assert (tmp_path / "new/deep/out").stat().st_size


def test_list_searches_names_families_and_summaries(robustvit) -> None:  # type: ignore[no-untyped-def]
    rows = json.loads(robustvit("list", "attacks", "PATCH", "--json").out)
    assert {"adversarial_patch", "patch_fool", "dta"} <= {row["name"] for row in rows}
    assert all("patch" in " ".join(map(str, row.values())).lower() for row in rows)
    assert "severity" in robustvit("list", "corruptions", "fog").out  # a name is described, also where others contain it
    assert "Did you mean" in robustvit("list", "suites", "imagenet-cc").err


def test_list_searches_the_names_of_timm_and_keeps_them(robustvit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("ROBUSTVIT_CACHE", str(tmp_path / "cache"))
    rows = {row["name"]: row["family"] for row in json.loads(robustvit("list", "models", "deit3_small", "--json").out)}
    assert rows["deit3_s16"] == "alias"
    assert rows["deit3_small_patch16_224.fb_in1k"] == "timm"
    (kept,) = (tmp_path / "cache").glob("timm-*.txt")
    kept.write_text("deit3_small_of_mine\n")
    assert "deit3_small_of_mine" in robustvit("list", "models", "deit3_small").out


@pytest.mark.parametrize(
    "words",
    [
        ("list",), ("list", "suites"), ("list", "corruptions", "fog"), ("check", "quick"), ("data",), ("data", "digits"),
        ("plan", "--limit", "4"), ("leaderboard",), ("factors",), ("compare", "demo", "SMALL"),
    ],
)  # fmt: skip
def test_every_command_that_answers_prints_json_and_writes_it(robustvit, store: Path, tmp_path: Path, words: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    given = [SMALL if word == "SMALL" else word for word in words]
    if words[0] in ("leaderboard", "factors", "compare"):
        given += ["--store", str(store)]
    printed = robustvit(*given, "--json")
    written = robustvit(*given, "--json", "-o", tmp_path / "x.json")
    assert (printed.code, written.code, written.out) == (0, 0, "")
    shown, kept = json.loads(printed.out), json.loads((tmp_path / "x.json").read_text())
    if words[0] == "plan":  # of a machine without any run the speed is measured
        shown.pop("seconds"), kept.pop("seconds")
    assert shown == kept
    assert f"Wrote {tmp_path / 'x.json'}" in written.err


def test_a_check_that_finds_a_mistake_says_so_in_json_too(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "s.yaml").write_text("name: s\n")
    found = robustvit("check", "quick", tmp_path / "s.yaml", "--json")
    assert found.code == 2
    assert [one["valid"] for one in json.loads(found.out)] == [True, False]
