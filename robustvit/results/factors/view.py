"""The factor view: one row for each model, what is known of how it came about, what it costs, and how robust it is.

Of a leaderboard, or of the published numbers. A score is an accuracy (`clean`, `imagenet-a`, `pgd 4/255`, `imagenet-a top1_1000way`, `background_challenge challenge_accuracy`) or an
average over a model's cells (`mce_alexnet`), in %, with the ends of its 95 % interval in `NAME_low` and `NAME_high`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from robustvit.errors import UsageError
from robustvit.results.factors.weight_names import UNKNOWN, factors, size_in
from robustvit.results.published.agreement import references, tag_of
from robustvit.results.published.files import folder
from robustvit.statistics.estimates import of_measurements
from robustvit.statistics.intervals import wilson

FACTORS = ("family", "kind", "patch", "pretraining", "fine_tuned", "recipe", "augmentation", "weight_decay", "dropout", "stochastic_depth",
           "learning_rate")  # fmt: skip
COSTS = ("macs", "parameters")
CLEAN = "clean"

_TEXTS = ("model", "tag", "base", "family", "kind", "pretraining", "fine_tuned", "recipe", "augmentation")
_COLUMNS = ("model", "tag", *FACTORS, "img_size", "parameters", "macs")
_ONE = ("model", "transforms", "base", "seed", "precision", "model_view", "storage")  # what makes one row another
_OWN = ("top1", "robust_accuracy")  # metrics that a score's name leaves out
_READINGS = ("top1_1000way", "top1_real")


def factor_view(source: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per model: factors, parameters, MACs of a picture, and its scores.

    source: a leaderboard as `leaderboard` makes it, or published numbers; default those that ship, of which the view holds the models whose
    weights timm names and whose clean top-1 is known. Intervals of published accuracies are Wilson's, of their number of pictures.
    `attrs["scores"]` maps every score to whether higher is better. Raises UsageError for a leaderboard without its models' cards.
    """
    source = references() if source is None else source
    rows = list(_of_board(source) if "cell" in source else _of_references(source))
    scores: dict[str, bool] = {}
    for row in rows:
        scores |= row.pop("scores")
    names = [*_COLUMNS, *([] if "cell" not in source else ["base"]), *(f"{name}{end}" for name in scores for end in ("", "_low", "_high"))]
    view = pd.DataFrame(rows, columns=names)
    view = view.astype({name: "str" if name in _TEXTS else "float64" for name in names})
    view.attrs["scores"] = scores
    return view


def _of_references(published: pd.DataFrame) -> Iterator[dict[str, Any]]:
    table = pd.read_csv(folder() / "models" / "costs.csv")
    costs: dict[tuple[Any, Any], dict[str, Any]] = {(row["model"], row["img_size"]): row for row in _records(table)}
    known = published[(published["base"] == "imagenet") & (published["unit"] == "%") & (published["severity"] == "")]
    for (model, size), part in known.groupby(["model", "img_size"], sort=False):
        about = factors(str(model))
        scores = {_score(row): row for row in _records(part)}
        if about["family"] == UNKNOWN or CLEAN not in scores or pd.isna(scores[CLEAN]["n"]):
            continue
        cost = costs.get((model, size), {})
        yield {
            "model": model, "tag": model, **about, "img_size": size, "parameters": cost.get("parameters"), "macs": cost.get("macs"),
            **{f"{name}{end}": value for name, row in scores.items() for end, value in _published_interval(row).items()},
            "scores": {name: not row["metric"].startswith(("mce", "mfr", "mt5d")) for name, row in scores.items()},
        }  # fmt: skip


def _published_interval(row: dict[str, Any]) -> dict[str, float]:
    """A published number, and Wilson's interval of an accuracy on its pictures."""
    if pd.isna(row["n"]) or not row["metric"].startswith("top1"):
        return {"": row["value"]}
    low, high = wilson(row["value"] / 100 * row["n"], int(row["n"]))
    return {"": row["value"], "_low": 100 * low, "_high": 100 * high}


