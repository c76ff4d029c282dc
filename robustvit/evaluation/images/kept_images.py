"""Images that attacks left, read back from the store where they were kept, to be evaluated again on any model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robustvit.errors import BadParameter, DataMissing, few, with_article
from robustvit.primitives.adversarial_images import ImagePairs
from robustvit.records.images import ImageFile
from robustvit.records.records import Question, cover
from robustvit.records.store import Store
from robustvit.spec.spec import Spec, revive


def load_kept(address: str) -> KeptImages:
    """The images that an attack left, by `STORE#CELL`, the beginning of the id of a cell that was run with --keep adversarial.

    Of a chain of attacks, those of all its links up to that cell. `load_kept(…).images(ids)` gives (n, 3, H, W) float32 as they were left,
    and the clean ones, uint8. Raises StoreError or BadParameter where there is no such cell or it kept none.
    """
    if not isinstance(address, str):
        raise BadParameter(f"kept images are named by text, STORE#CELL; this is {with_article(type(address).__name__)}.")
    path, mark, name = address.rpartition("#")
    store = Store(Path(path if mark else address))
    known = {question.cell: question for question in kept_questions(store)}
    found = [cell for cell in known if mark and cell.startswith(name)]
    if len(found) != 1:
        raise BadParameter(f"'{address}' names no cell that kept its images; write STORE#CELL with one of {', '.join(known) or 'none'}.")
    return KeptImages.of(store, known[found[0]])


class _Place(NamedTuple):
    file: ImageFile
    place: int


@dataclass(frozen=True, eq=False)
class KeptImages:
    """The images that one attack cell left. label: its name in tables; cell: its id; attack: the bound Spec, with its budget."""

    store: Store
    label: str
    cell: str
    attack: Spec

    @classmethod
    def of(cls, store: Store, question: Question) -> KeptImages:
        """Those of a cell that a run requested."""
        attack = revive(store.describe(question.cell)["scenario"])
        return cls(store, f"{question.scenario} on {question.model}#{question.cell[:6]}", question.cell, attack)

    @property
    def ids(self) -> tuple[str, ...]:
        """The samples that it has images of."""
        return tuple(self._places)

    @property
    def identity(self) -> Spec:
        """Its identity in a Cell: the attack's cell, its budget, and the bytes of the images."""
        return Spec("kept").with_params(cell=self.cell, attack=self.attack, fingerprint=self._fingerprint)

    def images(self, ids: Sequence[str]) -> ImagePairs:
        """The images of some samples.

        Raises DataMissing where none are kept of one of them, StoreDamaged where a file is not what was written.
        """
        missing = [name for name in ids if name not in self._places]
        if missing:
            raise DataMissing(
                f"{self.store.path} keeps no image of {len(missing)} of {len(ids)} samples that '{self.label}' left: {few(missing)}."
            )
        order: list[int] = []
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for file in dict.fromkeys(self._places[name].file for name in ids):
            rows = [row for row, name in enumerate(ids) if self._places[name].file == file]
            parts.append(file.read([self._places[ids[row]].place for row in rows]))
            order += rows
        back = np.argsort(order)
        return ImagePairs(*(np.concatenate([part[which] for part in parts])[back] for which in (0, 1)))

    @cached_property
    def _places(self) -> dict[str, _Place]:
        return _places(self.store, self.cell)

    @cached_property
    def _fingerprint(self) -> str:
        checksums = [str(file.about().get("images", "")) for file in cover(self.store.files(self.cell))]
        return hashlib.sha256("".join(checksums).encode()).hexdigest()[:20]


def _places(store: Store, cell: str) -> dict[str, _Place]:
    """Where the image of each sample is: in the cell itself, or in that of an earlier link of its chain."""
    found: dict[str, _Place] = {}
    for file in cover(store.files(cell)):
        images, names = store.images(file), file.read(["sample"])["sample"].to_pylist()
        kept = images.rows()
        if len(kept) < len(names) and images.earlier:
            before = _places(store, images.earlier)
            found |= {name: before[name] for name in names if name in before}
        found |= {names[row]: _Place(images, place) for place, row in enumerate(kept)}
    return found


def kept_questions(store: Store) -> list[Question]:
    """The attack cells of a store whose images are kept; of a chain, its last link that has rows. Each cell once."""
    found: dict[tuple[str, ...], Question] = {}
    for question in sorted(store.questions(), key=lambda one: one.link):
        files = store.files(question.cell) if question.kind == "attack" else []
        if files and all("images" in file.about() for file in files):
            chain = (question.suite, question.model, question.data, question.params, question.severity)
            found[chain if question.links else (question.cell,)] = question
    return list({question.cell: question for question in found.values()}.values())
