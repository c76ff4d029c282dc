"""The report of a store, or of two: one HTML file that needs no network, or a folder with the rows of its samples beside the page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from robustvit.errors import StoreFull
from robustvit.records.cells import open_store
from robustvit.records.disk import below, write_output
from robustvit.records.store import Store
from robustvit.report.charts import attack_panels, corruption_panels, heat_map
from robustvit.report.class_labels import class_names_of, data_facts
from robustvit.report.class_maps import class_maps
from robustvit.report.colours import colour_scale
from robustvit.report.cost_plots import cost_plots
from robustvit.report.curves.analysis_maps import analysis_maps
from robustvit.report.curves.certified_curves import certified_panels
from robustvit.report.curves.depth_curves import depth_curves
from robustvit.report.curves.lesion_curves import lesion_panels
from robustvit.report.curves.transform_curves import transform_curves
from robustvit.report.html.document import render_document
from robustvit.report.image_gallery import image_budget, image_gallery
from robustvit.report.numbers import numbers, script_json
from robustvit.report.overview.model_overviews import overview_figures
from robustvit.report.provenance import manifests, provenance
from robustvit.report.published import published_comparisons
from robustvit.report.ranking import ranked_points, ranking
from robustvit.report.samples.bundle import Bundle
from robustvit.report.samples.sample_rows import INLINE, predictions_in, sample_groups
from robustvit.report.shift_maps import shift_maps
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.report.text import conclusion, gradient_warnings, notices, verdict_words
from robustvit.report.transfer import transfer_maps
from robustvit.report.two_stores.comparison_page import open_other, render_comparison
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.results.pages import headline_in_words, scenario_pages
from robustvit.results.paired_best import PairedTests
from robustvit.results.summary import headline_numbers
from robustvit.results.table_formats import Page
from robustvit.spec.given import check_path


def write_report(
    store: Store | Path | str,
    path: Path | str,
    *,
    suite: str | None = None,
    models: Iterable[str] | None = None,
    against: Store | Path | str | None = None,
) -> Path:
    """Writes a store's numbers, figures, images and provenance as one HTML file that needs no network; returns its path.

    suite, models: show only these. against: another store, of the same suite run again; the page then compares the two, cell by cell (see
    robustvit.report.two_stores). The file is written atomically; a device or a pipe is written to.
    Raises StoreError where there is no store, or none of that suite or model in it, where two have no cell in common, or where a link in
    a store leads the file out of it, UsageError where `against` is the store itself, and StoreFull where the file cannot be written.
    """
    stores = _opened(store, against)
    target = check_path(path, "the report's file")
    page = _rendered(stores, suite, models)
    for one in stores:
        if target.is_relative_to(one.path):
            below(one.path, *target.relative_to(one.path).parts)
    try:
        write_output(target, page.encode())
    except OSError as error:
        raise StoreFull(f"cannot write the report {target}: {error.strerror or error}. Choose another file with --output.") from error
    return target


def write_bundle(
    store: Store | Path | str,
    folder: Path | str,
    *,
    suite: str | None = None,
    models: Iterable[str] | None = None,
    against: Store | Path | str | None = None,
) -> Path:
    """As `write_report`, as `index.html` in a folder, with the rows and images of its list of samples in files beside it.

    For stores whose predictions are too many for one file. Raises UsageError too, where the folder holds anything else.
    """
    stores = _opened(store, against)
    bundle = Bundle(folder, *stores)
    return bundle.write_page(_rendered(stores, suite, models, bundle))


def _opened(store: Store | Path | str, against: Store | Path | str | None) -> tuple[Store, ...]:
    first = open_store(store)
    return (first,) if against is None else (first, open_other(first, against))


def _rendered(stores: tuple[Store, ...], suite: str | None, models: Iterable[str] | None, bundle: Bundle | None = None) -> str:
    if len(stores) > 1:
        return render_comparison(stores[0], stores[1], suite=suite, models=models, bundle=bundle)
    return render(build_leaderboard(stores[0], suite=suite, models=models), stores[0], bundle)


def render(board: Leaderboard, store: Store, bundle: Bundle | None = None) -> str:
    """The page of a leaderboard, with images and provenance from its store. The same input gives the same page.

    bundle: where the rows of the list of samples are written; without one they are on the page, where they are few enough.
    """
    board = replace(board, rows=_in_one_block(board.rows))
    rows = board.rows
    suites, tests = results_by_suite(rows), PairedTests(board)
    return render_document(
        "page.html.j2", beside=bundle is not None, styles=("overview.css",),
        overviews=overview_figures(suites, rows), title=_title(suites), store=str(store.path),
        suites=[_figures(suite, store, rows) for suite in suites], ranking=ranking(suites, tests),
        many=len(suites) > 1,
        conclusions=[conclusion(suite, model) for suite in suites for model in suite.models], notices=notices(suites),
        gradient_warnings=gradient_warnings(suites), verdicts=verdict_words(suites),
        published=published_comparisons(board), cost_plots=cost_plots(board, tests),
        provenance=provenance(store, rows), numbers=numbers(rows), seconds=_seconds(rows), colour_scale=colour_scale(),
        **_samples(suites, store, rows, bundle),
    )  # fmt: skip


def _in_one_block(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with their texts as objects, which pandas keeps and chooses from together: columns of strings it takes one by one."""
    return rows.astype({name: object for name, kind in rows.dtypes.items() if isinstance(kind, pd.StringDtype)})


