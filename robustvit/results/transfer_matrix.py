"""Transfer as a matrix: of images that were crafted on each source, how many fool each target, sample by sample from the Records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustvit.errors import StoreError
from robustvit.records.cells import CellRows, StoredCell, open_store, rows_of, stored_cells
from robustvit.records.questions import model_names
from robustvit.records.records import Question
from robustvit.records.store import Store
from robustvit.results.comparison import ALPHA, mcnemar
from robustvit.results.parameters import parsed_parameters
from robustvit.spec.cell import crafting_id
from robustvit.spec.spec import digest
from robustvit.statistics.correctness import DRAWN, correct_share
from robustvit.statistics.intervals import accelerated, holm, paired, settled, wilson
from robustvit.statistics.resamples import Resampler

_COLUMNS = ("label", "pred", "attacked", *DRAWN)
OF_MATRIX = ("suite", "data", "scenario", "severity", "params", "stored_as", "seed", "precision")
_SHARES = ("success_all", "success_both")
_NUMBERS = [
    "right_at", "n_all", *(f"{name}{end}" for name in _SHARES[:1] for end in ("", "_low", "_high")),
    "n_both", *(f"{name}{end}" for name in _SHARES[1:] for end in ("", "_low", "_high")),
    "ratio", "ratio_low", "ratio_high", "difference", "difference_low", "difference_high", "p", "p_holm", "verdict",
]  # fmt: skip
COLUMNS = [*OF_MATRIX, "source", "target", *_NUMBERS, "status", "reason", "cell", "crafting"]


def transfer_matrix(store: Store | Path | str, *, suite: str | None = None, models: Iterable[str] | None = None) -> pd.DataFrame:
    """One row for each attack, source and target: how often images that were crafted on the source fool the target.

    success_all: the share, in %, of all n_all samples that the target misclassifies on the crafted images; clean errors count as successes.
    success_both: the share of the n_both samples that are right when clean at the source and at the target. Wilson's intervals. Of a source
    whose outputs are other classes nothing is right or wrong, and the target alone decides: right_at is `target` then, else `both`. ratio:
    success_both over that of the source on its own images, T[i,j]/T[i,i], with the BCa bootstrap interval over samples. difference:
    success_both minus the success at the source on the same samples, in points, with Bonett and Price's paired interval; p: McNemar's exact
    test of it; p_holm: corrected by Holm over the matrix; verdict: `transfers less`, `transfers more`, `no difference shown`, or "" on the
    diagonal. Of a model with randomness of its own the shares are over its draws, and the test is of the draw that the scenario met. Raises
    StoreError where no run crafted images on surrogates.
    """
    opened, resampler = open_store(store), Resampler()
    cells = {one.question.cell: one for one in stored_cells(opened, suite)}
    chosen = model_names(models)
    wanted = None if chosen is None else {one.question.cell for one in stored_cells(opened, suite, chosen)}
    judged = [one for one in cells.values() if one.question.surrogate and opened.knows(one.question.cell)]
    if not judged:
        raise StoreError(
            f"{opened.path} has no images that were crafted on surrogates. Run a suite with `surrogates`, such as transfer-zoo."
        )
    described = {one.question.cell: opened.describe(one.question.cell) for one in judged}
    crafted = {name: crafting_id(question) for name, question in described.items()}
    sources = {name: _Source(rows_of(opened, cells[name].question, _COLUMNS)) for name in set(crafted.values()) if name in cells}
    elsewhere = {one.question.cell for one in judged if one.question.view != one.question.model_view}
    rows = [
        _row(one, crafted[one.question.cell], sources, rows_of(opened, one.question, _COLUMNS), resampler)
        | {
            "source": _source_label(one.question, cells.get(crafted[one.question.cell])),
            "models": _identities(described[one.question.cell]),
        }
        for one in judged
        if (wanted is None or one.question.cell in wanted) and "shown" not in described[one.question.cell]["view"]
    ]
    own_view_first = sorted(rows, key=lambda row: row["cell"] in elsewhere)
    table = pd.DataFrame(own_view_first, columns=[*COLUMNS, "models"]).drop_duplicates([*OF_MATRIX, "source", "target", "models"])
    return _corrected(table[COLUMNS].reset_index(drop=True))


def _source_label(question: Question, crafting: StoredCell | None) -> str:
    """The source's label as that of a target is written, with what tells models of one label apart."""
    return question.surrogate if crafting is None else target_label(crafting.question)


def _identities(described: Mapping[str, Any]) -> str:
    """What tells the two models of an entry from others, whatever they are called."""
    made, keys = described["surrogate"], ("model", "weights", "transforms")
    return digest([made.get(key) for key in keys] + [described.get(key) for key in keys])


class _Source:
    """The rows of a cell that crafted images, by sample. right, fooled: of each sample; None where its outputs are other classes."""

    def __init__(self, found: CellRows) -> None:
        self.found = found
        reads = "pred" in found.rows
        self.right = found.rows.set_index("sample")["attacked"].astype(bool) if reads else None
        self.fooled = pd.Series(_fooled(found.rows), index=found.rows["sample"]) if reads else None
        self.samples = pd.Index(found.rows["sample"])


