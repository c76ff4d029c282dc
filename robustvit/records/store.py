"""Records on disk: a directory in which every file is named by its content, so that stores merge by copying.

    store.json                          {"schema": 2}
    cells/<cell id>/cell.json           the canonical cell, whose digest is the id
    cells/<cell id>/<shard>-<start>-<stop>-<digest>.parquet   rows [start, stop) of a shard of 512, in evaluation order
    cells/<cell id>/<shard>-<start>-<stop>-<digest>.safetensors   images that an attack left of these rows, where they are kept
    samples/<fingerprint>/<shard>-<stop>.parquet   the digests of the images that the rows were computed on (sample_digests.py)
    learned/<artifact id>-<digest>.safetensors   what scenarios fitted on other samples: named by what it depends on, and by its bytes
    cells/<cell id>/gallery-<digest>.parquet   a few samples as the model saw them
    cells/<cell id>/failure.json        why it could not be computed; gone once it is
    runs/<id>.json                      a manifest: which cells of which models a suite requested, and how many samples
    environments/<id>.json              versions, hardware and switches; named in the metadata of the files made there
    verified.json                       which large files were read whole, at which size and time; may be deleted
    leases/                             locks of shards being computed; the operating system releases those of a dead process

A file appears whole or not at all: it is written beside its place, synced, and renamed. <digest> is of the file's bytes, other JSON has its
checksum inside; files of earlier versions have none. Nothing is written through a link inside the store, which itself may be one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import safetensors.numpy

from robustvit.errors import StoreDamaged, StoreError
from robustvit.records.disk import below, content_digest, json_bytes, read_json, remove, set_aside, write_bytes, write_json
from robustvit.records.images import ImageFile, decoded_gallery, encoded, encoded_gallery, is_whole_gallery, kept_images
from robustvit.records.leases import leased
from robustvit.records.manifest import Manifest
from robustvit.records.manifest_files import read_manifests
from robustvit.records.marker import open_marker
from robustvit.records.questions import model_names, requested_questions
from robustvit.records.records import SCHEMA_VERSION, Question, Records, cover
from robustvit.records.records_file import RecordsFile, encode_rows, file_name, is_large
from robustvit.records.verified_files import VerifiedFiles
from robustvit.spec.cell import artifact_id
from robustvit.spec.given import check_path
from robustvit.spec.spec import digest

log = logging.getLogger(__name__)


class Store:
    """A directory of Records. Opening one for reading needs it to exist; `create=True` makes it.

    Raises StoreError where there is none or an older robustvit wrote it, StoreTooNew where a newer one did.
    """

    def __init__(self, path: Path | str, *, create: bool = False) -> None:
        self.path = check_path(path, "--store")
        open_marker(self.path, create=create)
        self.verified = VerifiedFiles(self.path)
        self._reported: set[str] = set()

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether there is a store, of whatever version, at a path."""
        return (check_path(path, "--store") / "store.json").exists()

    # cells and their files

    def cells(self) -> list[str]:
        """The ids of the cells that have anything here."""
        folder = self.path / "cells"
        return sorted(item.name for item in folder.iterdir() if item.is_dir()) if folder.is_dir() else []

    def knows(self, cell: str) -> bool:
        """Whether the cell behind an id is described here."""
        return self._cell_file(cell).is_file()

    def describe(self, cell: str) -> dict[str, Any]:
        """The canonical cell behind an id. Raises StoreDamaged where the file does not hold the cell of that id."""
        described = read_json(self._cell_file(cell))
        if digest(described) != cell:
            raise StoreDamaged(f"{self._cell_file(cell)} is not the cell of its id. Run the same suite again: it writes the file anew.")
        return described

    def declare(self, cell: str, description: dict[str, Any]) -> list[Path]:
        """Keeps the canonical cell behind an id; returns the file where it was damaged and has been written anew."""
        damaged = self.damaged_description(cell)
        if damaged or not self.knows(cell):
            write_bytes(below(self.path, "cells", cell, "cell.json"), json_bytes(description))
        return damaged

    def damaged_description(self, cell: str) -> list[Path]:
        """The file that describes a cell, where it is damaged; `declare` writes it anew."""
        with contextlib.suppress(StoreDamaged):
            if not self.knows(cell) or self.describe(cell):
                return []
        return [self._cell_file(cell)]

    def _cell_file(self, cell: str) -> Path:
        return self.path / "cells" / cell / "cell.json"

    def files(self, cell: str) -> list[RecordsFile]:
        """The files of a cell, whole or not, by name."""
        return [file for path in self._inside(cell) if (file := RecordsFile.at(path, cell, self.verified))]

    def _inside(self, cell: str) -> list[Path]:
        folder = self.path / "cells" / cell
        with contextlib.suppress(FileNotFoundError):
            return [folder / name for name in sorted(os.listdir(folder))]
        return []

    def reached(self, cell: str, shard: int) -> int:
        """How many rows of a shard are here, counted from its start."""
        return max((file.stop for file in cover(self.files(cell)) if file.shard == shard), default=0)

    def write(self, cell: str, shard: int, start: int, rows: pa.Table, about: dict[str, Any]) -> None:
        """Adds rows [start, start + len) of a shard. about: seconds, environment and whatever else is recorded beside the rows."""
        stop = start + rows.num_rows
        content = encode_rows(rows, {"schema": SCHEMA_VERSION, "cell": cell, "shard": shard, "start": start, "stop": stop, **about})
        path = below(self.path, "cells", cell, file_name(shard, start, stop, content_digest(content)))
        write_bytes(path, content)
        if is_large(path):
            self.verified.remember(path)

    def about(self, file: RecordsFile) -> dict[str, Any]:
        """What was recorded beside the rows of a file: seconds, environment, version. Raises StoreDamaged where the file is not whole."""
        return file.about()

    def keep_images(self, cell: str, shard: int, start: int, arrays: dict[str, np.ndarray], stop: int, about: dict[str, str]) -> str:
        """Keeps images of rows [start, stop) of a shard, and a few words beside them; returns the sha256 of the file."""
        content = encoded(arrays, about)
        path = below(self.path, "cells", cell, file_name(shard, start, stop, content_digest(content), "safetensors"))
        write_bytes(path, content)
        return hashlib.sha256(content).hexdigest()

    def images(self, file: RecordsFile) -> ImageFile:
        """The images beside the rows of a file.

        Raises StoreError where none are kept, StoreDamaged where the file is not the one that was written.
        """
        return kept_images(file)

    def damaged(self, cell: str, *, images: bool = False) -> list[Path]:
        """The damaged files of a cell, those that a run sets aside; reads all that `verified` does not know.

        images: also rows whose images were kept and are now gone or damaged. A damaged gallery takes the first rows with it.
        """
        galleries = self._galleries(cell)
        lost = [] if any(map(is_whole_gallery, galleries)) else galleries
        return lost + [file.path for file in self.files(cell) if (lost and file.shard == file.start == 0) or not self._whole(file, images)]

    def set_aside(self, cell: str, *, images: bool = False) -> list[Path]:
        """Renames the `damaged` files of a cell so that they are computed anew; returns their new names."""
        return [set_aside(below(self.path, "cells", cell, path.name)) for path in self.damaged(cell, images=images)]

    def _whole(self, file: RecordsFile, images: bool) -> bool:
        with contextlib.suppress(StoreError):
            file.check()
            if images and "images" in file.about():
                self.images(file)
            return True
        return False

    def fail(self, cell: str, reason: str) -> None:
        """Keeps why a cell could not be computed."""
        write_json(below(self.path, "cells", cell, "failure.json"), {"reason": reason})

    def succeed(self, cell: str) -> None:
        """Forgets an earlier failure."""
        remove(below(self.path, "cells", cell, "failure.json"))

    def failure(self, cell: str) -> str | None:
        """Why the last attempt at a cell failed, or None. Where the file is damaged, that."""
        path = self.path / "cells" / cell / "failure.json"
        try:
            return str(read_json(path).get("reason")) if path.is_file() else None
        except StoreDamaged as error:
            return str(error)

    def write_gallery(self, cell: str, images: pa.Table) -> None:
        """Keeps a few samples as the model saw them: sample, label, pred, image (encoded bytes)."""
        content = encoded_gallery(images)
        write_bytes(below(self.path, "cells", cell, f"gallery-{content_digest(content)}.parquet"), content)

    def gallery(self, cell: str) -> pd.DataFrame:
        """The gallery images of a cell: sample, label, pred, image (PNG or JPEG bytes). Empty where there are none.

        Raises StoreDamaged where none of its files is whole.
        """
        damage = None
        for path in self._galleries(cell):
            try:
                return decoded_gallery(path)
            except StoreDamaged as error:
                damage = error
        if damage is not None:
            raise damage
        return pd.DataFrame({"sample": [], "label": [], "pred": [], "image": []})

    def _galleries(self, cell: str) -> list[Path]:
        return [path for path in self._inside(cell) if path.name.startswith("gallery") and path.suffix == ".parquet"]

    # artifacts: what scenarios fitted on other samples

    def artifact(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of an artifact, or None. A file that is not whole is set aside, so that it is fitted anew."""
        for path in sorted((self.path / "learned").glob(f"{name}-*.safetensors")):
            content = path.read_bytes() if path.is_file() else b""
            if content_digest(content) == path.stem.partition("-")[2]:
                return safetensors.numpy.load(content)
            set_aside(below(self.path, "learned", path.name))
        return None

    def lacks_artifact(self, name: str) -> bool:
        """Whether the artifact of that name was damaged, so that it has to be fitted anew though all rows may be there."""
        return self.artifact(name) is None and any((self.path / "learned").glob(f"{name}-*.damaged"))

    def artifact_of(self, cell: str) -> dict[str, np.ndarray]:
        """What the scenario of a cell fitted on other samples, arrays by name. Raises StoreError where that is not here."""
        found = self.artifact(artifact_id(self.describe(cell)))
        if found is None:
            raise StoreError(f"the store {self.path} keeps no artifact that cell {cell} was fitted with.")
        return found

    def keep_artifact(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keeps the arrays of an artifact."""
        content = safetensors.numpy.save(arrays)
        write_bytes(below(self.path, "learned", f"{name}-{content_digest(content)}.safetensors"), content)

    # manifests and environments

    def write_manifest(self, manifest: Manifest) -> None:
        """Keeps what a run requested, under its id."""
        write_json(below(self.path, "runs", f"{manifest.id}.json"), manifest.as_json())

    def manifests(self) -> list[Manifest]:
        """What the runs requested, oldest first. Files that hold no manifest are reported, in one line, and left out."""
        found, damage = read_manifests(self.path / "runs")
        if damage is not None:
            self.report_damage(damage)
        return found

    def write_environment(self, environment: dict[str, Any]) -> str:
        """Keeps a description of a machine and its switches; returns its id."""
        name = digest(environment)
        if not (self.path / "environments" / f"{name}.json").is_file():
            write_json(below(self.path, "environments", f"{name}.json"), environment)
        return name

    def environment(self, name: str) -> dict[str, Any]:
        """What `write_environment` kept, {} where it is not here, or damaged, which is reported."""
        path = self.path / "environments" / f"{name}.json"
        try:
            return read_json(path) if path.is_file() else {}
        except StoreDamaged as error:
            self.report_damage(error)
            return {}

    def report_damage(self, damage: StoreDamaged) -> None:
        """Logs, once, what is damaged and left out."""
        if str(damage) not in self._reported:
            self._reported.add(str(damage))
            log.error("%s", damage)

    def questions(self, suite: str | None = None, models: Iterable[str] | None = None) -> list[Question]:
        """Every cell that the runs requested, once per suite, with the latest label of its model and the most samples ever requested.

        Two sets of weights under one label are distinguished by the beginning of their fingerprints. Raises StoreError for a suite or model
        that no run requested.
        """
        return requested_questions(self.manifests(), suite, model_names(models), self.path)

    def records(self, suite: str | None = None, models: Iterable[str] | None = None) -> Records:
        """The rows of the cells that `questions` names, read when needed."""
        return Records([(question, self.files(question.cell)) for question in self.questions(suite, models)])

    @contextlib.contextmanager
    def lease(self, cell: str, shard: int) -> Iterator[bool]:
        """Whether this process may compute a shard now; False while another one does. A lease ends with its process, however it ends."""
        with leased(below(self.path, "leases", f"{cell}-{shard:06d}.lock")) as mine:
            yield mine


def load_records(store: Path | str, *, suite: str | None = None, models: Iterable[str] | None = None) -> Records:
    """The Records in a store, filtered by suite and models (labels), and read only when needed.

    Raises StoreError where there is no store, or none of that suite or model in it.
    """
    return Store(store).records(suite, models)
