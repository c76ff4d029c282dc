"""Records on disk: a directory in which every file is named by its content, so that stores merge by copying.

    store.json                          {"schema": 2}
    cells/<cell id>/cell.json           the canonical cell
    cells/<cell id>/<shard>-<start>-<stop>.parquet   rows [start, stop) of a shard of 512, in evaluation order
    cells/<cell id>/<shard>-<start>-<stop>.safetensors   images that an attack left of these rows, where they are kept
    samples/<fingerprint>/<shard>-<stop>.parquet   the digests of the images that the rows were computed on (sample_digests.py)
    learned/<artifact id>-<digest>.safetensors   what scenarios fitted on other samples: named by what it depends on, and by its bytes
    cells/<cell id>/gallery.parquet     a few samples as the model saw them
    cells/<cell id>/failure.json        why it could not be computed; gone once it is
    runs/<id>.json                      a manifest: which cells of which models a suite requested, and how many samples
    environments/<id>.json              versions, hardware and switches; named in the metadata of the files made there
    leases/                             locks of shards being computed; the operating system releases those of a dead process

A file appears whole or not at all: it is written beside its place, synced, and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from robustvit.errors import StoreDamaged, StoreError, StoreTooNew
from robustvit.records.disk import on_disk, read_json, write_bytes, write_json
from robustvit.records.images import ImageFile, encoded
from robustvit.records.manifest import Manifest
from robustvit.records.questions import requested_questions
from robustvit.records.records import SCHEMA_VERSION, Question, Records, RecordsFile, cover
from robustvit.spec.cell import artifact_id
from robustvit.spec.spec import digest

_PIECE = re.compile(r"(\d{6})-(\d{3})-(\d{3})\.parquet")
_META = b"robustvit"


class Store:
    """A directory of Records. Opening one for reading needs it to exist; `create=True` makes it.

    Raises StoreError where there is none or an older robustvit wrote it, StoreTooNew where a newer one did.
    """

    def __init__(self, path: Path | str, *, create: bool = False) -> None:
        self.path = Path(path)
        marker = self.path / "store.json"
        if not marker.is_file():
            if not create:
                raise StoreError(f"there is no store at {self.path}. `robustvit run … --store {self.path}` makes one.")
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise StoreError(f"{self.path} exists and is not a store of robustvit; give an empty or a new place with --store.")
            write_json(marker, {"schema": SCHEMA_VERSION})
        schema = read_json(marker).get("schema")
        if not isinstance(schema, int):
            raise StoreDamaged(f'{marker} does not name its schema; restore the line {{"schema": {SCHEMA_VERSION}}} if the store is yours.')
        if schema > SCHEMA_VERSION:
            raise StoreTooNew(f"the store {self.path} has schema {schema}; this robustvit reads {SCHEMA_VERSION}. Upgrade robustvit.")
        if schema < SCHEMA_VERSION:
            raise StoreError(
                f"the store {self.path} has schema {schema}; this robustvit reads {SCHEMA_VERSION}. Its rows are worth keeping: delete "
                f'{self.path / "runs"}, write {{"schema": {SCHEMA_VERSION}}} into {marker} and run the same commands again; nothing is '
                "computed anew."
            )

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether there is a store, of whatever version, at a path."""
        return (path / "store.json").exists()

    # cells and their files

    def cells(self) -> list[str]:
        """The ids of the cells that have anything here."""
        folder = self.path / "cells"
        return sorted(item.name for item in folder.iterdir() if item.is_dir()) if folder.is_dir() else []

    def knows(self, cell: str) -> bool:
        """Whether the cell behind an id is described here."""
        return self._cell_file(cell).is_file()

    def describe(self, cell: str) -> dict[str, Any]:
        """The canonical cell behind an id."""
        return read_json(self._cell_file(cell))

    def declare(self, cell: str, description: dict[str, Any]) -> None:
        """Keeps the canonical cell behind an id."""
        if not self.knows(cell):
            write_json(self._cell_file(cell), description)

    def _cell_file(self, cell: str) -> Path:
        return self.path / "cells" / cell / "cell.json"

    def files(self, cell: str) -> list[RecordsFile]:
        """The files of a cell, whole or not, by name."""
        folder = self.path / "cells" / cell
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            if match := _PIECE.fullmatch(name):
                shard, start, stop = (int(part) for part in match.groups())
                found.append(RecordsFile(folder / name, cell, shard, start, stop))
        return found

    def reached(self, cell: str, shard: int) -> int:
        """How many rows of a shard are here, counted from its start."""
        return max((file.stop for file in cover(self.files(cell)) if file.shard == shard), default=0)

    def write(self, cell: str, shard: int, start: int, rows: pa.Table, about: dict[str, Any]) -> None:
        """Adds rows [start, start + len) of a shard. about: seconds, environment and whatever else is recorded beside the rows."""
        stop = start + rows.num_rows
        meta = {"schema": SCHEMA_VERSION, "cell": cell, "shard": shard, "start": start, "stop": stop, **about}
        sink = io.BytesIO()
        pq.write_table(
            rows.replace_schema_metadata({_META: json.dumps(meta, sort_keys=True)}), sink, compression="zstd", write_page_checksum=True
        )
        write_bytes(self.path / "cells" / cell / f"{shard:06d}-{start:03d}-{stop:03d}.parquet", sink.getbuffer())

    def about(self, file: RecordsFile) -> dict[str, Any]:
        """What was recorded beside the rows of a file: seconds, environment, version. Raises StoreDamaged where the file is not whole."""
        try:
            return dict(json.loads((pq.read_schema(file.path).metadata or {}).get(_META, b"{}")))
        except (pa.ArrowException, OSError, ValueError) as error:
            file.read([])
            raise StoreDamaged(f"{file.path} has no readable metadata; delete it and run the suite again.") from error

    def keep_images(self, cell: str, shard: int, start: int, arrays: dict[str, np.ndarray], stop: int, about: dict[str, str]) -> str:
        """Keeps images of rows [start, stop) of a shard, and a few words beside them; returns the sha256 of the file."""
        content = encoded(arrays, about)
        write_bytes(self.path / "cells" / cell / f"{shard:06d}-{start:03d}-{stop:03d}.safetensors", content)
        return hashlib.sha256(content).hexdigest()

    def images(self, file: RecordsFile) -> ImageFile:
        """The images beside the rows of a file.

        Raises StoreError where none are kept, StoreDamaged where the file is not the one that was written.
        """
        path, checksum = file.path.with_suffix(".safetensors"), self.about(file).get("images")
        if checksum is None or not path.is_file():
            raise StoreError(f"{file.path} has no images beside it. Run with --keep adversarial and a new --store.")
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != checksum:
                raise StoreDamaged(f"{path} is not what was written there. Restore it from a copy, or attack again with a new --store.")
        return ImageFile(path)

    def set_aside(self, cell: str) -> list[Path]:
        """Renames the damaged files of a cell so that they are computed anew; returns their new names."""
        moved = []
        for file in self.files(cell):
            try:
                file.read([])
            except StoreDamaged:
                target = file.path.with_suffix(".damaged")
                os.replace(file.path, target)
                moved.append(target)
        return moved

    def fail(self, cell: str, reason: str) -> None:
        """Keeps why a cell could not be computed."""
        write_json(self.path / "cells" / cell / "failure.json", {"reason": reason})

    def succeed(self, cell: str) -> None:
        """Forgets an earlier failure."""
        (self.path / "cells" / cell / "failure.json").unlink(missing_ok=True)

    def failure(self, cell: str) -> str | None:
        """Why the last attempt at a cell failed, or None."""
        path = self.path / "cells" / cell / "failure.json"
        return str(read_json(path).get("reason")) if path.is_file() else None

    def write_gallery(self, cell: str, images: pa.Table) -> None:
        """Keeps a few samples as the model saw them: sample, label, pred, image (encoded bytes)."""
        sink = io.BytesIO()
        pq.write_table(images, sink)
        write_bytes(self.path / "cells" / cell / "gallery.parquet", sink.getbuffer())

    def gallery(self, cell: str) -> pd.DataFrame:
        """The gallery images of a cell: sample, label, pred, image (PNG or JPEG bytes). Empty where there are none."""
        path = self.path / "cells" / cell / "gallery.parquet"
        if not path.is_file():
            return pd.DataFrame({"sample": [], "label": [], "pred": [], "image": []})
        try:
            images: pd.DataFrame = pq.read_table(path).to_pandas()
        except (pa.ArrowException, OSError) as error:
            raise StoreDamaged(
                f"{path} is not whole ({error}). Delete it; the images return when their first shard is computed."
            ) from error
        return images

    # artifacts: what scenarios fitted on other samples

    def artifact(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of an artifact, or None. A file that is not whole is set aside, so that it is fitted anew."""
        for path in sorted((self.path / "learned").glob(f"{name}-*.safetensors")):
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest()[:20] == path.stem.partition("-")[2]:
                return safetensors.numpy.load(content)
            os.replace(path, path.with_suffix(".damaged"))
        return None

    def artifact_of(self, cell: str) -> dict[str, np.ndarray]:
        """What the scenario of a cell fitted on other samples, arrays by name. Raises StoreError where that is not here."""
        found = self.artifact(artifact_id(self.describe(cell)))
        if found is None:
            raise StoreError(f"the store {self.path} keeps no artifact that cell {cell} was fitted with.")
        return found

    def keep_artifact(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keeps the arrays of an artifact."""
        content = safetensors.numpy.save(arrays)
        write_bytes(self.path / "learned" / f"{name}-{hashlib.sha256(content).hexdigest()[:20]}.safetensors", content)

    # manifests and environments

    def write_manifest(self, manifest: Manifest) -> None:
        """Keeps what a run requested, under its id."""
        write_json(self.path / "runs" / f"{manifest.id}.json", manifest.as_json())

    def manifests(self) -> list[Manifest]:
        """What the runs requested, oldest first. Raises StoreDamaged for a file that holds no manifest."""
        folder = self.path / "runs"
        found = [_manifest(path) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []
        return sorted(found, key=lambda manifest: (manifest.started, manifest.id))

    def write_environment(self, environment: dict[str, Any]) -> str:
        """Keeps a description of a machine and its switches; returns its id."""
        name = digest(environment)
        path = self.path / "environments" / f"{name}.json"
        if not path.is_file():
            write_json(path, environment)
        return name

    def environment(self, name: str) -> dict[str, Any]:
        """What `write_environment` kept, {} where it is not here."""
        path = self.path / "environments" / f"{name}.json"
        return read_json(path) if path.is_file() else {}

    def questions(self, suite: str | None = None, models: Iterable[str] | None = None) -> list[Question]:
        """Every cell that the runs requested, once per suite, with the latest label of its model and the most samples ever requested.

        Two sets of weights under one label are distinguished by the beginning of their fingerprints. Raises StoreError for a suite or model
        that no run requested.
        """
        return requested_questions(self.manifests(), suite, None if models is None else list(models), self.path)

    def records(self, suite: str | None = None, models: Iterable[str] | None = None) -> Records:
        """The rows of the cells that `questions` names, read when needed."""
        return Records([(question, self.files(question.cell)) for question in self.questions(suite, models)])

    @contextlib.contextmanager
    def lease(self, cell: str, shard: int) -> Iterator[bool]:
        """Whether this process may compute a shard now; False while another one does. A lease ends with its process, however it ends."""
        path = self.path / "leases" / f"{cell}-{shard:06d}.lock"
        with on_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
            lock.release()


def _manifest(path: Path) -> Manifest:
    try:
        return Manifest.of_json(read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(
            f"{path} is no manifest of a run ({error}). Restore it from a copy, or delete it and run the suite again."
        ) from error


def load_records(store: Path | str, *, suite: str | None = None, models: Iterable[str] | None = None) -> Records:
    """The Records in a store, filtered by suite and models (labels), and read only when needed.

    Raises StoreError where there is no store, or none of that suite or model in it.
    """
    return Store(store).records(suite, models)
