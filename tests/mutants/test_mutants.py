"""Every mutant on the lists still applies; the runner tells a mutant that is killed from one that survives, breaks or hangs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from mutants import runner
from mutants.runner import ROOT, Mutant, missing_tests, mutants

SOURCE = "def double(x):\n    return 2 * x\n"
TEST = "from robustvit import double\n\ndef test_double():\n    assert double(3) == 6\n"


def test_every_mutant_applies_once_and_parses() -> None:
    for mutant in mutants():
        mutant.applied((ROOT / mutant.file).read_text(encoding="utf-8"))


def test_no_two_mutants_share_a_name_and_all_tests_they_name_are_there() -> None:
    assert [name for name, count in Counter(mutant.name for mutant in mutants()).items() if count > 1] == []
    assert [missing for mutant in mutants() for missing in missing_tests(mutant)] == []


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [("3 * x", "x", "occurs 0 times"), ("x", "y", "occurs 2 times"), ("2 * x", "2 *", "cannot be parsed"), ("2 * x", "(2 * x)", "nothing")],
)
def test_a_mutant_that_does_not_apply_is_an_error(was: str, becomes: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mutant("m", was, becomes).applied(SOURCE)


def mutant(name: str, was: str, becomes: str, *tests: str) -> Mutant:
    return Mutant(name, "robustvit/__init__.py", was, becomes, tests or ("tests/test_double.py",))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, content in {"robustvit/__init__.py": SOURCE, "tests/test_double.py": TEST, "pyproject.toml": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "tests" / "test_wrong.py").write_text(TEST.replace("6", "7"))
    plugin = "mutants_plugin.py"
    (tmp_path / "tests" / "mutants").mkdir()
    (tmp_path / "tests" / "mutants" / plugin).write_text(Path(runner.__file__).with_name(plugin).read_text())
    return tmp_path


def test_only_a_test_that_fails_kills_a_mutant(package: Path) -> None:
    chosen = {
        "killed": mutant("killed", "2 * x", "3 * x"),
        "survived": mutant("survived", "2 * x", "x + x"),
        "broken": mutant("broken", "2 * x", "2 * z"),
        "failing": mutant("failing", "2 * x", "3 * x", "tests/test_wrong.py"),
    }
    found = {name: result.outcome for name, result in runner.verdicts(list(chosen.values()), package).items()}
    assert found == {"killed": "killed", "survived": "survived", "broken": "broken", "failing": "fails unchanged"}


def test_tests_that_do_not_end_with_a_mutant_have_noticed_nothing(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_PATIENCE", 5.0)
    endless = mutant("endless", "return", "while True: pass\n    return")
    assert runner.Copy(package, package / "copy").changed(endless).outcome == "hung"


def test_tests_that_would_import_another_package_are_not_run(package: Path) -> None:
    (package / "robustvit" / "__init__.py").rename(package / "other.py")
    (package / "robustvit").rmdir()
    result = runner.Copy(package, package / "copy").unchanged(["tests/test_double.py"])
    assert result.outcome == "broken"
