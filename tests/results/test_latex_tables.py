"""Tables in LaTeX: text that pdfLaTeX sets, parts that fit a line, and compiled ones where pdfLaTeX is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from robustvit.results.latex.set_text import LINE, latex_text, longest_word, text_width
from robustvit.results.table_formats import Page, pages_latex

NUMBER = "46.4 [38.6, 54.4]"


def page(labels: list[str], heads: list[str], **about: object) -> Page:
    table = pd.DataFrame([[label, "own", *[NUMBER] * len(heads)] for label in labels], columns=["model", "suite", *heads])
    return Page("own · top-1", table, 2, dict.fromkeys(heads, True), best=frozenset((0, head) for head in heads))._replace(**about)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b&c%", r"a\_b\&c\%"),
        ("é", r"\'{e}"),
        ("ï", r"\"{\i}"),
        ("a\u202eb", "aU+202Eb"),
        ("模", "U+6A21"),
        ("\x07", "U+0007"),
        ("a--b", "a-{}-b"),
        ("<ε>", r"\textless{}$\varepsilon$\textgreater{}"),
    ],
)
def test_any_text_is_set(text: str, latex: str) -> None:
    assert latex_text(text) == latex
    assert latex_text(text).isascii()


def test_widths_are_those_of_computer_modern_at_9_points() -> None:
    assert text_width("0" * 10) == pytest.approx(46.25)
    assert text_width("mmm", bold=True) > text_width("mmm") > text_width("iii")
    assert longest_word("ab_cde f") == text_width("cde")


def test_parts_are_as_wide_as_a_line_and_hold_every_number() -> None:
    heads = [f"corruption {place}" for place in range(15)]
    text = pages_latex([page(["vit_tiny_patch16_224", "b"], heads)])
    parts = text.split(r"\begin{tabular}")[1:]
    assert text.count(NUMBER) == 30
    assert [part.split("}")[0] for part in parts] == ["{lrrr"] * 5
    assert text.count(r"\caption{own $\cdot$ top-1 (") == 5
    assert text_width("vit_tiny_patch16_224") + 3 * text_width(NUMBER, bold=True) < LINE


def test_what_is_the_same_in_every_row_is_in_the_caption_alone() -> None:
    text = pages_latex([page(["a", "b"], ["clean"])])
    assert "In every row: suite own." in text
    assert text.count("own") == 2  # and once in the title
    assert r"\begin{tabular}{lr}" in text


def test_the_direction_of_all_numbers_stands_in_the_caption() -> None:
    own = Page("s · top-1", pd.DataFrame([["fog", NUMBER, NUMBER]], columns=["scenario", "a", "b"]), higher_is_better=True)
    assert r"\caption{s $\cdot$ top-1 $\uparrow$.}" in pages_latex([own])


@pytest.mark.parametrize("label", ["[x] model", "*model"])
def test_a_label_is_no_argument_of_the_line_before(label: str) -> None:
    rows = [line for line in pages_latex([page([label, label], ["clean"])]).splitlines() if "model" in line and "&" in line]
    assert [row[:3] for row in rows[1:]] == ["{" + label[0] + "}"] * 2


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdfLaTeX is not installed")
def test_pdflatex_sets_it_within_the_margins(tmp_path: Path) -> None:
    labels = ["[a] vit_tiny_patch16_224.augreg_in21k_ft_in1k + tome(r=8, prop_attn=True)", "\u202eb", "\\é模 $x^2$ {~}"]
    heads = ["clean top-1", "relative mean corruption error, against AlexNet", *(f"c_{place}" for place in range(9))]
    own = page(labels, heads)._replace(
        groups=dict.fromkeys(heads[1:3], "a_heading that is far too long for what it is above of all columns")
    )
    (tmp_path / "t.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}" + pages_latex([own]) + r"\end{document}", encoding="utf-8"
    )
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True, check=False)
    log = (tmp_path / "t.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-2000:]
    assert [float(found) for found in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(found) > 5] == []