@dataclass(frozen=True)
class _Joined:
    """Samples that both cells have: what the target does with each crafted image, and the source; NaN where nothing is right or wrong."""

    samples: list[str]
    target: np.ndarray
    source: np.ndarray
    both: np.ndarray
    source_right: np.ndarray


def _row(one: StoredCell, crafting: str, sources: Mapping[str, _Source], found: CellRows, resampler: Resampler) -> dict[str, Any]:
    question = one.question
    given = parsed_parameters(question.params)
    about = {name: getattr(question, name) for name in OF_MATRIX if hasattr(question, name)}
    about["params"] = ", ".join(f"{key}={value}" for key, value in given.items() if key not in ("surrogate", "stored_as"))
    row = {
        **about, "stored_as": given.get("stored_as", ""), "source": question.surrogate, "target": target_label(question),
        "status": found.status, "reason": found.reason, "cell": question.cell, "crafting": crafting,
    }  # fmt: skip
    source = sources.get(crafting)
    if source is None or "pred" not in found.rows or not len(found.rows):
        return row
    joined = _join(source, found.rows)
    if source.found.status != "complete":
        row |= {"status": source.found.status, "reason": f"crafting: {source.found.reason}"}
    row["right_at"] = "target" if source.right is None else "both"
    return row | _numbers(joined, resampler, diagonal=crafting == question.cell)


def target_label(question: Question) -> str:
    """The label of a cell's model with its transforms, as addresses write it."""
    return str(question.model) + "".join(f"+{step}" for step in question.transforms.split(" → ") if step)


def _fooled(rows: pd.DataFrame) -> np.ndarray:
    return 1.0 - correct_share(rows)


def _join(source: _Source, rows: pd.DataFrame) -> _Joined:
    kept = rows[rows["sample"].isin(source.samples)]
    samples, right = kept["sample"].tolist(), np.asarray(kept["attacked"].astype(bool))
    nothing = np.full(len(kept), np.nan)
    own = nothing if source.fooled is None else source.fooled.loc[samples].to_numpy()
    source_right = np.ones(len(kept), bool) if source.right is None else source.right.loc[samples].to_numpy()
    return _Joined(samples, _fooled(kept), own, right & source_right, source_right)


def _numbers(joined: _Joined, resampler: Resampler, *, diagonal: bool) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for name, values in (("all", joined.target), ("both", joined.target[joined.both])):
        numbers |= {f"n_{name}": len(values), **_share(f"success_{name}", values)}
    if diagonal or np.isnan(joined.source).any() or not joined.both.any():
        return numbers
    numbers |= _ratio(joined, resampler)
    a, b = (values[joined.both] > 0.5 for values in (joined.target, joined.source))
    only_a, only_b, n = int((a & ~b).sum()), int((b & ~a).sum()), int(joined.both.sum())
    low, high = paired(only_a, only_b, n)
    difference = {"difference": (only_a - only_b) / n, "difference_low": low, "difference_high": high}
    return numbers | {key: 100 * value for key, value in difference.items()} | {"p": mcnemar(only_a, only_b)}


def _share(name: str, values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    low, high = wilson(float(values.sum()), len(values))
    return {name: 100 * float(values.mean()), f"{name}_low": 100 * low, f"{name}_high": 100 * high}


def _ratio(joined: _Joined, resampler: Resampler) -> dict[str, float]:
    """T[i,j] / T[i,i] and its interval: each over its own samples, those right on both sides and those right at the source."""
    resamples = resampler(joined.samples)
    order = resamples.order
    target, source, both, right = (
        np.asarray(part, np.float64)[order] for part in (joined.target, joined.source, joined.both, joined.source_right)
    )

    def of(weights: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = (weights @ (target * both) / (weights @ both)) / (weights @ (source * right) / (weights @ right))
        return np.where(np.isfinite(found), found, np.nan)

    value = float(of(np.ones((1, len(target))))[0])
    if np.isnan(value):
        return {}
    low, high = settled(accelerated(value, of(resamples.weights.astype(np.float64)), len(target)))
    return {"ratio": value, "ratio_low": low, "ratio_high": high}


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The table with p_holm over each matrix, and verdicts."""
    table["verdict"] = ""
    tested = table[table["p"].notna()]
    for _, part in tested.groupby(list(OF_MATRIX), sort=False):
        corrected = holm(part["p"].astype(float).to_list())
        more = np.where(part["difference"].to_numpy(float) > 0, "transfers more", "transfers less")
        table.loc[part.index, "p_holm"] = corrected
        table.loc[part.index, "verdict"] = np.where(corrected < ALPHA, more, "no difference shown")
    counts = dict.fromkeys(("n_all", "n_both"), "Int64")
    floats = {name: "float64" for name in _NUMBERS if name not in (*counts, "verdict", "right_at")}
    return table.astype(counts | floats | {"seed": "int64"})