def _of_board(board: pd.DataFrame) -> Iterator[dict[str, Any]]:
    if "models" not in board.attrs:
        raise UsageError("this leaderboard does not tell its models' cards; make it with robustvit.leaderboard(STORE).")
    rows = [row for row in _records(board[board["value"].notna()]) if _counts(row)]
    names = _names(rows)
    groups: dict[tuple[Any, ...], list[tuple[str, dict[str, Any]]]] = {}
    for row, name in zip(rows, names, strict=True):
        groups.setdefault(tuple(row[key] for key in _ONE), []).append((name, row))
    for key, told in groups.items():
        yield _of_model(board, dict(zip(_ONE, key, strict=True)), told)


def _counts(row: dict[str, Any]) -> bool:
    """Whether a row of a leaderboard is a score: an accuracy without a severity, under attack, of an analysis, or an average over all cells."""
    if row["unit"] != "%" or row["metric"] == "":
        return False
    if row["cell"] == "":
        return bool(row["scenario"] == "")
    own = row["metric"] in ("top1", *_READINGS) or of_measurements(str(row["metric"]))
    return row["metric"] == "robust_accuracy" or (row["severity"] == "" and own)


def _names(rows: list[dict[str, Any]]) -> list[str]:
    """Each row's score; with its parameters, and then its suite, where one model has several numbers of the name."""
    names = [_score(row) for row in rows]
    for more in ("params", "suite"):
        several = _ambiguous(rows, names)
        names = [f"{name} ({row[more]})" if name in several and row[more] else name for name, row in zip(names, rows, strict=True)]
    return names


def _ambiguous(rows: list[dict[str, Any]], names: Iterable[str]) -> set[str]:
    found: dict[tuple[Any, ...], set[float]] = {}
    for row, name in zip(rows, names, strict=True):
        found.setdefault((name, *(row[key] for key in _ONE)), set()).add(row["value"])
    return {str(key[0]) for key, values in found.items() if len(values) > 1}


def _score(row: dict[str, Any]) -> str:
    scenario = "" if row["scenario"] == CLEAN and row["metric"] not in _OWN else row["scenario"]
    metric = "" if row["metric"] in _OWN else row["metric"]
    return " ".join(part for part in (scenario, row["severity"], metric) if part)


def _of_model(board: pd.DataFrame, key: dict[str, Any], told: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    card = board.attrs["models"].get(key["model"], {})
    tag = tag_of(card)
    about = _about(card, tag)
    view = board.attrs["views"].get(key["model_view"], {})
    size = min(view["size"]) if view else size_in(tag)
    scores = dict(reversed(told))  # the first of equals
    name = f"{key['model']} → {key['transforms']}" if key["transforms"] else key["model"]
    random = any(row["weights"] == "random" for _, row in told)
    return {
        "model": f"{name} (random weights)" if random else name, "base": key["base"], "tag": tag, **about,
        "img_size": size, "parameters": card.get("parameters") or None, "macs": card.get("macs"),
        **{f"{name}{end}": row[end.removeprefix("_") or "value"] for name, row in scores.items() for end in ("", "_low", "_high")},
        "scores": {name: bool(row["higher_is_better"]) for name, row in told},
    }  # fmt: skip


def _about(card: Mapping[str, Any], tag: str) -> dict[str, Any]:
    """What a card tells: by its tag, by the name of its file where that is one of AugReg's, else by its architecture."""
    by_file = factors(str(card.get("source", "")))
    if tag or by_file["recipe"] != UNKNOWN:
        return factors(tag) if tag else by_file
    told = dict(part.partition("=")[::2] for part in str(card.get("identity", "")).partition("(")[2].removesuffix(")").split(", "))
    side = re.search(r"patch_size=(\d+)", told.get("kwargs", ""))
    return factors(told.get("arch", "").partition(".")[0]) | ({"patch": int(side.group(1))} if side else {})


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
