"""Tables where torch is not installed: the same bytes, and one line from everything that computes."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from robustvit.errors import ONLY_COMPUTING, MissingExtra, whole_install_needed

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "boards.py"
BLOCKED = (*ONLY_COMPUTING, "transformers")
TABLES = {  # of the façade: what a script that reads stores takes
    "BudgetExceeded", "Cell", "Clustered", "DataMissing", "Records", "RobustvitError", "Spec", "Store", "Suite", "View", "Weighted",
    "__version__", "analysis", "attack", "certificate", "compare", "corruption", "dataset", "defense", "leaderboard", "ranks", "load_kept",
    "load_records", "load_suite", "metric", "model", "status", "transfer_matrix", "transform", "write_report",
}  # fmt: skip
FACADE = """
import sys
sys.path.insert(0, {tests!r})
from boards import Blocked
sys.meta_path.insert(0, Blocked({blocked!r}))
import robustvit as rv
for name in rv.__all__:
    try:
        getattr(rv, name)
        print(name, "is there")
    except rv.RobustvitError as error:
        print(name, error)
"""


def boards(store: Path, folder: Path, *more: str) -> dict[str, bytes]:
    """The files that tests/boards.py writes, by name."""
    words = [sys.executable, str(SCRIPT), str(store), str(folder), "a", "b", *more]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
def test_every_table_is_the_same_without_torch(make_store, answered, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    right = {"a": [True, True, False, True] * 5, "b": [False, True, False, False] * 5}
    cells = {
        (model, scenario, severity): answered(right[model], **({"attacked": [True] * 20} if scenario == "pgd" else {}))
        for model in "ab"
        for scenario, severity in (("clean", ""), ("fog", "1"), ("fog", "3"), ("pgd", "4/255"))
    }
    store = make_store(cells, suite="quick", metrics=("top1", "corruption_error", "robust_accuracy")).path
    lean = boards(store, tmp_path / "lean", "--block", *BLOCKED)
    whole = boards(store, tmp_path / "whole")
    assert {name for name, text in lean.items() if name.endswith(".txt") and not text.startswith(b"exit code 0")} == {"transfer.txt"}
    assert b"has no images that were crafted on surrogates" in lean["transfer.txt"]
    assert lean == whole
    assert len(lean) > 40
    assert b"a better" in lean["compare.txt"]


def test_what_computes_says_in_one_line_what_it_lacks(tmp_path: Path) -> None:
    told = boards(tmp_path, tmp_path / "out", "--computing", "--block", *BLOCKED)
    assert set(told) == {f"{name}.txt" for name in ("run", "plan", "train", "corrupt", "data", "list_adapter")}
    for name, text in told.items():
        by = "attack 'torchattacks/'" if name == "list_adapter.txt" else name.removesuffix(".txt")
        line = f"robustvit: {by} needs torch, which is not installed: python3 -m pip install robustvit."
        assert text.decode() == f"exit code 1\n\n-- standard error\n{line}\n"


def test_the_facade_has_the_names_of_tables_and_says_what_the_others_lack() -> None:
    script = FACADE.format(tests=str(SCRIPT.parent), blocked=BLOCKED)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {name for name, text in told.items() if text == "is there"} == TABLES
    for name in set(told) - TABLES:
        assert told[name] == f"robustvit.{name} needs torch, which is not installed: python3 -m pip install robustvit."


def test_a_module_that_no_package_of_ours_has_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), whole_install_needed("this"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    line = r"^this needs scikit-learn, which is not installed: python3 -m pip install robustvit\.$"
    with pytest.raises(MissingExtra, match=line), whole_install_needed("this"):
        raise ModuleNotFoundError("No module named 'sklearn.svm'", name="sklearn.svm")


def requirements(lines: list[str]) -> dict[str, str]:
    """Requirements by package, without what follows a semicolon."""
    return {re.split(r"[<>=; ]", line)[0]: line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")}


def test_the_requirements_of_tables_are_those_of_the_package_without_what_computes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    every = requirements([line.strip() for line in project["dependencies"]])
    lean = requirements((ROOT / "requirements" / "board.txt").read_text(encoding="utf-8").splitlines())
    left_out = set(ONLY_COMPUTING.values()) - {"torchvision"}  # which timm brings
    assert lean == {name: line for name, line in every.items() if name not in left_out}
