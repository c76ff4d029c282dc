"""What the scenarios of a leaderboard are, by its rows: those that are named by their module are in no registry."""

from __future__ import annotations

import pandas as pd

from robustvit.spec import registry
from robustvit.spec.plugin import SCENARIOS
from robustvit.statistics.estimates import of_measurements, of_votes

_CLEAN = "clean"


def scenario_kinds(rows: pd.DataFrame) -> dict[str, str]:
    """The kind of each scenario of a leaderboard: corruption, attack, certificate or analysis; the clean images have none.

    It is that of the registry, and of any other name (`package.module:function`, what an adapter makes) what its rows tell: an attack has
    robust accuracies or a verdict on gradients, a certificate votes or radii, an analysis measurements, and whatever else has severities
    or an error over them is a corruption. What none of these tell of is not there.
    """
    known = {name: kind for kind in SCENARIOS for name in registry.entries(kind)}
    found = {}
    for scenario, part in rows[~rows["scenario"].isin(("", _CLEAN))].groupby("scenario", sort=False):
        kind = known.get(str(scenario)) or _told(part)
        if kind:
            found[str(scenario)] = kind
    return found


def _told(part: pd.DataFrame) -> str:
    """The kind of a scenario from its rows, "" where they tell of none."""
    cells, averages = part[part["cell"] != ""], part[part["cell"] == ""]
    metrics = list(dict.fromkeys(cells["metric"]))
    if any(metric.startswith("robust_accuracy") for metric in metrics) or (cells["gradients"] != "").any():
        return "attack"
    if any(map(of_votes, metrics)):
        return "certificate"
    if any(map(of_measurements, metrics)):
        return "analysis"
    entries = registry.entries("metric")
    over = {entries[name].over for name in averages["metric"] if name in entries}
    return "corruption" if "corruption" in over or (cells["severity"] != "").any() else ""