def _figures(suite: SuiteResults, store: Store, board: pd.DataFrame) -> dict[str, Any]:
    """The template variables of one suite's section."""
    runs = manifests(store, board)
    facts = data_facts(suite.name, suite.data, runs)
    percent = suite.metric == "top1" and suite.unit(suite.metric) == "%"
    chance = 100 / facts.classes if facts is not None and facts.classes and percent else None
    class_names, budget = class_names_of(facts, runs), image_budget(len(suite.models))
    heat_maps = [heat_map(model) for model in suite.models]
    galleries = [image_gallery(store, model, class_names, budget) for model in suite.models]
    own = board[(board["suite"] == suite.name) & (board["base"] == suite.data)]
    return {
        "name": suite.name, "data": suite.data, "models": suite.models, "metric": suite.metric, "unit": suite.unit(suite.metric),
        "chance": chance, "corruptions": corruption_panels(suite, chance), "attacks": attack_panels(suite),
        "certified": certified_panels(suite), "transforms": transform_curves(suite, chance),
        "lesions": lesion_panels(suite, chance), "depths": depth_curves(suite),
        "transfer": transfer_maps(store, board, suite.name, suite.data),
        "shift_maps": list(shift_maps(store, suite.models)),
        "analysis_maps": list(analysis_maps(store, suite.models)),
        "class_maps": [one for model in suite.models for one in class_maps(store, model, class_names)],
        "heat_maps": [one for one in heat_maps if one is not None],
        "galleries": [one for one in galleries if one is not None],
        "scores": [*_unranked(suite), *scenario_pages(own)],
    }  # fmt: skip


def _unranked(suite: SuiteResults) -> list[Page]:
    """The numbers of a summary that the ranking does not show, a column for each model: with the pages of scenarios nothing is left out."""
    texts: dict[str, dict[str, str]] = {}
    for model in suite.models:
        ranked = {index for point in ranked_points(suite, model).values() for index in point.rows}
        for one in headline_numbers(model.rows):
            if not ranked.issuperset(one.rows.index):
                texts.setdefault(headline_in_words(one), {})[model.name] = one.text
    table = pd.DataFrame.from_dict(texts, orient="index").fillna("").rename_axis("number").reset_index()
    return [Page(f"{suite.name} · clean images, averages and single numbers", table)] if texts else []


def _samples(suites: list[SuiteResults], store: Store, board: pd.DataFrame, bundle: Bundle | None) -> dict[str, Any]:
    """The template variables of the list of samples: its groups, as JSON or by their files; or how many predictions are left out."""
    count = predictions_in(suites)
    if bundle is None and count > INLINE:
        return {"samples": None, "samples_left_out": count}
    runs = manifests(store, board)
    groups = [
        one for suite in suites for one in sample_groups(store, suite, class_names_of(data_facts(suite.name, suite.data, runs), runs))
    ]
    found = {
        "groups": [one.title for one in groups],
        "inline": [Markup(script_json(one.packed())) for one in groups] if bundle is None else [],
        "files": bundle.write_rows(groups) if bundle is not None else [],
    }
    return {"samples": found if groups else None, "samples_left_out": 0}


def _title(suites: list[SuiteResults]) -> str:
    """The models of a page, and how many rows they have in its tables where one has several: with other transforms, seeds or precision."""
    labels = list(dict.fromkeys(model.label for suite in suites for model in suite.models))
    entries = {model.slot for suite in suites for model in suite.models}
    if not labels:
        return "Robustness report"
    variants = f" in {len(entries)} variants" if len(entries) > len(labels) else ""
    return f"Robustness of {labels[0] if len(labels) == 1 else f'{len(labels)} models'}{variants}"


def _seconds(board: pd.DataFrame) -> float:
    cells = board[board["cell"] != ""].drop_duplicates(["suite", "cell"])
    return float(cells["seconds"].sum())
