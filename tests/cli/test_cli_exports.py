"""The command line's exports, cards and logs, on small stores."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from robustvit.records.store import Store

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


@pytest.fixture
def store(make_store: Make, answered: Columns) -> Path:
    return make_store({("a", "clean", ""): answered([True] * 9 + [False]), ("b", "clean", ""): answered([True] * 10)}).path


def test_card_writes_a_readme_and_keeps_what_is_there(robustvit, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    readme = tmp_path / "README.md"
    readme.write_text("---\nlicense: mit\n---\n# Mine\n")
    done = robustvit("card", store, "--model", "a", "-o", readme)
    assert (done.code, done.err) == (0, f"Wrote {readme}")
    card = ModelCard.load(readme)
    assert (card.data.license, card.data.model_name) == ("mit", "a")
    assert "# Mine" in card.text
    assert "## Robustness" in card.text
    assert robustvit("card", store, "--model", "b").out.startswith("---\nmodel-index:\n- name: b\n")


def test_card_of_several_models_asks_for_one(robustvit, store: Path) -> None:  # type: ignore[no-untyped-def]
    done = robustvit("card", store)
    assert (done.code, done.out) == (2, "")
    assert done.err == "robustvit: a card is of one model, and the store has a, b; choose with --model."


def test_a_push_without_the_package_is_one_line(robustvit, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    done = robustvit("card", store, "--model", "a", "--push", "me/mine")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("robustvit: --push needs huggingface_hub")


def test_an_export_that_the_store_does_not_fill_is_one_line(robustvit, make_store: Make, answered: Columns, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    place = make_store({("a", "clean", ""): answered([True] * 4)}, data="imagenet", name="i").path
    done = robustvit("leaderboard", "--store", place, "-f", "robustbench", "-o", tmp_path / "out")
    assert done.code == 2
    assert "no standard AutoAttack in linf or l2" in done.err
    assert not (tmp_path / "out").exists()


def test_leaderboard_writes_folders(robustvit, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert robustvit("leaderboard", "--store", store, "-f", "dataset", "-o", tmp_path / "d").code == 0
    assert robustvit("leaderboard", "--store", store, "-f", "lm-eval", "-o", tmp_path / "l").code == 0
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["README.md", "leaderboard.parquet"]
    assert len(list((tmp_path / "l").rglob("results_*.json"))) == 2
    assert robustvit("leaderboard", "--store", store, "-f", "dataset").code == 2


def test_the_help_names_every_format(robustvit) -> None:  # type: ignore[no-untyped-def]
    from robustvit.evaluation.loggers.log_kinds import log_names
    from robustvit.results.export import FORMATS

    page = " ".join(robustvit("leaderboard", "--help").out.split())
    assert all(name in page for name in FORMATS)
    for verb in ("run", "train"):
        page = " ".join(robustvit(verb, "--help").out.split())
        assert all(name in page for name in log_names())


def test_a_run_logs_every_number_once_it_has_printed_them(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = robustvit("run", "--store", tmp_path / "s", "--limit", 3, "-q", "--log-to", "jsonl")
    assert done.code == 0
    (line,) = (json.loads(text) for text in (tmp_path / "s.quick.demo.log.jsonl").read_text().splitlines())
    assert line["step"] == 0
    assert line["clean/top1 low"] <= line["clean/top1"] <= line["clean/top1 high"]
    assert "mean_corruption_error" in line
    assert "fog/corruption_error" in line
    (manifest,) = (json.loads(path.read_text()) for path in (tmp_path / "s" / "runs").glob("*.json"))
    assert "--log-to" not in manifest["command"]


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_log_without_its_package_stops_a_run_before_it_begins(
    robustvit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, kind, None)
    for words in (("run", "--store", tmp_path / "s"), ("train", "--out", tmp_path / "a.safetensors")):
        done = robustvit(*words, "--log-to", kind)
        assert (done.code, done.out) == (1, "")
        assert done.err == f"robustvit: a log for {kind} needs {kind}: python3 -m pip install 'robustvit[{kind}]'."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["leaderboard", "factors", "transfer"])
def test_json_beside_another_format_is_refused(robustvit, store: Path, command: str) -> None:  # type: ignore[no-untyped-def]
    done = robustvit(command, "--store", store, "--json", "-f", "csv")
    assert (done.code, done.out, done.err) == (2, "", "robustvit: --json and --format csv are two formats; give one of them.")
    assert json.loads(robustvit("leaderboard", "--store", store, "--json", "-f", "json").out)


@pytest.mark.parametrize(
    "words", [("plan", "--json"), ("list", "suites"), ("leaderboard",), ("report",), ("figure", "overview"), ("factors", "--published")]
)
def test_a_hyphen_is_no_file(robustvit, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    done = robustvit(*words, "-o", "-")
    assert (done.code, done.out) == (2, "")
    assert done.err == "robustvit: '-' is not the name of a file to write; give one, or leave the option out."
    assert not list(tmp_path.iterdir())
