"""The curves and heat maps of a report as files for papers, drawn by matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustvit.errors import MissingExtra, UsageError
from robustvit.records.store import Store
from robustvit.report.charts import HeatMap, attack_panels, corruption_panels, heat_map
from robustvit.report.colours import COLOURS, colour_scale
from robustvit.report.curves.certified_curves import certified_panels
from robustvit.report.curves.depth_curves import depth_panels
from robustvit.report.curves.lesion_curves import lesion_panels
from robustvit.report.curves.transform_curves import transform_panels
from robustvit.report.figures import Panel
from robustvit.report.overview.overview_layout import OverviewFigure
from robustvit.report.overview.overview_svg import overview_svg
from robustvit.report.papers.drawings import draw_overview, draw_scatter, overview_of, pareto_of
from robustvit.report.scatter import Scatter, svg
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.results.leaderboard import build_leaderboard
from robustvit.results.table_formats import check_choice, save_file
from robustvit.spec.written.words import metric_name

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b4568c", "#c98a00", "#3a9bd9", "#5b616e")  # of the page on paper
_SYMBOLS = "os^D"
_ACROSS, _WIDE, _TALL = 4, 2.1, 1.75  # panels side by side, and the inches of each
_BANDS = "bands: 95 % intervals"
_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}

PANELS: Mapping[str, Callable[[SuiteResults], Sequence[Panel]]] = {
    "corruptions": lambda suite: corruption_panels(suite, None),
    "attacks": attack_panels,
    "certified": certified_panels,
    "transforms": lambda suite: transform_panels(suite, None),
    "lesions": lambda suite: lesion_panels(suite, None),
    "depths": depth_panels,
}
NAMES = (*PANELS, "heat-map", "overview", "pareto")


def check_figure(name: str, path: Path, *, against: str | None = None, score: str | None = None, cost: str | None = None) -> str:
    """The form of a figure's file, pdf, svg or png. Raises UsageError for another name or ending, and for an option of another figure."""
    check_choice("the figure", name, NAMES)
    form = path.suffix.removeprefix(".").lower()
    check_choice("the ending of --output", form, ("pdf", "svg", "png"))
    for option, value, whose in (("--against", against, "overview"), ("--score", score, "pareto"), ("--cost", cost, "pareto")):
        if value is not None and name != whose:
            raise UsageError(f"{option} is for the figure '{whose}', and not for '{name}'.")
    return form


def write_figure(
    store: Store | Path | str,
    name: str,
    path: Path,
    *,
    suite: str | None = None,
    models: Sequence[str] | None = None,
    against: str | None = None,
    score: str | None = None,
    cost: str | None = None,
) -> Path:
    """Draws a figure into a PDF, SVG or PNG file, by the ending of its name; returns its path.

    name: one of NAMES. Curves and `heat-map` are of one suite, `heat-map` and `overview` of one model. against: for `overview`, a reference
    model; score, cost: for `pareto`, what is drawn against what (as `robustvit factors` calls them). Raises UsageError for another name or
    ending, for a store of several suites or models where one is needed, and where there is nothing to draw; MissingExtra without
    matplotlib, which an overview and a Pareto plot as SVG do without.
    """
    form = check_figure(name, path, against=against, score=score, cost=cost)
    if name in ("overview", "pareto"):
        chosen = models if models is None or against is None else [*models, against]
        board = build_leaderboard(store, suite=suite, models=chosen)
        return _write_drawing(overview_of(board, models, against) if name == "overview" else pareto_of(board, score, cost), path, form)
    plots = _matplotlib()
    found = results_by_suite(build_leaderboard(store, suite=suite, models=models).rows)
    if len(found) > 1:
        raise UsageError(
            f"the store has {len(found)} suites with their data; choose one with --suite: {', '.join(one.name for one in found)}."
        )
    with plots.rc_context(_STYLE):
        figure = _heat_figure(plots, found) if name == "heat-map" else _panel_figure(plots, found, name)
        return save_file(_saved(plots, figure, form, bbox_inches="tight"), path)


def _write_drawing(drawing: OverviewFigure | Scatter, path: Path, form: str) -> Path:
    """An overview or a Pareto plot: SVG as on the page, other forms through matplotlib."""
    if form == "svg":
        text = overview_svg(drawing, standalone=True) if isinstance(drawing, OverviewFigure) else svg(drawing, standalone=True)
        return save_file(text, path)
    plots = _matplotlib()
    with plots.rc_context(_STYLE):
        figure = draw_overview(plots, drawing) if isinstance(drawing, OverviewFigure) else draw_scatter(plots, drawing)
        return save_file(_saved(plots, figure, form), path)


