"""Under which conditions the numbers were made: suites, data, models, runs and machines, as the store tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from robustvit.records.manifest import Manifest
from robustvit.records.store import Store

_SUITE = ("paper", "licence", "rules")
_DATA = ("source", "n", "expected", "classes", "licence", "rules", "fingerprint")
_MODEL = ("weights_kind", "identity", "tag", "source", "licence", "parameters", "macs", "fingerprint", "notes")
_SAID = {"n": "images", "expected": "images of the whole set", "weights_kind": "weights", "cpu": "CPU", "gpu": "GPU", "cuda": "CUDA", "tf32": "TF32", "cudnn_deterministic": "deterministic cuDNN", "cudnn_benchmark": "cuDNN autotuning"}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """A titled list of facts, an address to read more at (http or https only), and a citation."""

    title: str
    subtitle: str
    facts: tuple[tuple[str, str], ...]
    url: str
    citation: str


@dataclass(frozen=True)
class Run:
    """What a run asked and the command that asks it again."""

    suite: str
    command: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Conditions:
    """Everything told beside the numbers."""

    suites: tuple[Card, ...]
    data: tuple[Card, ...]
    models: tuple[Card, ...]
    machines: tuple[Card, ...]
    runs: tuple[Run, ...]


def conditions(store: Store, board: pd.DataFrame) -> Conditions:
    """The conditions of the numbers on a board."""
    told = manifests(store, board)
    suites = {manifest.suite.name: asdict(manifest.suite) for manifest in told}
    data = {one.label: asdict(one) for manifest in told for one in manifest.data.values()}
    shown = {str(model).rpartition("#")[0] or str(model) for model in board["model"]} | set(map(str, board["model"]))
    models = {label: asdict(card) for manifest in told for label, card in manifest.models.items() if label in shown}
    return Conditions(
        tuple(_card(name, str(one.get("title", "")), one, _SUITE) for name, one in suites.items()),
        tuple(_card(name, "", one, _DATA) for name, one in data.items()),
        tuple(_card(name, "", one, _MODEL) for name, one in models.items()),
        tuple(_machine(name, store.environment(name)) for name in environments(told, board)),
        tuple(_run(manifest) for manifest in told),
    )


def manifests(store: Store, board: pd.DataFrame) -> list[Manifest]:
    """What was asked by the runs whose suites are on a board, oldest first."""
    suites = set(board["suite"])
    return [manifest for manifest in store.manifests() if manifest.suite.name in suites]


def environments(told: Iterable[Manifest], board: pd.DataFrame) -> list[str]:
    """The ids of the environments that numbers were made in, each once."""
    of_rows = [name for text in board["environment"].unique() for name in str(text).split(", ")]
    of_runs = [manifest.environment for manifest in told]
    return [name for name in dict.fromkeys(of_rows or of_runs) if name]


def link(url: object) -> str:
    """The address itself where it leads to a web page, "" otherwise: a store may come from anybody."""
    text = str(url or "")
    return text if text.startswith(("https://", "http://")) else ""


def _card(title: str, subtitle: str, about: Mapping[str, Any], keys: Sequence[str]) -> Card:
    facts = tuple((_SAID.get(key, key), _told(about[key])) for key in keys if about.get(key) not in (None, "", []))
    return Card(title, subtitle, facts, link(about.get("url")), str(about.get("citation") or "").strip())


def _machine(name: str, environment: Mapping[str, Any]) -> Card:
    facts = []
    for topic, value in environment.items():
        inner = value.items() if isinstance(value, Mapping) and topic != "versions" else [(topic, value)]
        facts += [(_SAID.get(str(key), str(key)), _told(one)) for key, one in inner if one not in (None, "")]
    return Card(name, "", tuple(facts), "", "")


def _run(manifest: Manifest) -> Run:
    facts: list[tuple[str, Any]] = [
        ("models", ", ".join(manifest.models)),
        ("data", ", ".join(dict.fromkeys(one.label for one in manifest.data.values()))),
        ("samples of each cell", ", ".join(dict.fromkeys(_told(one.asked) for one in manifest.data.values()))),
    ]
    facts += [("started", manifest.started), ("finished", manifest.finished), ("environment", manifest.environment)]
    return Run(manifest.suite.name, manifest.command, tuple((k, _told(v)) for k, v in facts if v not in (None, "")))


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items())
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    return str(value).strip()
