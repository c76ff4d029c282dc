"""The commands and Python blocks of the README and the pages, run as they are written, and every example.

Commands that need models or data sets from elsewhere are parsed, with their options, and not run. Blocks with a title show the commands and
code of other projects.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from robustvit.cli.app import app
from robustvit.cli.configuration import leaf_commands
from robustvit.errors import MissingExtra
from robustvit.spec.suite_file import read_suite, suite_files

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SETS_UP = ("python3 -m pip", "python3 -m venv", "nox", "git clone", ". ")
RUN = {
    "workers.md": 1,
    "depth-and-channels.md": 7,
    "explanations.md": 3,
    "insides.md": 3,
    "quantisers.md": 4,
    "tutorial.md": 10,
    "anchoring.md": 2,
    "imagenet-c.md": 1,
    "attacks.md": 4,
    "patches.md": 3,
    "certificates.md": 3,
    "training.md": 2,
    "zoo.md": 3,
    "frameworks.md": 1,
    "transfer.md": 5,
    "victims.md": 5,
    "sizes.md": 4,
    "tables.md": 9,
    "exports.md": 6,
    "report.md": 10,
    "store.md": 9,
    "boards.md": 6,
}  # commands, at least
LONG = {
    "attacks.md",
    "boards.md",
    "certificates.md",
    "depth-and-channels.md",
    "insides.md",
    "quantisers.md",
    "report.md",
    "sizes.md",
    "tables.md",
    "training.md",
    "transfer.md",
    "victims.md",
    "workers.md",
    "zoo.md",
}  # a minute and more; parsed in the usual run
PARSED = {
    "README.md": 12,
    "shifts.md": 3,
    "compression.md": 5,
    "geometry.md": 3,
    "downloads.md": 3,
    "from-robustbench.md": 4,
    "from-torchattacks.md": 2,
    "from-timm.md": 4,
    "from-imagecorruptions.md": 3,
    "from-model-vs-human.md": 4,
}
ELSEWHERE = {"factors.md"}  # tests/docs/test_factors.py
SUITE = {"name": "block", "title": "A block of a page", "data": "digits", "scenarios": ["clean"], "metrics": ["top1"]}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a Markdown file."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The command lines of a page, without comments and without those that set up an environment."""
    lines = [line.strip() for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", *SETS_UP))]


def place(name: str) -> Path:
    return next(page for page in PAGES if page.name == name)


def done(words: list[str], folder: Path) -> str:
    """Runs a command in a folder, with this interpreter's scripts first."""
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "160"}
    words = [sys.executable, *words[1:]] if words[0] == "python3" else words
    finished = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{shlex.join(words)}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def test_every_page_with_commands_or_code_is_run_or_parsed() -> None:
    assert {page.name for page in PAGES if commands(page)} == {*RUN, *PARSED, *ELSEWHERE}
    assert {page.name for page in PAGES if blocks(page, "python")} <= {*RUN, *PARSED}


@pytest.mark.slow
@pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.long) if page in LONG else page for page in RUN])
def test_the_commands_of_a_page_work_in_order(page: str, tmp_path: Path) -> None:
    found = commands(place(page))
    assert len(found) >= RUN[page]
    for line in found:
        done(shlex.split(line, comments=True), tmp_path)
    for code in blocks(place(page), "python"):
        done([sys.executable, "-c", code], tmp_path)


@pytest.mark.parametrize("page", [*PARSED, *sorted(LONG)])
def test_the_commands_of_a_page_can_be_parsed(page: str) -> None:
    found = commands(place(page))
    assert len(found) >= {**RUN, **PARSED}[page]
    known = leaf_commands(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for line in found:
        program, name, *words = shlex.split(line, comments=True)
        assert program == "robustvit"
        name, words = (name, words) if name in known else (f"{name} {words[0]}", words[1:])
        known[name].make_context(name, words)
        suites = [suite for word, suite in itertools.pairwise(words) if word == "--suite"]
        assert set(suites) <= set(suite_files()), line


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PARSED if blocks(place(page), "python")])
def test_the_python_of_a_page_that_is_parsed_runs(page: str, tmp_path: Path) -> None:
    for code in blocks(place(page), "python"):
        done([sys.executable, "-c", code], tmp_path)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=lambda page: page.name)
def test_the_suites_of_a_page_can_be_read(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        rest = {key: value for key, value in SUITE.items() if key not in yaml.safe_load(block)}
        (tmp_path / "block.yaml").write_text((yaml.safe_dump(rest) if rest else "") + block)
        try:
            read_suite(tmp_path / "block.yaml")
        except MissingExtra as error:
            pytest.skip(str(error))


def example(script: Path) -> Any:
    """An example, marked where its first line names packages that it needs: `# needs: lightning`."""
    needs = script.read_text(encoding="utf-8").startswith("# needs: ")
    return pytest.param(script, id=script.name, marks=[pytest.mark.frameworks] if needs else [])


@pytest.mark.slow
@pytest.mark.parametrize("script", [example(path) for path in sorted((ROOT / "examples").glob("*.py"))])
def test_every_example_runs(script: Path, tmp_path: Path) -> None:
    target = tmp_path / script.name
    target.write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
    assert done([sys.executable, script.name], tmp_path)


def test_excerpts_of_examples_on_a_page_are_in_the_examples() -> None:
    """Blocks of Python that need an extra are fenced as `py`, and are parts of an example that runs."""
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py"))
    found = [block for page in PAGES for block in blocks(page, "py")]
    assert found
    assert not [block for block in found if block not in scripts]


def test_links_inside_the_documents_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_the_sql_of_the_page_on_stores_works(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    done(shlex.split("robustvit run --model demo --suite quick --limit 4 --store results -q"), tmp_path)
    done(shlex.split("robustvit store export --store results --to records -f duckdb"), tmp_path)
    (block,) = blocks(place("store.md"), "sql")
    with duckdb.connect(str(tmp_path / "records" / "records.duckdb"), read_only=True) as connection:
        counts = [len(connection.sql(query).fetchall()) for query in block.split(";\n")[:-1]]
    assert len(counts) == 4
    assert min(counts[0], *counts[2:]) > 0
