"""Renders the report as one HTML file with inline style and script, and a content security policy that forbids network access."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from robustvit.errors import StoreFull
from robustvit.records.disk import below, write_output
from robustvit.records.manifest import DataFacts, Manifest
from robustvit.records.store import Store
from robustvit.report.charts import attack_panels, corruption_panels, heat_map
from robustvit.report.class_labels import class_labels
from robustvit.report.class_maps import class_maps
from robustvit.report.colours import colour, colour_scale
from robustvit.report.cost_plots import cost_plots
from robustvit.report.curves.certified_curves import certified_panels
from robustvit.report.curves.lesion_curves import lesion_panels
from robustvit.report.curves.transform_curves import transform_curves
from robustvit.report.figures import symbol
from robustvit.report.image_gallery import image_budget, image_gallery
from robustvit.report.labels import metric_name, metric_tip
from robustvit.report.numbers import numbers, script_json
from robustvit.report.provenance import manifests, provenance
from robustvit.report.published import published_comparisons
from robustvit.report.ranking import ranking
from robustvit.report.samples.bundle import Bundle
from robustvit.report.samples.sample_rows import INLINE, predictions_in, sample_groups
from robustvit.report.shift_maps import shift_maps
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.report.text import conclusion, gradient_warnings, notices, verdict_words
from robustvit.report.transfer import transfer_maps
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.results.pages import pages
from robustvit.results.paired_best import PairedTests
from robustvit.spec.given import check_path
from robustvit.version import __version__


def write_report(store: Store | Path | str, path: Path | str, *, suite: str | None = None, models: Iterable[str] | None = None) -> Path:
    """Writes a store's numbers, figures, images and provenance as one HTML file that needs no network; returns its path.

    suite, models: show only these. The file is written atomically; a device or a pipe is written to.
    Raises StoreError where there is no store, or none of that suite or model in it, or where a link in the store leads the file out of it,
    and StoreFull where the file cannot be written.
    """
    source = store if isinstance(store, Store) else Store(store)
    target = check_path(path, "the report's file")
    page = render(build_leaderboard(source, suite=suite, models=models), source)
    if target.is_relative_to(source.path):
        below(source.path, *target.relative_to(source.path).parts)
    try:
        write_output(target, page.encode())
    except OSError as error:
        raise StoreFull(f"cannot write the report {target}: {error.strerror or error}. Choose another file with --output.") from error
    return target


def write_bundle(store: Store | Path | str, folder: Path | str, *, suite: str | None = None, models: Iterable[str] | None = None) -> Path:
    """As `write_report`, as `index.html` in a folder, with the rows and images of its list of samples in files beside it.

    For stores whose predictions are too many for one file. Raises UsageError too, where the folder holds anything else.
    """
    source = store if isinstance(store, Store) else Store(store)
    bundle = Bundle(folder, source)
    return bundle.write_page(render(build_leaderboard(source, suite=suite, models=models), source, bundle))


def render(board: Leaderboard, store: Store, bundle: Bundle | None = None) -> str:
    """The page of a leaderboard, with images and provenance from its store. The same input gives the same page.

    bundle: where the rows of the list of samples are written; without one they are on the page, where they are few enough.
    """
    rows = board.rows
    suites = results_by_suite(rows)
    style, script = Markup(page_style()), Markup(resource_text("script.js") + resource_text("samples.js"))
    return template_environment().get_template("page.html.j2").render(
        title=_title(suites), version=__version__, policy=_policy(style, script, beside=bundle is not None),
        style=style, script=script, store=str(store.path),
        suites=[_figures(suite, store, rows) for suite in suites], ranking=ranking(suites, PairedTests(board)),
        many=len(suites) > 1,
        conclusions=[conclusion(suite, model) for suite in suites for model in suite.models], notices=notices(suites),
        gradient_warnings=gradient_warnings(suites), verdicts=verdict_words(suites),
        published=published_comparisons(board), cost_plots=cost_plots(board),
        provenance=provenance(store, rows), numbers=numbers(rows), seconds=_seconds(rows), colour_scale=colour_scale(),
        **_samples(suites, store, rows, bundle),
    )  # fmt: skip


def _figures(suite: SuiteResults, store: Store, board: pd.DataFrame) -> dict[str, Any]:
    """The template variables of one suite's section."""
    runs = manifests(store, board)
    facts = _data_facts(suite, runs)
    percent = suite.metric == "top1" and suite.unit(suite.metric) == "%"
    chance = 100 / facts.classes if facts is not None and facts.classes and percent else None
    class_names, budget = _class_names(facts, runs), image_budget(len(suite.models))
    heat_maps = [heat_map(model) for model in suite.models]
    galleries = [image_gallery(store, model, class_names, budget) for model in suite.models]
    own = board[(board["suite"] == suite.name) & (board["base"] == suite.data)]
    return {
        "name": suite.name, "data": suite.data, "models": suite.models, "metric": suite.metric, "unit": suite.unit(suite.metric),
        "chance": chance, "corruptions": corruption_panels(suite, chance), "attacks": attack_panels(suite),
        "certified": certified_panels(suite), "transforms": transform_curves(suite, chance),
        "lesions": lesion_panels(suite, chance),
        "transfer": transfer_maps(store, board, suite.name, suite.data),
        "shift_maps": list(shift_maps(store, suite.models)),
        "class_maps": [one for model in suite.models for one in class_maps(store, model, class_names)],
        "heat_maps": [one for one in heat_maps if one is not None],
        "galleries": [one for one in galleries if one is not None],
        "scores": [page for page in pages(own) if page.title],
    }  # fmt: skip


