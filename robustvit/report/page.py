"""The page itself: parts put into the template, style and script inside, and a policy that forbids the network."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from robustvit.errors import StoreFull
from robustvit.records.manifest import DataFacts, Manifest
from robustvit.records.store import Store
from robustvit.report.certified import certified_panels
from robustvit.report.charts import attack_panels, corruption_panels, heat_map
from robustvit.report.figures import ramp, symbol
from robustvit.report.gallery import gallery, share
from robustvit.report.numbers import numbers
from robustvit.report.pareto import pictures
from robustvit.report.provenance import conditions, manifests
from robustvit.report.published import pairs
from robustvit.report.ranking import board_of
from robustvit.report.suite_results import Stage, colour, stages
from robustvit.report.text import conclusion, doubts, notices
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.version import __version__


def write_report(store: Store | Path | str, path: Path | str, *, suite: str | None = None, models: Iterable[str] | None = None) -> Path:
    """Writes a store's numbers, pictures and conditions as one HTML file that needs no network; returns its path.

    suite, models: show only these. The file appears whole or not at all.
    Raises StoreError where there is no store, or none of that suite or model in it, and StoreFull where the file cannot be written.
    """
    place = store if isinstance(store, Store) else Store(store)
    target = Path(path)
    page = render(build_leaderboard(place, suite=suite, models=models), place)
    draft = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(page, encoding="utf-8")
        os.replace(draft, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise StoreFull(f"cannot write the report {target}: {error.strerror or error}. Give another place with --output.") from error
    return target


def render(board: Leaderboard, store: Store) -> str:
    """The page of a leaderboard, with pictures and conditions from its store. The same input gives the same page."""
    rows = board.rows
    asked = stages(rows)
    style, script = Markup(_style()), Markup(_text("script.js"))
    return _environment().get_template("page.html.j2").render(
        title=_title(asked), version=__version__, policy=_policy(style, script), style=style, script=script,
        stages=[_stage(stage, store, rows) for stage in asked], board=board_of(asked), many=len(asked) > 1,
        conclusions=[conclusion(stage, entrant) for stage in asked for entrant in stage.entrants], notices=notices(asked), doubts=doubts(asked),
        pairs=pairs(board), costs=pictures(board), conditions=conditions(store, rows), numbers=numbers(rows), seconds=_seconds(rows), ramp=ramp(), store=str(store.path),
    )  # fmt: skip


def _stage(stage: Stage, store: Store, board: pd.DataFrame) -> dict[str, Any]:
    about = _about_data(stage, store, board)
    classes = 0 if about is None else about.classes
    guess = 100 / classes if classes and stage.unit(stage.metric) == "%" and stage.metric == "top1" else None
    names = _class_names(about, manifests(store, board))
    heats = [heat_map(entrant) for entrant in stage.entrants]
    pictures = [gallery(store, entrant, names, share(len(stage.entrants))) for entrant in stage.entrants]
    return {
        "suite": stage.suite, "data": stage.data, "entrants": stage.entrants, "metric": stage.metric, "unit": stage.unit(stage.metric),
        "guess": guess, "corruptions": corruption_panels(stage, guess), "attacks": attack_panels(stage), "certified": certified_panels(stage),
        "heats": [heat for heat in heats if heat is not None], "galleries": [one for one in pictures if one is not None],
    }  # fmt: skip


def _about_data(stage: Stage, store: Store, board: pd.DataFrame) -> DataFacts | None:
    """What is told of the data that a stage is grouped by, or of the first of its variants."""
    requested = [one for run in manifests(store, board) if run.suite.name == stage.suite for one in run.data.values()]
    alike = [one for one in requested if one.base == stage.data]
    return next((one for one in reversed(alike) if one.label == stage.data), alike[-1] if alike else None)


def _class_names(about: DataFacts | None, told: Iterable[Manifest]) -> dict[str, list[str]]:
    """The names of the labels in every cell: its data's own, or those of the data it varies where both have as many classes."""
    found: dict[str, list[str]] = {}
    for manifest in told:
        for cell in manifest.cells:
            data = manifest.data[cell.data_fingerprint]
            alike = about is not None and (data.base, data.classes) == (about.base, about.classes)
            found[cell.cell] = data.class_names or (about.class_names if alike and about is not None else [])
    return found


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("robustvit.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(symbol=symbol, colour=colour)
    return made


def _policy(style: str, script: str) -> str:
    """What the page may load: its own style and script, pictures inside it, nothing else from anywhere."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _style() -> str:
    shades = "".join(f".h{i}{{background:{shade.background};color:{shade.ink}}}" for i, shade in enumerate(ramp()))
    return _text("style.css") + shades


def _text(name: str) -> str:
    return resources.files("robustvit.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _title(asked: list[Stage]) -> str:
    models = list(dict.fromkeys(entrant.model for stage in asked for entrant in stage.entrants))
    if len(models) == 1:
        return f"Robustness of {models[0]}"
    return f"Robustness of {len(models)} models" if models else "Robustness report"


def _seconds(board: pd.DataFrame) -> float:
    cells = board[board["cell"] != ""].drop_duplicates(["suite", "cell"])
    return float(cells["seconds"].sum())
