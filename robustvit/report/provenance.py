"""Provenance of the numbers: the suites, data, models, runs and machines that they come from, as the store records them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from robustvit.records.manifest import Manifest
from robustvit.records.store import Store

_SUITE = ("paper", "licence", "rules")
_DATA = ("source", "n", "expected", "left_out", "classes", "licence", "rules", "fingerprint")
_MODEL = ("weights_kind", "identity", "tag", "source", "licence", "parameters", "macs", "fingerprint", "notes")
_COSTS = ("weight_bytes", "moved_bytes", "peak_bytes", "latency", "gradient", "reason")
_TITLES = {
    "weight_bytes": "bytes of weights", "moved_bytes": "bytes moved per image", "peak_bytes": "bytes of activations at once",
    "latency": "seconds per image",
    "gradient": "input gradients", "reason": "operations",
    "n": "images", "expected": "images in the full set", "left_out": "left out", "weights_kind": "weights", "cpu": "CPU", "gpu": "GPU",
    "cuda": "CUDA", "tf32": "TF32", "cudnn_deterministic": "deterministic cuDNN", "cudnn_benchmark": "cuDNN autotuning",
}  # fmt: skip


@dataclass(frozen=True)
class FactSheet:
    """A titled list of facts, an address for further reading (http or https only, "" for none), and a citation."""

    title: str
    subtitle: str
    facts: tuple[tuple[str, str], ...]
    url: str
    citation: str


@dataclass(frozen=True)
class RunFacts:
    """The command that reproduces a run, and facts about the run."""

    suite: str
    command: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Provenance:
    """Fact sheets of everything that the numbers depend on."""

    suites: tuple[FactSheet, ...]
    data: tuple[FactSheet, ...]
    models: tuple[FactSheet, ...]
    machines: tuple[FactSheet, ...]
    runs: tuple[RunFacts, ...]


def provenance(store: Store, board: pd.DataFrame) -> Provenance:
    """Collects what a leaderboard's numbers depend on from the manifests and environments of its store."""
    runs = manifests(store, board)
    suites = {run.suite.name: asdict(run.suite) for run in runs}
    data = {facts.label: asdict(facts) for run in runs for facts in run.data.values()}
    labels = {str(model).rpartition("#")[0] or str(model) for model in board["model"]} | set(map(str, board["model"]))
    models = {label: asdict(card) for run in runs for label, card in run.models.items() if label in labels}
    return Provenance(
        tuple(_fact_sheet(name, str(facts.get("title", "")), facts, _SUITE) for name, facts in suites.items()),
        tuple(_fact_sheet(name, "", facts, _DATA) for name, facts in data.items()),
        tuple(sheet for name, facts in models.items() for sheet in _model_sheets(name, facts)),
        tuple(_machine(name, store.environment(name)) for name in environments(runs, board)),
        tuple(_run(run) for run in runs),
    )


def manifests(store: Store, board: pd.DataFrame) -> list[Manifest]:
    """The manifests of runs whose suites are on a leaderboard, oldest first."""
    suites = set(board["suite"])
    return [manifest for manifest in store.manifests() if manifest.suite.name in suites]


def environments(runs: Iterable[Manifest], board: pd.DataFrame) -> list[str]:
    """The distinct ids of the environments that the numbers were computed in."""
    of_rows = [name for text in board["environment"].unique() for name in str(text).split(", ")]
    of_runs = [run.environment for run in runs]
    return [name for name in dict.fromkeys(of_rows or of_runs) if name]


def environment_facts(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts of an environment by their titles: each package's version, the hardware, the switches, the revision."""
    for topic, value in environment.items():
        inner = value.items() if isinstance(value, Mapping) else [(topic, value)]
        yield from ((_TITLES.get(str(key), str(key)), _text(one)) for key, one in inner if one not in (None, ""))


def web_link(url: object) -> str:
    """The address where it is a web page's, "" otherwise: a store may come from an untrusted source."""
    text = str(url or "")
    return text if text.startswith(("https://", "http://")) else ""


def _fact_sheet(title: str, subtitle: str, facts: Mapping[str, Any], keys: Sequence[str]) -> FactSheet:
    shown = tuple((_TITLES.get(key, key), _text(facts[key])) for key in keys if facts.get(key) not in (None, "", []))
    return FactSheet(title, subtitle, shown, web_link(facts.get("url")), str(facts.get("citation") or "").strip())


def _model_sheets(name: str, facts: Mapping[str, Any]) -> Iterator[FactSheet]:
    """The model's own, and one of the costs of each of its pipelines of transforms."""
    yield _fact_sheet(name, "", {**facts, **facts["pipelines"].get("", {}), "gradient": ""}, (*_MODEL, *_COSTS))
    for text, costs in facts["pipelines"].items():
        if text:
            yield _fact_sheet(f"{name} → {text}", "", costs, ("macs", "parameters", *_COSTS))


def _machine(name: str, environment: Mapping[str, Any]) -> FactSheet:
    facts = environment_facts({topic: _text(value) if topic == "versions" else value for topic, value in environment.items()})
    return FactSheet(name, "", tuple(facts), "", "")


def _run(run: Manifest) -> RunFacts:
    facts: list[tuple[str, Any]] = [
        ("models", ", ".join(run.models)),
        ("data", ", ".join(dict.fromkeys(one.label for one in run.data.values()))),
        ("samples per cell", ", ".join(dict.fromkeys(_text(one.asked) for one in run.data.values()))),
    ]
    facts += [("started", run.started), ("finished", run.finished), ("environment", run.environment)]
    return RunFacts(run.suite.name, run.command, tuple((key, _text(value)) for key, value in facts if value not in (None, "")))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    return str(value).strip()
