"""Images that attacks left, read back from the store where they were kept, to be judged again on any model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from robustvit.errors import BadParameter, DataMissing, StoreDamaged, StoreError, few, nearest
from robustvit.primitives.adversarial_images import ImagePairs
from robustvit.records.records import Piece, Question, cover, rows
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.spec import Spec, called, revive
from robustvit.spec.suite import Part, Suite
from robustvit.spec.suite_file import bind_data, load_suite
from robustvit.spec.view import Overrides, View

_PREFIX = "kept:"
_METRICS = ("top1", "robust_accuracy", "attack_success")


def load_kept(address: str) -> KeptImages:
    """The images that an attack left, by `STORE#CELL`, a cell that was run with --keep adversarial; of a chain, those of all its links up to that.

    `load_kept(…).images(ids)` gives (n, 3, H, W) float32 as they were left, and the clean ones, uint8. Raises StoreError or BadParameter where there
    is no such cell or it kept none.
    """
    return KeptImages.open(address)


class _Place(NamedTuple):
    file: Path
    row: int


@dataclass(frozen=True, eq=False)
class KeptImages:
    """The images that one attack cell left. label: what people call it; cell: its id; attack: what was done, with its budget."""

    store: Store
    label: str
    cell: str
    attack: Spec

    @classmethod
    def open(cls, address: str) -> KeptImages:
        """`STORE#CELL`, the cell by the beginning of its id. Raises StoreError or UsageError where there is none, or it kept no images."""
        path, mark, name = address.rpartition("#")
        store = Store(Path(path if mark else address))
        known = {question.cell: question for question in kept_questions(store)}
        found = [cell for cell in known if mark and cell.startswith(name)]
        if len(found) != 1:
            raise BadParameter(
                f"'{address}' names no cell that kept its images; write STORE#CELL with one of {', '.join(known) or 'none'}."
            )
        return cls.of(store, known[found[0]])

    @classmethod
    def of(cls, store: Store, question: Question) -> KeptImages:
        """Of a question that a run asked."""
        attack = revive(store.describe(question.cell)["scenario"])
        return cls(store, f"{question.scenario} on {question.model}#{question.cell[:6]}", question.cell, attack)

    @property
    def ids(self) -> tuple[str, ...]:
        """The samples that it has images of."""
        return tuple(self._places)

    @property
    def identity(self) -> Spec:
        """What names it in a Cell: the attack's cell, its budget, and the bytes of the images."""
        return Spec("kept").with_params(cell=self.cell, attack=self.attack, fingerprint=self._fingerprint)

    def images(self, ids: Sequence[str]) -> ImagePairs:
        """The images of some samples. Raises DataMissing where none are kept of one of them, StoreDamaged where a file is not what was written."""
        missing = [name for name in ids if name not in self._places]
        if missing:
            raise DataMissing(
                f"{self.store.path} keeps no image of {len(missing)} of {len(ids)} samples that '{self.label}' left: {few(missing)}."
            )
        found: dict[str, Any] = {}
        for path in dict.fromkeys(self._places[name].file for name in ids):
            with safetensors.safe_open(path, framework="np") as file:
                adversarial, clean = file.get_slice("adversarial"), file.get_slice("clean")
                for name in (name for name in ids if self._places[name].file == path):
                    row = self._places[name].row
                    found[name] = adversarial[row : row + 1], clean[row : row + 1]
        return ImagePairs(*(np.concatenate([found[name][part] for name in ids]) for part in (0, 1)))

    @cached_property
    def _places(self) -> dict[str, _Place]:
        return _places(self.store, self.cell)

    @cached_property
    def _fingerprint(self) -> str:
        told = [str(self.store.about(piece).get("images", "")) for piece in cover(self.store.pieces(self.cell))]
        return hashlib.sha256("".join(told).encode()).hexdigest()[:20]


