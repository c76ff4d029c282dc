"""The pages of boards in the site: nothing of the numbers is lost, links lead somewhere, and tables need no script."""

from __future__ import annotations

import csv
import importlib.util
import posixpath
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAD = "suite,data,model,number,value,low,high,n,status,unit,higher_is_better"
ROWS = """
quick,digits,demo/plain,clean top-1,97.5,90,99,64,complete,%,True
quick,digits,demo/plain,fog error ↓,12.25,8,20,64,complete,%,False
quick,digits,demo/plain · quantize(bits=4),clean top-1,90,85,95,64,partial,%,True
quick,digits,demo/plain · quantize(bits=4),fog error ↓,,,,0,failed,%,False
linf,digits,demo/plain,clean <top-1>,0.031,0.02,0.05,16,complete,,True
"""


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("board_pages", ROOT / "docs/board_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of boards, of two suites and two models."""
    for suite in ("quick", "linf"):
        own = [line for line in ROWS.splitlines() if line.startswith(f"{suite},")]
        (tmp_path / f"{suite}.headlines.csv").write_text("\n".join([HEAD, *own]), encoding="utf-8")
        (tmp_path / f"{suite}.md").write_text("| summary |\n| --- |\n| 1 |\n\n**other numbers**\n\n| fog 3 |\n| --- |\n| 2 |\n")
        (tmp_path / f"{suite}.csv").write_text("x\n")
        (tmp_path / f"{suite}.html").write_text("<p>")
    for name in ("quick-attacks.svg", "quick-corruptions.svg"):
        (tmp_path / name).write_text("<svg/>")
    return tmp_path


def cells(line: str) -> list[str]:
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", line)]


def test_there_is_a_page_for_each_suite_and_each_model(pages: ModuleType, folder: Path) -> None:
    assert set(pages.pages(folder)) == {
        "boards/index.md", "boards/compare.md", "boards/quick.md", "boards/linf.md", "boards/model-demo-plain.md",
        "boards/model-demo-plain---quantize-bits-4.md",
    }  # fmt: skip
    assert pages.pages(folder / "nowhere") == {}


def test_a_table_has_every_number_with_its_interval_and_status(pages: ModuleType, folder: Path) -> None:
    lines = [line for line in pages.compare_page(pages.headline_rows(folder)).splitlines() if line.startswith("<tr data")]
    assert [cells(line) for line in lines] == [
        ["linf", "clean &lt;top-1&gt;", "0.031 [0.02, 0.05]", ""],
        ["quick", "clean top-1, %", "97.5 [90.0, 99.0]", "90.0 [85.0, 95.0] *"],
        ["quick", "fog error ↓, %", "12.2 [8, 20.0]", "failed"],
    ]
    assert [re.findall('data-better="(.*?)"', line) for line in lines] == [["up"], ["up"], ["down"]]
    assert 'data-value="97.5" data-low="90" data-high="99" title="n = 64"' in lines[1]


def test_a_suites_page_has_its_figures_and_every_other_number(pages: ModuleType, folder: Path) -> None:
    made = pages.pages(folder)
    assert re.findall(r"!\[.*?\]\((.*?)\)", made["boards/quick.md"]) == ["quick-attacks.svg", "quick-corruptions.svg"]
    assert "## Every number\n\n**other numbers**\n\n| fog 3 |" in made["boards/quick.md"]
    assert "summary" not in made["boards/quick.md"]
    assert "## Curves" not in made["boards/linf.md"]


def test_a_models_page_says_how_it_was_made(pages: ModuleType, folder: Path) -> None:
    page = pages.pages(folder)["boards/model-demo-plain---quantize-bits-4.md"]
    assert "Transformed by `quantize(bits=4)`." in page
    assert "Trained by `robustvit train" in page
    assert "[`demo/plain`](model-demo-plain.md)" in page
    assert "90.0 [85.0, 95.0] *" in page
    assert "97.5" not in page


def test_links_lead_to_pages_and_files_of_the_site(pages: ModuleType, folder: Path) -> None:
    made = pages.pages(folder)
    there = {*made, *pages.files_beside(folder), *(path.name for path in (ROOT / "docs").glob("*.md")), "suites.md"}
    for place, text in made.items():
        for target in re.findall(r"\]\(([^):]+?)(?:#[^)]*)?\)", text) + [f"{name}.md" for name in re.findall(r'href="(.*?)\.html"', text)]:
            assert posixpath.normpath(posixpath.join("boards", target)) in there, (place, target)


def test_the_committed_boards_have_pages_with_all_their_headlines(pages: ModuleType) -> None:
    rows, made = pages.headline_rows(), pages.pages()
    assert {row["suite"] for row in rows} == {path.stem for path in (ROOT / "reports/boards").glob("*.md")}
    for suite in {row["suite"] for row in rows}:
        with (ROOT / f"reports/boards/{suite}.csv").open(encoding="utf-8", newline="") as file:
            models = {(row["model"], row["transforms"]) for row in csv.DictReader(file) if row["value"]}  # of others a transform refused
        assert made[f"boards/{suite}.md"].count("<th><a") == len(models)
