"""The family of each row of a leaderboard: corruption, shift, attack, patch, geometry, transfer, certified, compressed.

It follows from what plug-ins declare, and from no name of a suite: from the kind of a scenario, from its family (`spatial` attacks and
`geometry` corruptions are geometry, `patches` are patch), from the budget of an attack (`side of the patch`), from the model that its
images were crafted on, from the data set that is none of its base, and from the families of a model's transforms.
"""

from __future__ import annotations

import pandas as pd

from robustvit.results.parameters import crafted_elsewhere
from robustvit.results.scenario_kinds import scenario_kinds
from robustvit.spec import registry

FAMILIES = ("corruption", "shift", "attack", "patch", "geometry", "transfer", "certified", "compressed")

_OF_KINDS = {"corruption": "corruption", "attack": "attack", "certificate": "certified"}
_OF_DECLARED = {
    "geometry": "geometry", "spatial": "geometry", "shift": "geometry", "patch": "patch", "patches": "patch", "surrogate": "transfer",
    "backgrounds": "shift",
}  # fmt: skip
"""By the families that corruptions, attacks and analyses declare; other families are those of their kind."""
_COMPRESSING = frozenset({"quantisation", "pruning", "token-reduction", "low-rank", "weight-sharing", "sparse-attention"})


def row_families(rows: pd.DataFrame) -> pd.Series:
    """The family of each row, "" for clean images and for what is of no family (lesions, out-of-distribution scores).

    Of an average it is that of the cells that it is over, where these are of one, else `corruption`, of a worst case `attack`. Rows of a
    model with a compressing transform are `compressed`, and those with other transforms of no family.
    """
    kinds = scenario_kinds(rows)
    keys = rows[["scenario", "params"]].assign(other=rows["data"] != rows["base"])
    named = {
        (scenario, params, other): _family(str(scenario), str(params), bool(other), kinds)
        for scenario, params, other in keys.drop_duplicates().itertuples(index=False, name=None)
    }
    found = pd.Series([named[key] for key in keys.itertuples(index=False, name=None)], index=rows.index, dtype=object)
    averages = rows["cell"] == ""
    found[averages] = ""
    for _, part in rows.groupby(["suite", "base", "model", "transforms", "seed", "precision", "storage"], sort=False):
        of = found[part.index]
        graded = _graded(part, of)
        for index, metric, scenario in part.loc[averages[part.index], ["metric", "scenario"]].itertuples(name=None):
            found[index] = _of_average(str(metric), str(scenario), part["metric"], of, graded)
    transformed = rows["transforms"] != ""
    pipelines = {text: "compressed" if compresses(text) else "" for text in rows.loc[transformed, "transforms"].unique()}
    return found.where(~transformed, rows["transforms"].map(pipelines))


def compresses(transforms: str) -> bool:
    """Whether one of the transforms that a leaderboard writes as `quantize(bits=8) → tome(r=8)` declares that it compresses."""
    known = registry.entries("transform")
    names = [step.partition("(")[0] for step in transforms.split(" → ")]
    return any(name in known and known[name].family in _COMPRESSING for name in names)


def _family(scenario: str, params: str, other: bool, kinds: dict[str, str]) -> str:
    kind = kinds.get(scenario, "")
    if not kind:
        return "shift" if other and scenario else ""
    if kind == "certificate":
        return _OF_KINDS[kind]
    if kind == "attack" and crafted_elsewhere(params):
        return "transfer"
    entry = registry.entries(kind).get(scenario)
    if kind == "attack" and entry is not None and "patch" in entry.budget:
        return "patch"
    return _OF_DECLARED.get(entry.family if entry is not None else "", _OF_KINDS.get(kind, ""))


def _graded(part: pd.DataFrame, families: pd.Series) -> dict[str, set[str]]:
    """The families of the cells that corruption errors are over, by scenario; those of all of them under ""."""
    attacked = part.loc[part["metric"] == "robust_accuracy", "cell"]
    counted = (part["cell"] != "") & families.isin(("corruption", "patch", "geometry")) & ~part["cell"].isin(attacked)
    own = families[counted & ~part["metric"].str.startswith("robust_accuracy")]
    found: dict[str, set[str]] = {"": set(own)}
    for scenario, family in zip(part.loc[own.index, "scenario"], own, strict=True):
        found.setdefault(str(scenario), set()).add(family)
    return found


def _of_average(metric: str, scenario: str, metrics: pd.Series, families: pd.Series, graded: dict[str, set[str]]) -> str:
    entry = registry.entries("metric").get(metric.partition("(")[0])
    if entry is None:
        return ""
    if entry.over == "attacks":
        own = set(families[metrics == entry.of])
        return next(iter(own)) if len(own) == 1 else "attack"
    own = graded.get(scenario, set())
    return next(iter(own)) if len(own) == 1 else "corruption" if own else ""
