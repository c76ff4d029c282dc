"""-q prints nothing but errors, what was left undone, and what was asked for."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from robustvit.cli import printing, running
from robustvit.cli.app import app
from robustvit.cli.exit_codes import no_foreign_bars
from robustvit.cli.progress import quieted
from robustvit.evaluation import run as runner
from robustvit.evaluation.time_budget import Deadline

SMALL = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=1,num_heads=2"
BREAKING = """
import robustvit as rv

@rv.corruption()
def breaks_quietly(images, draws):
    '''Leaves [0, 1].'''
    return images + 2
"""


def image(path: Path) -> Path:
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    return path


def commands(folder: Path) -> dict[str, list[object]]:
    """A command that prints much without -q, by name."""
    suite = folder / "s.yaml"
    suite.write_text("name: s\ntitle: S\ndata: digits\nscenarios: [clean, fog: {severity: [1, 2, 3]}]\nmetrics: [top1]\n")
    store = ("--suite", suite, "--store", folder / "store", "--limit", 3)
    return {
        "submit": ["submit", folder / "store", "-o", folder / "entry"],
        "run": ["run", "--model", SMALL, *store],
        "plan": ["plan", "--model", SMALL, *store],
        "train": ["train", "--model", SMALL, "--data", "digits", "--epochs", 1, "--out", folder / "mine.safetensors"],
        "corrupt": ["corrupt", image(folder / "one.png"), folder / "out", "--corruption", "fog", "--severity", 3, "--size", 32],
    }


def test_these_commands_have_it_and_say_what_it_leaves(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    having = {name for name, one in known.items() if any("-q" in param.opts for param in one.params)}
    assert having == set(commands(tmp_path))
    for name in having:
        assert "Print nothing but errors" in " ".join(robustvit(name, "--help").out.split())


def test_a_run_in_a_process_of_its_own_prints_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "robustvit", *map(str, commands(tmp_path)["run"]), "-q"]
    quiet = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert (tmp_path / "store/report.html").is_file()


@pytest.mark.parametrize(("name", "made"), [("train", "mine.safetensors"), ("corrupt", "out/fog/3")])
def test_a_command_that_writes_files_prints_nothing(robustvit, name: str, made: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = robustvit(*commands(tmp_path)[name], "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / made).exists()


def test_a_quiet_plan_is_its_table_and_a_quiet_run_with_json_is_json(robustvit, monkeypatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(running, "print_undefined", lambda _: printing.err.print("undefined: something"))
    words = commands(tmp_path)
    planned, told = robustvit(*words["plan"], "-q"), robustvit(*words["plan"])
    assert (planned.code, planned.err, told.err) == (0, "", "undefined: something")
    assert planned.out == told.out
    assert "To do: 12 of 12 rows." in planned.out
    done = robustvit(*words["run"], "-q", "--json")
    assert (json.loads(done.out)["computed"], done.err) == (12, "")


def test_a_quiet_run_names_the_cells_that_failed(robustvit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    Path("breaking_quietly.py").write_text(BREAKING)
    Path("s.yaml").write_text("name: s\ntitle: S\ndata: digits\nscenarios: [clean, 'breaking_quietly:breaks_quietly']\nmetrics: [top1]\n")
    done = robustvit("run", "-q", "--model", SMALL, "--suite", "s.yaml", "--store", "st", "--limit", 3, "--allow-code")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("failed: ")
    assert done.err.count("must be pixels in [0, 1]") == 1
    assert "Report" not in done.err


def test_a_quiet_run_says_what_a_spent_budget_left(robustvit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(runner, "Deadline", lambda budget: Deadline(budget, itertools.count().__next__))
    done = robustvit(*commands(tmp_path)["run"], "-q", "--budget", "3s")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("Stopped when the budget of 3s was spent: 2 of 4 cells are complete")


def test_a_quiet_command_names_what_it_cannot_read(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "tree").mkdir()
    image(tmp_path / "tree/one.png")
    (tmp_path / "tree/two.png").write_bytes(b"no image")
    done = robustvit("corrupt", tmp_path / "tree", tmp_path / "out", "-c", "fog", "--severity", 1, "--size", 32, "-q")
    assert done.out == ""
    assert done.err.startswith("unreadable: ")
    assert "Wrote" not in done.err


def test_warnings_and_bars_of_libraries_are_left_out_where_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"TQDM_DISABLE": "0"})
    import os

    assert not no_foreign_bars(False)
    assert os.environ == {"TQDM_DISABLE": "0"}
    assert no_foreign_bars(True)
    assert os.environ == {"TQDM_DISABLE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quieted(True):
            warnings.warn("told to nobody", stacklevel=1)
        with quieted(False):
            warnings.warn("told", stacklevel=1)
    assert [str(one.message) for one in seen] == ["told"]


def test_a_quiet_run_logs_without_a_word(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = robustvit(*commands(tmp_path)["run"], "-q", "--log-to", "jsonl")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert list(tmp_path.glob("*.log.jsonl"))


def test_a_quiet_command_says_which_data_it_leaves_out(robustvit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = commands(tmp_path)
    (tmp_path / "s.yaml").write_text("name: s\ntitle: S\ndata: [digits, imagenet-a]\nscenarios: [clean]\nmetrics: [top1]\n")
    for name in ("plan", "run"):
        done = robustvit(*words[name], "-q", "--skip-missing", "--data-dir", tmp_path)
        assert done.code == 0
        assert done.err == "not the whole set: imagenet-a is not here and is left out"