def _samples(suites: list[SuiteResults], store: Store, board: pd.DataFrame, bundle: Bundle | None) -> dict[str, Any]:
    """The template variables of the list of samples: its groups, as JSON or by their files; or how many predictions are left out."""
    count = predictions_in(suites)
    if bundle is None and count > INLINE:
        return {"samples": None, "samples_left_out": count}
    runs = manifests(store, board)
    groups = [one for suite in suites for one in sample_groups(store, suite, _class_names(_data_facts(suite, runs), runs))]
    found = {
        "groups": [one.title for one in groups],
        "inline": [Markup(script_json(one.packed())) for one in groups] if bundle is None else [],
        "files": bundle.write_rows(groups) if bundle is not None else [],
    }
    return {"samples": found if groups else None, "samples_left_out": 0}


def _data_facts(suite: SuiteResults, runs: Iterable[Manifest]) -> DataFacts | None:
    """The recorded facts about the data set that a suite's results are grouped by, or else about the last of its variants."""
    alike = [facts for run in runs if run.suite.name == suite.name for facts in run.data.values() if facts.base == suite.data]
    return next((facts for facts in reversed(alike) if facts.label == suite.data), alike[-1] if alike else None)


def _class_names(base: DataFacts | None, runs: Iterable[Manifest]) -> dict[str, list[str]]:
    """The class names of every cell: those of its data, or of the base data set where that has as many classes."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for cell in run.cells:
            data = run.data[cell.data_fingerprint]
            alike = base is not None and (data.base, data.classes) == (base.base, base.classes)
            found[cell.cell] = class_labels(data.class_names or (base.class_names if alike and base is not None else []))
    return found


def template_environment() -> jinja2.Environment:
    """The templates of the report, which escape whatever is put into them."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robustvit.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(symbol=symbol, colour=colour)
    environment.filters.update(metric_name=metric_name, metric_tip=metric_tip)
    return environment


def _policy(style: str, script: str, *, beside: bool) -> str:
    """The content security policy: the page's own style and script, inline images, nothing else. beside: and the files beside it."""
    # what the page's script loads is trusted by 'strict-dynamic'; 'self' holds where it is served, file: where it is opened from disk
    rows, images = (" 'strict-dynamic'", " 'self' file:") if beside else ("", "")
    return (
        f"default-src 'none'; style-src '{source_hash(style)}'; script-src '{source_hash(script)}'{rows}; img-src data:{images}; "
        "base-uri 'none'; form-action 'none'"
    )


def source_hash(text: str) -> str:
    """The source by which a content security policy allows an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page_style() -> str:
    """The style of a page, with the shades of heat maps."""
    shades = "".join(f".h{i}{{background:{shade.background};color:{shade.ink}}}" for i, shade in enumerate(colour_scale()))
    return resource_text("style.css") + shades


def resource_text(name: str) -> str:
    """A style or script of the report."""
    return resources.files("robustvit.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _title(suites: list[SuiteResults]) -> str:
    labels = list(dict.fromkeys(model.label for suite in suites for model in suite.models))
    if len(labels) == 1:
        return f"Robustness of {labels[0]}"
    return f"Robustness of {len(labels)} models" if labels else "Robustness report"


def _seconds(board: pd.DataFrame) -> float:
    cells = board[board["cell"] != ""].drop_duplicates(["suite", "cell"])
    return float(cells["seconds"].sum())
