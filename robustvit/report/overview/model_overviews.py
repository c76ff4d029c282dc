"""The overviews of a report: a figure for each model that two families or more are evaluated of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from robustvit.report.overview.overview_layout import overview_figure
from robustvit.report.overview.overview_numbers import overviews
from robustvit.report.overview.overview_svg import overview_svg
from robustvit.report.suite_results import SuiteResults

_OPEN = 3  # figures of so many models are unfolded


@dataclass(frozen=True)
class ModelOverview:
    """The figure of a model. opened: whether it is unfolded; svg: safe markup."""

    model: str
    families: tuple[str, ...]
    opened: bool
    svg: Markup


def overview_figures(suites: Sequence[SuiteResults], rows: pd.DataFrame) -> list[ModelOverview]:
    """The figures of the models of a leaderboard, in the colours that they have on the page; none where there is one family alone."""
    slots: dict[str, int] = {}
    for model in (one for suite in suites for one in suite.models):
        slots.setdefault(model.label, model.slot)
    found = [one for one in overviews(rows) if len(one.families) > 1]
    return [
        ModelOverview(
            one.model, one.families, at < _OPEN, Markup(overview_svg(overview_figure(one, slot=slots.get(one.label, 0))))
        )
        for at, one in enumerate(found)
    ]  # fmt: skip
