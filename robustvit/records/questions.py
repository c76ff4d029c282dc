"""The cells that the runs of a store requested, each once per suite."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter, StoreDamaged, StoreError, few, nearest, with_article
from robustvit.records.manifest import Manifest
from robustvit.records.records import Question
from robustvit.spec.written.pipeline import split_name

_COMMAND = re.compile(rb'"command":\s*("(?:[^"\\]|\\.)*")')


def requested_questions(manifests: Iterable[Manifest], suite: str | None, models: list[str] | None, path: Path) -> list[Question]:
    """Every requested cell, with the latest label of its model and the most samples ever requested.

    manifests: oldest first. suite, models: only these, None for all. path: of the store, for messages. Two sets of weights under one label
    are distinguished by the beginning of their fingerprints. Raises StoreError for a suite or model that no run requested,
    StoreDamaged where there are files of manifests and none holds one.
    """
    readable = list(manifests)
    if not readable:
        _refuse_damaged(path)
    found: dict[tuple[str, ...], Question] = {}
    for manifest in readable:
        for cell in manifest.cells:
            key = (manifest.suite.name, cell.cell, cell.scenario, cell.params)
            question = Question.of(cell, manifest)
            earlier = found.get(key, question)
            if cell.asked < earlier.asked:  # the rows here are those that the larger run requested: its command computes them
                question = replace(question, asked=earlier.asked, command=earlier.command)
            found[key] = question
    return _chosen(_with_distinct_labels(list(found.values())), suite, models, path)


def model_names(models: object) -> list[str] | None:
    """The labels of models that a caller gave, several or one; None for all. Raises BadParameter for what is neither."""
    if models is None or isinstance(models, str):
        return None if models is None else [models]
    if not isinstance(models, Iterable):
        raise BadParameter(f"models is {models!r}, {with_article(type(models).__name__)}; it takes labels of the store, such as ['demo'].")
    return list(models)


def _refuse_damaged(path: Path) -> None:
    """Raises StoreDamaged where a store, none of whose manifests can be read, has files of manifests; says how to make them again."""
    files = sorted((path / "runs").glob("*.json"))
    if not files:
        return
    usual = f"robustvit run --suite SUITE --model MODEL --store {path}"
    commands = dict.fromkeys(filter(None, map(_command_in, files)))
    cells = sum(1 for _ in (path / "cells").glob("*/cell.json"))
    raise StoreDamaged(
        f"all manifests of the store {path} are damaged ({len(files)}): {', '.join(file.name for file in files)} in {path / 'runs'}. They "
        "say which suite, models and data its cells belong to, how many samples were requested and which metrics; without them there is "
        f"no table. The rows are kept apart and stay (cells: {cells}). Restore a manifest from a copy, or run the same again, which writes "
        "it anew and computes only what is not here:\n" + "\n".join(f"  {command}" for command in commands or [usual])
    )


def _command_in(file: Path) -> str:
    """The command line that a damaged manifest names, as far as it can be read; "" where it cannot."""
    try:
        found = _COMMAND.search(file.read_bytes()) if file.is_file() else None
        command = str(json.loads(found[1])) if found else ""
    except (OSError, ValueError):
        return ""
    return _on(command, file.parents[1]) if command.startswith("robustvit ") and command.isprintable() else ""


def _on(command: str, store: Path) -> str:
    """The same command on the store where it was found, which may be a copy of the one that it was run on."""
    return re.sub(r"(?<= --store )(?:'[^']*'|\S+)", lambda _: shlex.quote(str(store)), command)


def _with_distinct_labels(questions: Sequence[Question]) -> list[Question]:
    """The questions, a model's label with the beginning of its fingerprint where several weights share the label."""
    weights: dict[str, set[str | None]] = {}
    for one in questions:
        weights.setdefault(one.model, set()).add(one.weights)
    return [one if len(weights[one.model]) == 1 else replace(one, model=f"{one.model}#{str(one.weights)[:6]}") for one in questions]


def _chosen(questions: list[Question], suite: str | None, models: list[str] | None, path: Path) -> list[Question]:
    for what, value in (("a suite", suite), *(("a model", model) for model in models or ())):
        if not isinstance(value, str | None):
            raise BadParameter(f"{what} is named by its label in the store; this is {with_article(type(value).__name__)}, {value!r}.")
    suites = {question.suite for question in questions}
    if suite is not None and suite not in suites:
        raise StoreError(f"the store {path} has no suite '{suite}'.{nearest(suite, suites)} It has {', '.join(sorted(suites)) or 'none'}.")
    labels = {question.model for question in questions}
    pipelines = {(question.model, question.transforms) for question in questions}
    chosen = {name if name in labels else split_name(name) for name in models or ()}
    for model in models or ():
        name = model if model in labels else split_name(model)
        if name not in labels | pipelines and (name[0] not in labels or name[1] is not None):
            known = sorted({*labels, *(f"{label} → {steps}" for label, steps in pipelines if steps)})
            raise StoreError(f"the store {path} has no model '{model}'.{nearest(model, known)} It has {few(known) or 'none'}.")
    return [q for q in questions if suite in (None, q.suite) and (models is None or q.model in chosen or (q.model, q.transforms) in chosen)]


def setting(question: Question) -> tuple[Any, ...]:
    """The key by which cells of two models are compared: transforms, data, scenario, severity, parameters, seed, precision, storage."""
    return (
        question.transforms, question.data, question.scenario, question.severity, question.params, question.seed, question.precision,
        question.storage,
    )  # fmt: skip
