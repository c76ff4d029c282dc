"""The suite `kept:STORE`: the images that attacks left in a store, evaluated again on any model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter, StoreError, nearest
from robustvit.evaluation.images.kept_images import kept_questions
from robustvit.records.records import Question, rows
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.code_names import code_names, refuse_code, refusing_code
from robustvit.spec.spec import Spec
from robustvit.spec.suite import Part, Suite
from robustvit.spec.suite_file import bind_data, is_suite_file, load_suite, name_in_file
from robustvit.spec.view import Overrides, View
from robustvit.spec.written.call import called

_PREFIX = "kept:"
_STORE = "A store names data that its own run loaded; give yours with --data."
_METRICS = ("top1", "robust_accuracy", "attack_success")


def named_suite(name: str | Path, *, allow_code: bool = False) -> Suite:
    """A suite by name or file, or `kept:STORE`, which evaluates the images kept in a store again; `kept:STORE?model=NAME` only one model's.

    Raises as load_suite does; StoreError where the store keeps no images; BadParameter where those named were not all made through one
    view.
    """
    text = str(name)
    if not text.startswith(_PREFIX):
        return load_suite(name, allow_code=allow_code)
    address = called(text.removeprefix(_PREFIX), "--suite")
    store = Store(Path(address.name))
    questions = _chosen(kept_questions(store), dict(address.params), store)
    views = {question.view: question for question in questions}
    if len(views) > 1:
        raise BadParameter(
            f"the images in {store.path} were made through {len(views)} views: "
            f"{'; '.join(f'{one.model} {view}' for view, one in views.items())}. "
            f"Name one: {_PREFIX}{store.path}?model={questions[0].model}."
        )
    return _suite(store, questions)


def stored_name(name: str) -> str:
    """The name under which a store keeps the results of a suite given by name or file, or as `kept:STORE`; no code is imported.

    Raises SuiteError for a file that is not there or names no suite.
    """
    if name.startswith(_PREFIX):
        return _kept_name(Path(called(name.removeprefix(_PREFIX), "--suite").name))
    return name_in_file(Path(name)) if is_suite_file(name) else name


def _kept_name(store: Path) -> str:
    return "kept-" + re.sub(r"[^a-z0-9._-]", "-", store.resolve().name.lower())


def _chosen(questions: list[Question], wanted: dict[str, Any], store: Store) -> list[Question]:
    fields = ("model", "suite", "scenario", "severity", "cell")
    for key, value in wanted.items():
        if key not in fields:
            raise BadParameter(f"{_PREFIX}STORE has no '{key}' to choose by.{nearest(key, fields)} It takes {', '.join(fields)}.")
        known = sorted({getattr(one, key) for one in questions})
        questions = [one for one in questions if getattr(one, key) == str(value)]
        if not questions:
            raise BadParameter(
                f"{store.path} keeps no images whose {key} is '{value}'.{nearest(str(value), known)} It has {', '.join(known) or 'none'}."
            )
    if not questions:
        raise StoreError(f"{store.path} keeps no images that attacks left. Run a suite of attacks with --keep adversarial.")
    return questions


def _suite(store: Store, questions: Sequence[Question]) -> Suite:
    entry, clean = registry.scenario_entry("replay"), registry.scenario_entry("clean")
    parts: dict[str, list[Spec]] = {}
    for question in questions:
        spec = Spec("replay").with_params(of=f"{store.path}#{question.cell}")
        parts.setdefault(question.data, [bind(clean, Spec("clean"))]).append(bind(entry, spec))
    first = store.describe(questions[0].cell)["view"]
    view = View(tuple(first["size"]), first["resize"], first["crop"], first["interpolation"])
    return Suite(
        name=_kept_name(store.path),
        title=f"Images that attacks left in {store.path.name}, evaluated again", version=1,
        parts=tuple(Part(_data(data), tuple(scenarios)) for data, scenarios in parts.items()),
        metrics=tuple(bind(registry.lookup("metric", name), Spec(name)) for name in _METRICS),
        view=Overrides(whole=view), limit=min(min(one.asked, rows(store.files(one.cell))) for one in questions),
        rules="The images are float32, exactly as the attacks left them. A model is evaluated on those of the samples that it "
        "classifies rightly itself; of samples that the attacked model misclassified there is nothing but the clean image. "
        "attack_success is the rate of transfer.",
    )  # fmt: skip


def _data(name: str) -> tuple[Spec, ...]:
    """The data of that name; what has no name of its own (a folder) is given with --data. Raises CodeRefused for a name of code."""
    with refusing_code(_STORE):
        for code in code_names(Spec(name)):
            refuse_code(code)
    return tuple(bind_data(name)) if name in registry.entries("data") else (Spec(name),)
