"""The pages of the committed boards in the site: one for each suite and each model of reports/boards, and one that compares models.

They are made of the headline numbers, tables, figures and reports that lie there. Tables are whole without the script
(assets/boards.js), which filters them and compares two models.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustvit.spec.suite_file import load_suite

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
BOARDS = ROOT / "reports" / "boards"
ZOO = ROOT / "robustvit" / "models" / "weights" / "zoo.json"
FOLDER = "boards"
"""Of the pages in the site."""
_SHOWN = {"complete": "", "partial": " *"}

Row = dict[str, str]


def headline_rows(folder: Path = BOARDS) -> list[Row]:
    """The headline numbers of every model on every suite; none where no board is committed."""
    found: list[Row] = []
    for path in sorted(folder.glob("*.headlines.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += csv.DictReader(file)
    return found


def pages(folder: Path = BOARDS) -> dict[str, str]:
    """The pages in Markdown by their place in the site."""
    rows = headline_rows(folder)
    if not rows:
        return {}
    suites, models = _distinct(rows, "suite"), _distinct(rows, "model")
    made = {f"{FOLDER}/index.md": index(suites, models, rows), f"{FOLDER}/compare.md": compare_page(rows)}
    made |= {f"{FOLDER}/{suite}.md": suite_page(suite, [row for row in rows if row["suite"] == suite], folder) for suite in suites}
    return made | {model_place(model): model_page(model, [row for row in rows if row["model"] == model], models) for model in models}


def files_beside(folder: Path = BOARDS) -> dict[str, Path]:
    """The figures, tables and reports of the boards by their place in the site."""
    found = {f"{FOLDER}/{path.name}": path for ending in ("svg", "csv") for path in sorted(folder.glob(f"*.{ending}"))}
    return found | {f"{FOLDER}/report-{path.name}": path for path in sorted(folder.glob("*.html"))}


def model_place(model: str) -> str:
    """Where the page of a model is in the site."""
    return f"{FOLDER}/model-{''.join(char if char.isalnum() else '-' for char in model).strip('-')}.md"


def index(suites: Sequence[str], models: Sequence[str], rows: Sequence[Row]) -> str:
    """The page that lists the boards."""
    counts = {suite: max(int(row["n"]) for row in rows if row["suite"] == suite) for suite in suites}
    table = [f"| [{suite}]({suite}.md) | {load_suite(suite).title} | {counts[suite]} |" for suite in suites]
    return "\n".join([
        "# Boards of the zoo", "",
        f"{len(models)} models of the [zoo](../zoo.md) on {len(suites)} suites, at 32 pixels on robustvit's digits. Few samples: intervals "
        "are wide, and a board shows what the suites report, not which method is best. Everything here is made of committed Records "
        "([how](../boards.md)); [compare two models](compare.md) on all suites.", "",
        "| suite | what it is | samples, at most |", "|---|---|--:|", *table, "",
        "## Models", "", *(f"- [`{model}`]({Path(model_place(model)).name})" for model in models), "",
    ])  # fmt: skip


def suite_page(suite: str, rows: Sequence[Row], folder: Path) -> str:
    """The page of one suite: headline numbers, figures, and every other number by scenario."""
    facts = load_suite(suite)
    figures = sorted(path.name for path in folder.glob(f"{suite}-*.svg") if path.name.removeprefix(f"{suite}-") in _figure_names(folder))
    drawn = [f"![{name.removesuffix('.svg')}: curves with 95 % intervals]({name})" for name in figures]
    _, _, rest = (folder / f"{suite}.md").read_text(encoding="utf-8").partition("\n\n")
    parts = [
        f"# {suite}",
        f"{facts.title}, version {facts.version}: [{facts.paper}]({facts.url}). [Rules](../suites.md#{suite}). "
        f"[All numbers as CSV]({suite}.csv), [the report](report-{suite}.html), [all boards](index.md).",
        "\n".join(number_table(rows)),
        *(["## Curves", *drawn] if drawn else []),
        *(["## Every number", rest.strip()] if rest.strip() else []),
    ]
    return "\n\n".join(parts) + "\n"


def compare_page(rows: Sequence[Row]) -> str:
    """The page of all headline numbers of all models."""
    text = (
        "# Compare models\n\nThe headline numbers of every suite, a column for each model; filter them, or choose two models to see their "
        "differences. Intervals that are apart say more than a difference; two that overlap say nothing, and `robustvit compare` pairs the "
        "samples ([tables](../tables.md)).\n\n"
    )
    return text + "\n".join(number_table(rows, suites=True)) + "\n"


def model_page(model: str, rows: Sequence[Row], models: Sequence[str]) -> str:
    """The page of one model: what it is, and its headline numbers on every suite."""
    table = json.loads(ZOO.read_text(encoding="utf-8"))
    base, _, steps = model.partition(" · ")
    facts = table.get(base, {})
    told = [" ".join(str(facts.get("doc", "A model that somebody submitted.")).split())]
    told += [f"Transformed by `{steps}`."] if steps else []
    told += [f"Trained by `{command}`." for command in facts.get("commands", ())]
    others = ", ".join(f"[`{other}`]({Path(model_place(other)).name})" for other in models if other != model)
    parts = [f"# {model}", "\n\n".join(told), "\n".join(number_table(rows, suites=True)), f"Others: {others}." if others else ""]
    return "\n\n".join(filter(None, parts)) + "\n"


def number_table(rows: Sequence[Row], *, suites: bool = False) -> Iterator[str]:
    """Lines of an HTML table, numbers down and models across. suites: with the suite of each number in a first column.

    A cell has value and interval as attributes, for the script; the text is whole without it.
    """
    models = _distinct(rows, "model")
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row["suite"], row["data"], row["number"]), {})[row["model"]] = row
    several = {suite for suite in _distinct(rows, "suite") if len({row["data"] for row in rows if row["suite"] == suite}) > 1}
    yield "<table data-board>"
    heads = (["suite"] if suites else []) + ["number"]
    yield "<thead><tr>" + "".join(f"<th>{name}</th>" for name in heads) + "".join(f"<th>{_linked(one)}</th>" for one in models)
    yield "</tr></thead><tbody>"
    for (suite, data, number), cells in found.items():
        first = next(iter(cells.values()))
        title = number + (f" · {data}" if suite in several else "") + (f", {first['unit']}" if first["unit"] else "")
        better = "up" if first["higher_is_better"] == "True" else "down"
        lead = f'<td><a href="{suite}.html">{suite}</a></td>' if suites else ""
        yield f'<tr data-better="{better}">{lead}<td>{escape(title)}</td>' + "".join(_cell(cells.get(one)) for one in models) + "</tr>"
    yield "</tbody></table>"


def _cell(row: Row | None) -> str:
    if row is None:
        return "<td></td>"
    if not row["value"]:
        return f"<td>{escape(row['status'])}</td>"
    value, low, high = (_short(row[name]) for name in ("value", "low", "high"))
    span = f" [{low}, {high}]" if low and high else ""
    data = "".join(f' data-{name}="{row[name]}"' for name in ("value", "low", "high") if row[name])
    status = _SHOWN.get(row["status"], f" {escape(row['status'])}")
    return f'<td{data} title="n = {row["n"]}">{value}{span}{status}</td>'


def _short(text: str) -> str:
    """A number of a CSV with as many digits as a table shows."""
    if not text:
        return ""
    value = float(text)
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"


def _linked(model: str) -> str:
    return f'<a href="{Path(model_place(model)).stem}.html">{escape(model)}</a>'


def _figure_names(folder: Path) -> set[str]:
    """`attacks.svg` and the like: the ends of the names of figures, which a suite's own name may contain."""
    suites = {path.stem for path in folder.glob("*.md")}
    return {
        path.name[len(suite) + 1 :]
        for path in folder.glob("*.svg")
        for suite in suites
        if path.name.startswith(f"{suite}-") and path.name[len(suite) + 1 :].count("-") == 0
    }


def _distinct(rows: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(row[key]) for row in rows))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the pages to the navigation, below Results."""
    rows = headline_rows()
    if rows and config.nav is not None:
        suites = [f"{FOLDER}/{suite}.md" for suite in _distinct(rows, "suite")]
        models = [{model: model_place(model)} for model in _distinct(rows, "model")]
        own = [f"{FOLDER}/index.md", {"Compare models": f"{FOLDER}/compare.md"}, {"Suites": suites}, {"Models": models}]
        section = next(one["Results"] for one in config.nav if isinstance(one, dict) and "Results" in one)
        section.append({"Boards": own})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages, and the figures, tables and reports that they link to."""
    from mkdocs.structure.files import File

    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    for place, path in files_beside().items():
        files.append(File.generated(config, place, abs_src_path=os.fspath(path)))
    return files