def _places(store: Store, cell: str) -> dict[str, _Place]:
    """Where the image of each sample is: in the cell itself, or in that of an earlier link of its chain."""
    found: dict[str, _Place] = {}
    for piece in cover(store.pieces(cell)):
        path = _whole(store, piece)
        with safetensors.safe_open(path, framework="np") as file:
            earlier, kept = json.loads(file.metadata()["about"])["earlier"], file.get_tensor("rows")
        names = piece.read(["sample"])["sample"].to_pylist()
        if earlier and len(kept) < len(names):
            before = _places(store, earlier)
            found |= {name: before[name] for name in names if name in before}
        found |= {names[row]: _Place(path, place) for place, row in enumerate(kept.tolist())}
    return found


def _whole(store: Store, piece: Piece) -> Path:
    """The file of images beside a piece. Raises StoreError where there is none, StoreDamaged where it is not the one that was written."""
    path, told = piece.path.with_suffix(".safetensors"), store.about(piece).get("images")
    if told is None or not path.is_file():
        raise StoreError(f"{piece.path} has no images beside it. Run with --keep adversarial and a new --store.")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != told:
            raise StoreDamaged(f"{path} is not what was written there. Restore it from a copy, or attack again with a new --store.")
    return path


def kept_questions(store: Store) -> list[Question]:
    """The attack cells of a store whose images are kept; of a chain, its last link that has rows. Each cell once."""
    found: dict[tuple[str, ...], Question] = {}
    for question in sorted(store.questions(), key=lambda one: one.link):
        pieces = store.pieces(question.cell) if question.kind == "attack" else []
        if pieces and all("images" in store.about(piece) for piece in pieces):
            key = (
                (question.cell,)
                if not question.links
                else (question.suite, question.model, question.data, question.params, question.severity)
            )
            found[key] = question
    return list({question.cell: question for question in found.values()}.values())


def named_suite(name: str | Path) -> Suite:
    """A suite by name or file, or `kept:STORE`, which judges the images kept in a store again; `kept:STORE?model=NAME` only one model's.

    Raises as load_suite does; StoreError where the store keeps no images; BadParameter where those named were not all made through one view.
    """
    text = str(name)
    if not text.startswith(_PREFIX):
        return load_suite(name)
    asked = called(text.removeprefix(_PREFIX), "--suite")
    store = Store(Path(asked.name))
    questions = _chosen(kept_questions(store), dict(asked.params), store)
    views = {question.view: question for question in questions}
    if len(views) > 1:
        raise BadParameter(
            f"the images in {store.path} were made through {len(views)} views: {'; '.join(f'{one.model} {view}' for view, one in views.items())}. "
            f"Name one: {_PREFIX}{store.path}?model={questions[0].model}."
        )
    return _suite(store, questions)


def _chosen(questions: list[Question], asked: dict[str, Any], store: Store) -> list[Question]:
    fields = ("model", "suite", "scenario", "severity", "cell")
    for key, value in asked.items():
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
    entry, clean = registry.scenario("replay"), registry.scenario("clean")
    parts: dict[str, list[Spec]] = {}
    for question in questions:
        spec = Spec("replay").with_params(of=f"{store.path}#{question.cell}")
        parts.setdefault(question.data, [registry.bind(clean, Spec("clean"))]).append(registry.bind(entry, spec))
    first = store.describe(questions[0].cell)["view"]
    view = View(tuple(first["size"]), first["resize"], first["crop"], first["interpolation"])
    return Suite(
        name="kept-" + re.sub(r"[^a-z0-9._-]", "-", store.path.resolve().name.lower()), title=f"Images that attacks left in {store.path.name}, judged again", version=1,
        parts=tuple(Part(_data(data), tuple(scenarios)) for data, scenarios in parts.items()),
        metrics=tuple(registry.bind(registry.lookup("metric", name), Spec(name)) for name in _METRICS),
        view=Overrides(whole=view), limit=min(min(one.asked, rows(store.pieces(one.cell))) for one in questions),
        rules="The images are float32, exactly as the attacks left them. A model meets those of the samples that it gets right itself; of samples that the attacked "
        "model got wrong there is nothing but the clean image. attack_success is the rate of transfer.",
    )  # fmt: skip


def _data(name: str) -> tuple[Spec, ...]:
    """The data of that name; what has no name of its own (a folder) is given with --data."""
    return tuple(bind_data(name)) if name in registry.entries("data") else (Spec(name),)
