"""The section of a model card that says how robust a model is, and the card pushed to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from robustvit.errors import MissingExtra, StoreError, UsageError, few
from robustvit.records.cells import open_store
from robustvit.records.manifest import SuiteFacts
from robustvit.records.store import Store
from robustvit.results.exports.model_index import eval_results, public_command
from robustvit.results.hub.card_text import with_results, with_section
from robustvit.results.leaderboard import build_leaderboard
from robustvit.results.parameters import distinguishing
from robustvit.results.summary import with_interval
from robustvit.results.table_formats import markdown
from robustvit.version import __version__

README = "README.md"


class HubApi(Protocol):
    """The calls of huggingface_hub.HfApi that a push makes."""

    def file_exists(self, repo_id: str, filename: str) -> bool:
        """Whether a repository has a file."""

    def hf_hub_download(self, repo_id: str, filename: str) -> str:
        """The path of a local copy of a file."""

    def upload_file(self, *, path_or_fileobj: bytes, path_in_repo: str, repo_id: str, commit_message: str) -> object:
        """Commits a file to a repository."""


def card_of(store: Store | Path | str, card: str, *, model: str | None = None, suite: str | None = None, name: str = README) -> str:
    """A card with the section and the results of one model in a store; the rest of it stays. name: of the card, for messages.

    model: its label, `LABEL+tome(r=8)` for a pipeline; None where the store has one alone. Raises UsageError where it has several, or the
    card cannot take them, StoreError for a model or suite that is not there or without a complete number, MissingExtra without
    huggingface_hub.
    """
    place = open_store(store)
    board = build_leaderboard(place, suite=suite, models=None if model is None else [model])
    rows = _of_one_model(board.rows)
    if not len(rows):
        raise StoreError(f"the store {place.path} has no complete number of {model or 'a model'} yet; `robustvit run` computes them.")
    label, shown = _label(rows.iloc[0]), headline(rows)
    if not len(shown):
        raise StoreError(
            f"the store {place.path} has no number of {label} that a card shows: clean accuracy, an average, accuracy under attack or on "
            "shifts, certified accuracy."
        )
    results = _as_entry(label, shown)
    suites = {manifest.suite.name: manifest.suite for manifest in place.manifests()}
    return with_results(with_section(card, section(label, shown, suites), name), results, name)


def headline(rows: pd.DataFrame) -> pd.DataFrame:
    """The numbers of a card: clean accuracy, averages, accuracy under attack and on shifts; not every severity of every corruption."""
    average = (rows["cell"] == "") & (rows["scenario"] == "")
    clean = (rows["scenario"] == "clean") & rows["metric"].isin(["top1", "top5"])
    attacked = rows["metric"].str.startswith(("robust_accuracy", "certified"))
    shifted = (rows["metric"] == "top1") & (rows["severity"] == "") & (rows["cell"] != "")
    return rows[average | clean | attacked | shifted]


def section(label: str, rows: pd.DataFrame, suites: Mapping[str, SuiteFacts]) -> str:
    """The section in Markdown: a table of the numbers with their intervals, what was evaluated and how to make it again."""
    model = ", ".join([f"`{label}`", *(str(rows[name].iloc[0]) for name in distinguishing(rows, ["precision", "storage"]))])
    table = pd.DataFrame({
        "suite": rows["suite"], "data": rows["data"],
        "scenario": [" ".join(part for part in pair if part) or "average" for pair in zip(rows["scenario"], rows["severity"], strict=True)],
        "metric": rows["metric"] + rows["unit"].map(lambda unit: f" in {unit}" if unit else ""),
        "value": [with_interval(*numbers) for numbers in zip(rows["value"], rows["low"], rows["high"], strict=True)],
        "n": rows["n"].astype(str), "gradients": rows["gradients"],
    })  # fmt: skip
    shown = table.drop(columns=[name for name in ("gradients",) if not (table[name] != "").any()])
    facts = [suites[name] for name in dict.fromkeys(rows["suite"]) if name in suites]
    about = [f"- {one.name}: {'. '.join(filter(None, (one.title, one.paper, one.url)))}" for one in facts]
    again = [f"- `{command}`" for command in dict.fromkeys(map(public_command, rows["repro"]))]
    lines = [
        "## Robustness", "", f"{model}, evaluated with robustvit {__version__}. Intervals are of 95 %; n is the number of images.", "",
        markdown(shown), "Suites:", "", *about, "", "Made by:", "", *again,
    ]  # fmt: skip
    return "\n".join(lines)


def push_card(store: Store | Path | str, repo: str, *, model: str | None, suite: str | None, api: HubApi | None = None) -> str:
    """Puts the section into the README.md of a repository on the hub, in one commit, and returns the repository's name.

    api: default, huggingface_hub's with the user's own token. Raises MissingExtra without huggingface_hub, UsageError where the hub cannot
    be reached or refuses, and as `card_of`.
    """
    hub = api or _own_api()
    try:
        there = Path(hub.hf_hub_download(repo, README)).read_bytes().decode() if hub.file_exists(repo, README) else ""
    except _refusals() as error:
        raise UsageError(f"the hub's {repo} cannot be read: {_first_line(error)}") from error
    text = card_of(store, there, model=model, suite=suite, name=f"{README} of {repo}")
    try:
        hub.upload_file(
            path_or_fileobj=text.encode(), path_in_repo=README, repo_id=repo, commit_message="Robustness, evaluated with robustvit"
        )
    except _refusals() as error:
        raise UsageError(f"the hub takes no card for {repo}: {_first_line(error)}") from error
    return repo


def _of_one_model(rows: pd.DataFrame) -> pd.DataFrame:
    labels = list(dict.fromkeys(_label(row) for _, row in rows[["model", "transforms"]].drop_duplicates().iterrows()))
    if len(labels) > 1:
        raise UsageError(f"a card is of one model, and the store has {few(labels)}; choose with --model.")
    return rows[(rows["status"] == "complete") & rows["value"].notna()]


def _label(row: pd.Series) -> str:
    return f"{row['model']}+{row['transforms']}" if row["transforms"] else str(row["model"])


def _as_entry(label: str, rows: pd.DataFrame) -> dict[str, Any]:
    """The one entry of a model-index."""
    results = eval_results(rows)
    from huggingface_hub import ModelCardData

    page: Any = ModelCardData(model_name=label, eval_results=results)
    (entry,) = page.to_dict()["model-index"]
    return dict(entry)


def _own_api() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtra("--push needs huggingface_hub: python3 -m pip install huggingface-hub.") from error
    return HfApi()


def _refusals() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises where a repository, a token or the network is not there.

    The network's errors are those of the HTTP library that it was built on, which its own error of a response descends from.
    """
    try:
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        return OSError, ValueError
    bases = [one for one in HfHubHTTPError.__mro__ if issubclass(one, Exception) and one is not Exception]
    return OSError, ValueError, *bases


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
