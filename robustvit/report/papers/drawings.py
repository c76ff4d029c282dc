"""The overview of a model and the Pareto plot: which one a command asks for, and how matplotlib draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustvit.errors import UsageError, nearest
from robustvit.report.colours import COLOURS
from robustvit.report.cost_plots import plotted_scores
from robustvit.report.overview.overview_layout import WIDTH, Dot, Label, OverviewFigure, Stroke, overview_figure
from robustvit.report.overview.overview_numbers import Overview, overviews
from robustvit.report.pareto_plot import pareto_plot
from robustvit.report.scatter import Scatter
from robustvit.results.factors.pareto_front import ScoreTests
from robustvit.results.factors.view import COSTS, factor_view
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.paired_best import PairedTests
from robustvit.results.table_formats import check_choice

_SHADES = ("#0072b2", "#d55e00", "#009e73", "#b4568c", "#c98a00", "#3a9bd9", "#5b616e")  # of the page on paper
_INK, _SOFT, _RULE = "#1b1d22", "#5b616e", "#e4e5e8"
_POINT = 0.72  # points of a user unit, where 960 of them are 9.6 inches
_TEXTS = {
    "title": (25, "bold", _INK), "sub": (15, "normal", _SOFT), "family": (15, "bold", _INK), "absent": (15, "normal", _SOFT),
    "row": (14, "normal", _INK), "small": (12, "normal", _SOFT), "tick": (12, "normal", _SOFT), "foot": (12, "normal", _SOFT),
    "value": (16, "bold", _INK), "interval": (13, "normal", _SOFT), "second": (12.5, "normal", _SOFT),
}  # fmt: skip
"""Size, weight and colour of each kind of label, as the style sheet has them."""
_STROKES = {
    "rule": (0.8, _SOFT, 0.5), "grid": (1, _RULE, 1.0), "track": (1, _RULE, 1.0), "clean": (1.6, _INK, 1.0), "second": (2, _SOFT, 1.0)
}  # fmt: skip


def overview_of(board: Leaderboard, models: Sequence[str] | None, against: str | None) -> OverviewFigure:
    """The overview of one model. Raises UsageError where it is not one, or where the reference is the model itself."""
    found = overviews(board.rows)
    reference = None if against is None else _named(found, against)
    wanted = [one for one in found if models is None or one.label in models]
    wanted = [one for one in wanted if one is not reference] if len(wanted) > 1 else wanted
    if len(wanted) != 1:
        raise UsageError(f"an overview is of one model; choose with --model: {', '.join(one.model for one in wanted)}.")
    if reference is wanted[0]:
        raise UsageError(f"--against names the model itself, '{against}'; name another.")
    if not wanted[0].numbers:
        raise UsageError(f"there is nothing to draw as overview: '{wanted[0].model}' has no accuracy.")
    return overview_figure(wanted[0], reference, PairedTests(board))


def _named(found: Sequence[Overview], name: str) -> Overview:
    """The first overview of a model of that label."""
    known = [one.label for one in found]
    if name not in known:
        raise UsageError(f"--against '{name}' is not in the store.{nearest(name, known)} There are {', '.join(dict.fromkeys(known))}.")
    return found[known.index(name)]


def pareto_of(board: Leaderboard, score: str | None, cost: str | None) -> Scatter:
    """The Pareto plot of a score against a cost; of what is not named, what the report draws first.

    Raises UsageError for another cost or score, NotApplicable where fewer than two models have both.
    """
    if cost is not None:
        check_choice("--cost", cost, list(COSTS))
    drawn = [one for one in plotted_scores(board) if score in (None, one.score) and cost in (None, one.cost)]
    tests = ScoreTests(board)
    if drawn:
        return pareto_plot(drawn[0].view, drawn[0].score, drawn[0].cost, drawn[0].group, tests)
    first = next(iter(plotted_scores(board)), None)
    if first is None and score is None:
        raise UsageError("there is nothing to draw as pareto: no two models have a robustness score and a cost.")
    view = factor_view(board)
    return pareto_plot(view, score or (first.score if first else ""), cost or (first.cost if first else "macs"), tests=tests)


def draw_overview(plots: Any, figure: OverviewFigure) -> Any:
    """The overview on a page of its proportions, as `overview_svg` draws it."""
    drawn = plots.figure(figsize=(WIDTH / 100, figure.height / 100))
    place = drawn.add_axes((0, 0, 1, 1))
    place.set(xlim=(0, WIDTH), ylim=(figure.height, 0))
    place.axis("off")
    shade = _SHADES[figure.slot % COLOURS]
    for shape in figure.shapes:
        if isinstance(shape, Label):
            size, weight, ink = _TEXTS[shape.kind]
            anchor = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
            style = {"fontsize": _POINT * size * 0.93, "fontweight": weight, "color": ink}
            place.text(shape.x, shape.y, shape.text.replace("$", r"\$"), ha=anchor, va="baseline", **style)
        elif isinstance(shape, Stroke):
            width, ink, opacity = _STROKES.get(shape.kind, (5, shade, 0.4))
            line = {"color": ink, "alpha": opacity, "linewidth": _POINT * width, "solid_capstyle": "round" if width == 5 else "butt"}
            place.plot((shape.x, shape.to_x), (shape.y, shape.to_y), **line)
        else:
            _draw_dot(place, shape, shade)
    return drawn


def _draw_dot(place: Any, dot: Dot, shade: str) -> None:
    first, hollow = dot.kind.startswith("first"), dot.kind != "first"
    ink = shade if first else _SOFT
    style = {"markerfacecolor": "white" if hollow else ink, "markeredgecolor": ink if hollow else "white", "markeredgewidth": 1.0}
    place.plot([dot.x], [dot.y], "o" if first else "D", markersize=_POINT * (11 if first else 7), **style)


def draw_scatter(plots: Any, plot: Scatter) -> Any:
    """The Pareto plot: points with intervals, the staircase of the front, hollow marks where noise could decide otherwise."""
    figure, place = plots.subplots(figsize=(7.0, 4.2), layout="constrained")
    slots = {group: slot for slot, group in enumerate(dict.fromkeys(one.group for one in plot.points))}
    seen: set[str] = set()
    for one in plot.points:
        ink = _SHADES[slots[one.group] % COLOURS]
        if one.low == one.low:
            place.plot((one.cost, one.cost), (one.low, one.high), color=ink, alpha=0.45, linewidth=1)
        style = {"markerfacecolor": "white" if one.noise else ink, "markeredgecolor": ink, "alpha": 1.0 if one.front or one.noise else 0.65}
        label = one.group if len(slots) > 1 and one.group not in seen else None
        seen.add(one.group)
        place.plot([one.cost], [one.score], "o", markersize=5, linestyle="none", label=label, **style)
        if one.front or len(plot.points) <= 12:
            place.annotate(one.name, (one.cost, one.score), xytext=(4, 4), textcoords="offset points", fontsize=7)
    best = sorted((one.cost, one.score) for one in plot.points if one.front)
    place.step([cost for cost, _ in best], [score for _, score in best], where="post", color=_SOFT, linestyle="--", linewidth=0.9)
    hollow = "; hollow: within noise" if any(one.noise for one in plot.points) else ""
    place.set(xscale="log", xlabel=plot.across + hollow, ylabel=plot.up)
    place.grid(axis="y", linewidth=0.4, alpha=0.5)
    if seen and len(slots) > 1:
        place.legend(frameon=False)
    return figure
