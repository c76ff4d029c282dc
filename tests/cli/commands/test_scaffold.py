"""`robustvit new`: every kind of plug-in passes its own test, and the contracts of its room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robustvit.cli.commands.scaffold import SCAFFOLDS, write
from robustvit.errors import BadParameter, UnknownName
from robustvit.spec.plugin import KINDS, PLURALS
from robustvit.spec.suite_file import read_suite

ROOT = Path(__file__).resolve().parents[3]


def checked(words: list[str], folder: Path, **environment: str) -> None:
    """Runs a module of Python in a folder and fails with its output where it fails."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


@pytest.mark.long
def test_every_kind_passes_its_own_test(tmp_path: Path) -> None:
    for kind in KINDS:
        write(kind, f"new_{kind}", tmp_path)
    checked(["pytest", "-q", "-p", "no:cacheprovider", *(f"test_new_{kind}.py" for kind in KINDS)], tmp_path)


@pytest.mark.long
def test_every_kind_passes_the_contracts_of_its_room(tmp_path: Path) -> None:
    for name in ("robustvit", "tests", "suites"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    own = [write(kind, f"new_{kind}", tmp_path / "robustvit" / PLURALS[kind]).files[1] for kind in KINDS]
    laws = ["tests/contracts", "tests/laws/test_layers.py"]
    words = ["pytest", "-q", "-p", "no:cacheprovider", *laws, *map(str, own), "-k", "new_ or names_its_source or layers"]
    checked(words, tmp_path, PYTHONPATH=str(tmp_path))


def test_a_suite_can_be_read(tmp_path: Path) -> None:
    made = write("suite", "mine", tmp_path)
    assert read_suite(made.files[0]).name == "mine"
    assert "robustvit run --suite mine.yaml" in made.next_step


def test_templates_import_nothing_of_robustvit_but_its_facade() -> None:
    for template in (ROOT / "robustvit" / "cli" / "commands" / "templates").glob("*.py.txt"):
        text = template.read_text(encoding="utf-8")
        assert "robustvit." not in text, template.name
        assert max(map(len, text.splitlines())) <= 140, template.name


def test_there_is_a_template_for_every_kind() -> None:
    assert set(SCAFFOLDS) == {*KINDS, "suite"}


def test_in_a_package_the_test_goes_to_the_tests_and_imports_the_full_name(tmp_path: Path) -> None:
    for folder in ("mine/attacks", "tests"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("mine", "mine/attacks"):
        (tmp_path / folder / "__init__.py").touch()
    plugin, test = write("certificate", "nudge", tmp_path / "mine" / "attacks").files
    assert (plugin, test) == (tmp_path / "mine/attacks/nudge.py", tmp_path / "tests/attacks/test_nudge.py")
    assert "from mine.attacks import nudge as plugin" in test.read_text()


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("mine")
    with pytest.raises(BadParameter, match="exists already; nothing was written"):
        write("attack", "mine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]


def test_a_name_that_is_taken_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="another attack is called 'pgd'"):
        write("attack", "pgd", tmp_path)
    with pytest.raises(UnknownName, match="Did you mean 'transform'"):
        write("transfrom", "mine", tmp_path)