def _saved(plots: Any, figure: Any, form: str, **options: Any) -> bytes:
    """The bytes of a figure, the same for the same numbers."""
    sink = io.BytesIO()
    stable = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
    figure.savefig(sink, format=form, metadata=stable, dpi=300, **options)
    plots.close(figure)
    return sink.getvalue()


def _matplotlib() -> Any:
    try:
        import matplotlib
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtra("figures need matplotlib: python3 -m pip install 'robustvit[figures]'.") from error
    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "robustvit"
    return pyplot


def _panel_figure(plots: Any, suites: Sequence[SuiteResults], name: str) -> Any:
    panels = [panel for suite in suites for panel in PANELS[name](suite)]
    if not panels:
        raise UsageError(f"there is nothing to draw as {name}: the suite has no such curve. The figures are {', '.join(NAMES)}.")
    across = min(_ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    figure, axes = plots.subplots(down, across, figsize=(_WIDE * across, _TALL * down), squeeze=False, layout="constrained")
    for place in axes.flat[len(panels) :]:
        place.axis("off")
    for at, (place, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        _draw_panel(place, panel, "severity" if name == "corruptions" else "", "" if at % across else _quantity(suites, name))
    handles = {handle.get_label(): handle for place in axes.flat for handle in place.get_legend_handles_labels()[0]}
    columns = min(len(handles), across)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False, title=_BANDS)
    return figure


def _quantity(suites: Sequence[SuiteResults], name: str) -> str:
    """What the curves of a figure show, in words; nothing where the title of each panel says it."""
    if name == "depths":
        return ""
    robust = name == "attacks" and any("robust_accuracy" in model.metrics for suite in suites for model in suite.models)
    metric = "robust_accuracy" if robust else "certified_accuracy" if name == "certified" else suites[0].metric
    return metric_name(metric)


def _draw_panel(place: Any, panel: Panel, across: str, up: str) -> None:
    """across: what the levels are where the panel does not say it; up: what the curves show, on the first panel of each line."""
    xs = np.array([tick.at for tick in panel.columns])
    for series in panel.series:
        values, low, high = (np.array([getattr(point, name) for point in series.points]) for name in ("value", "low", "high"))
        colour, symbol = _COLOURS[series.slot % COLOURS], _SYMBOLS[series.slot % len(_SYMBOLS)]
        place.plot(xs, values, color=colour, marker=symbol, markersize=3, linewidth=1.2, label=series.name)
        place.fill_between(xs, low, high, color=colour, alpha=0.17, linewidth=0)
    place.set_title(panel.title)
    place.set_xticks(xs, [tick.text for tick in panel.columns])
    place.set_ylim(panel.bottom, panel.top)
    place.set_xlabel(panel.axis or across)
    place.set_ylabel(f"{up}, {panel.unit}" if up and panel.unit else up or panel.unit)
    place.grid(axis="y", linewidth=0.4, alpha=0.5)


def _heat_figure(plots: Any, suites: Sequence[SuiteResults]) -> Any:
    maps = [found for suite in suites for model in suite.models if (found := heat_map(model)) is not None]
    if len(maps) != 1:
        named = ", ".join(one.model.name for one in maps)
        raise UsageError(f"a heat map is of one model; choose with --model: {named}." if maps else "there is nothing to draw as heat-map.")
    return _drawn_map(plots, maps[0])


def _drawn_map(plots: Any, heat: HeatMap) -> Any:
    shades = colour_scale()
    figure, place = plots.subplots(figsize=(0.55 * len(heat.levels) + 1.6, 0.25 * len(heat.rows) + 0.6), layout="constrained")
    for down, row in enumerate(heat.rows):
        for across, cell in enumerate(row.cells):
            shade = None if cell.step is None else shades[cell.step]
            place.add_patch(plots.Rectangle((across, down), 0.96, 0.94, color="#e4e5e8" if shade is None else shade.background))
            place.text(across + 0.48, down + 0.47, cell.text, ha="center", va="center", color="#000" if shade is None else shade.ink)
    place.set(xlim=(0, len(heat.levels)), ylim=(len(heat.rows), 0))
    place.set_xticks(np.arange(len(heat.levels)) + 0.48, heat.levels)
    place.set_yticks(np.arange(len(heat.rows)) + 0.47, [row.title for row in heat.rows])
    place.tick_params(length=0)
    place.spines[:].set_visible(False)
    place.set_title(f"{heat.model.name}: {metric_name(heat.model.metric())}")
    return figure
