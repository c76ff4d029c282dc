"""What `boards.yaml` says: which models with which suites, on how many samples, in which store, and where their boards are written."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from robustvit.spec.suite import MODELS
from robustvit.spec.suite_file import load_suite, suite_files

HERE = Path(__file__).resolve().parent
PLAN = HERE / "boards.yaml"
ZOO = HERE.parent / "robustvit" / "models" / "weights" / "zoo.json"


@dataclass(frozen=True)
class BoardRun:
    """One suite on models. data: an address. limit: samples of a cell, None for all. surrogates: in place of the suite's own.

    together: attacks are crafted on the models of the run, so that all are one run.
    """

    suite: str
    models: tuple[str, ...]
    data: str
    limit: int | None
    surrogates: tuple[str, ...] = ()
    together: bool = False

    def commands(self) -> list[tuple[tuple[str, ...], str]]:
        """The models of each run, and its command line: a run for each model, or one for all."""
        tail = f" --suite {self.suite} --data {_quoted(self.data)}" + "".join(f" --surrogate {_quoted(one)}" for one in self.surrogates)
        tail += f" --limit {self.limit}" if self.limit is not None else ""
        parts = [self.models] if self.together else [(model,) for model in self.models]
        return [(part, "robustvit run" + "".join(f" --model {_quoted(one)}" for one in part) + tail) for part in parts]


@dataclass(frozen=True)
class BoardPlan:
    """One store and its boards. page: the one report of all its suites, "" where each suite has its own.

    entries: the folder of what others submitted for these boards, None where they take nothing.
    """

    name: str
    store: Path
    folder: Path
    data: str
    page: str
    entries: Path | None
    runs: tuple[BoardRun, ...]

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites, in their order."""
        return tuple(dict.fromkeys(run.suite for run in self.runs))


def read_plan(path: Path = PLAN, zoo: Path = ZOO) -> dict[str, BoardPlan]:
    """The boards of a plan by name. zoo: the table of the models that ship; those that a board does not name are its `others`."""
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    shipped = list(json.loads(zoo.read_text(encoding="utf-8"))) if zoo.is_file() else []
    return {name: _board(name, row, path.parent, shipped) for name, row in written["boards"].items()}


def _board(name: str, row: Mapping[str, Any], home: Path, shipped: list[str]) -> BoardPlan:
    models = tuple(row["models"])
    others = tuple(one for one in shipped if one not in models)
    chosen = [(suite, facts or {}, tuple((facts or {}).get("models", models))) for suite, facts in row["suites"].items()]
    chosen += [(suite, row["suites"][suite] or {}, others) for suite in row.get("others", ()) if others]
    runs = tuple(_run(suite, {"data": row["data"], "limit": row.get("limit")} | facts, those) for suite, facts, those in chosen)
    entries = home / row["entries"] if "entries" in row else None
    return BoardPlan(name, home / row["store"], home / row["folder"], row["data"], row.get("page", ""), entries, runs)


def _run(suite: str, facts: Mapping[str, Any], models: tuple[str, ...]) -> BoardRun:
    together = MODELS in load_suite(suite).surrogates
    return BoardRun(suite, models, facts["data"], facts["limit"], tuple(facts.get("surrogates", ())), together)


def not_run(path: Path = PLAN) -> dict[str, str]:
    """The suites that no board has, each with the reason: those of fixed data, which are not here, and those that a plan names.

    The reason is "" where a suite can run on any data and the plan says nothing about it.
    """
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    placed = {suite for row in written["boards"].values() for suite in row["suites"]}
    named = dict(written["not_here"])
    fixed = {name: "is about its own data" for name in suite_files() if load_suite(name).fixed_data}
    return {name: named.get(name, fixed.get(name, "")) for name in suite_files() if name not in placed}


def chosen_suites(boards: Sequence[BoardPlan], only: Sequence[str]) -> list[tuple[BoardPlan, list[str]]]:
    """The boards that patterns of BOARD/SUITE choose, each with its suites; no patterns choose all boards, with no suites.

    Raises SystemExit for a pattern that fits none.
    """
    known = [(board, suite, f"{board.name}/{suite}") for board in boards for suite in board.suites]
    for pattern in only:
        if not fnmatch.filter([name for *_, name in known], pattern):
            raise SystemExit(f"--only {pattern} fits no suite of boards.yaml; there are {', '.join(name for *_, name in known)}.")
    if not only:
        return [(board, []) for board in boards]
    fit = [(board, suite) for board, suite, name in known if any(fnmatch.fnmatch(name, one) for one in only)]
    return [(board, [suite for other, suite in fit if other is board]) for board in boards if any(other is board for other, _ in fit)]


def _quoted(model: str) -> str:
    return f"'{model}'" if set(model) & set("()=, ?") else model
