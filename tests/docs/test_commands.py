"""The commands of the README and the tutorial, run as they are written, and every example."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETS_UP = ("python3 -m pip", "python3 -m venv", "nox", "git clone", ". ")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a Markdown file."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The command lines of a page, without comments and without those that set up an environment."""
    lines = [line.strip() for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", *SETS_UP))]


def done(words: list[str], folder: Path) -> str:
    """Runs a command in a folder, with this interpreter's scripts first."""
    place = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "160"}
    words = [sys.executable, *words[1:]] if words[0] == "python3" else words
    finished = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{shlex.join(words)}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "least"),
    [("docs/tutorial.md", 10), ("docs/imagenet-c.md", 1), ("docs/attacks.md", 4), ("docs/patches.md", 3), ("docs/certificates.md", 3)],
)
def test_the_commands_of_a_page_work_in_order(page: str, least: int, tmp_path: Path) -> None:
    found = commands(ROOT / page)
    assert len(found) >= least
    for line in found:
        done(shlex.split(line, comments=True), tmp_path)
    for code in blocks(ROOT / page, "python"):
        done([sys.executable, "-c", code], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_every_example_runs(script: Path, tmp_path: Path) -> None:
    target = tmp_path / script.name
    target.write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
    assert done([sys.executable, script.name], tmp_path)


def test_the_readme_names_only_verbs_and_suites_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = set(re.findall(r"robustvit (\w+)", "\n".join(blocks(ROOT / "README.md", "sh"))))
    from robustvit.cli.app import app
    from robustvit.spec.suite_file import suite_files

    known = {command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands}
    assert verbs <= known
    assert set(re.findall(r"--suite ([a-z-]+)", text)) <= set(suite_files())


def test_links_inside_the_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
