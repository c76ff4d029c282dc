"""The result of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from robustvit.spec.written.facts_table import facts_table


@dataclass
class Summary:
    """The result of a run.

    computed: rows made by this call; failed: reasons by cell id; repaired: damaged files, set aside, whose rows were made again;
    repaired_digests: damaged tables of the digests of images, set aside, for whose samples nothing was compared; incomplete: which data has
    fewer images than the whole set, or more, and which is not here at all; skipped: which is not here at all; left_out: which data leaves
    out files or folders among its images; seconds: wall clock; complete: cells that have all their rows; stopped: whether the time budget
    was spent before the work was done; taken_over: cells whose rows an earlier version computed, of which a tile was computed anew and
    found equal; model_notes: what a reader of the numbers must know of a model, by label; undefined: why cells have no value whatever is
    computed, by model and transforms or by the cell's name; ids: of the cells that were requested; rank: of the process that torchrun
        started, of which the first tells what there is to tell.
    """

    store: Path
    suite: str
    cells: int
    rows: int
    computed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    repaired: list[Path] = field(default_factory=list)
    repaired_digests: list[Path] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0
    complete: int = 0
    stopped: bool = False
    taken_over: int = 0
    model_notes: dict[str, list[str]] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    rank: int = 0

    def __str__(self) -> str:
        """What was done, in words: cells, rows, seconds, what stopped or failed, and where the rows are."""
        done = (
            f"{self.complete:,} of {self.cells:,} cells complete, {self.computed:,} of {self.rows:,} rows computed in {self.seconds:.1f} s"
        )
        failed = f"{len(self.failed):,} failed: {next(iter(self.failed.values()))}" if self.failed else ""
        parts = (done, "stopped when the budget was spent" if self.stopped else "", failed, f"store {self.store}")
        return f"{self.suite}: {'; '.join(filter(None, parts))}"

    def _repr_html_(self) -> str:
        """A table for notebooks; `rv.leaderboard(summary.store)` has the numbers."""
        told = {
            name: "; ".join(f"{key}: {why}" for key, why in getattr(self, name).items()) for name in ("failed", "undefined", "model_notes")
        }
        return facts_table(f"{self.suite} · {self.store}", {
            "cells": f"{self.complete} of {self.cells} complete", "rows": f"{self.computed:,} computed, {self.rows:,} in all",
            "seconds": f"{self.seconds:.1f}", "stopped": "when the budget was spent" if self.stopped else "", **told,
            "data": "; ".join((*self.incomplete, *self.left_out)),
        })  # fmt: skip
