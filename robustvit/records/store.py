"""Records on disk: a directory in which every file is named by its content, so that stores merge by copying.

    store.json                          {"schema": 2}, and 3 once a cell is compacted
    cells/<cell id>/cell.json           the canonical cell, whose digest is the id
    cells/<cell id>/<shard>-<start>-<stop>-<digest>.parquet   rows [start, stop) of a shard of 512, in evaluation order
    cells/<cell id>/<shard>-<start>-<stop>-<digest>.safetensors   images that an attack left of these rows, where they are kept (images.py)
    cells/<cell id>/rows-…, lists-…     a finished cell in one file, or two (compacted/compacted_file.py)
    ids/<digest>.parquet                the samples of compacted cells (compacted/sample_tables.py)
    samples/<fingerprint>/<shard>-<stop>.parquet   the digests of the images that the rows were computed on (sample_digests.py)
    learned/<artifact id>-<digest>.safetensors   what scenarios fitted on other samples: named by what it depends on, and by its bytes
    cells/<cell id>/gallery-<digest>.parquet   a few samples as the model saw them
    cells/<cell id>/failure.json        why it could not be computed; gone once it is
    runs/<id>.json                      a manifest: which cells of which models a suite requested, and how many samples
    environments/<id>.json              versions, hardware and switches; named in the metadata of the files made there
    verified.json                       which large files were read whole, at which size and time; may be deleted
    leases/, workers/                   locks of shards being computed, which end with their process; who computes (status/worker_files.py)

A file appears whole or not at all: it is written beside its place, synced, and renamed. <digest> is of the file's bytes, other JSON has its
checksum inside; files of earlier versions have none. Nothing is written through a link inside the store, which itself may be one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from robustvit.errors import StoreDamaged, StoreError
from robustvit.records.artifacts import ArtifactFiles
from robustvit.records.compacted.cell_files import listed, row_files
from robustvit.records.compacted.sample_tables import SampleTables
from robustvit.records.damage import ImagesRequired, damaged_files, whole_pieces
from robustvit.records.disk import below, content_digest, folder_stamps, json_bytes, read_json, remove, set_aside, write_bytes, write_json
from robustvit.records.images import ImageFile, decoded_gallery, encoded, encoded_gallery, kept_images, removal_of
from robustvit.records.manifest import Manifest
from robustvit.records.manifest_files import read_manifests
from robustvit.records.marker import open_marker
from robustvit.records.questions import model_names, requested_questions
from robustvit.records.records import SCHEMA_VERSION, Question, Records, cover
from robustvit.records.records_file import RowFile, encode_rows, file_name, is_large
from robustvit.records.remote.mirror import mirror_of
from robustvit.records.remote.object_place import url_of
from robustvit.records.sharing.leases import leased
from robustvit.records.verified_files import VerifiedFiles
from robustvit.spec.cell import artifact_id
from robustvit.spec.given import check_path
from robustvit.spec.spec import digest

log = logging.getLogger(__name__)


class Store(ArtifactFiles):
    """A directory of Records, or a place in object storage (`s3://`, `gs://`, `az://`), of which `path` is the mirror on this machine.

    Opening one for reading needs it to exist; `create=True` makes it.

    Raises StoreError where there is none or an older robustvit wrote it, StoreTooNew where a newer one did.
    """

    def __init__(self, path: Path | str, *, create: bool = False) -> None:
        url = url_of(path)
        self.mirror = None if url is None else mirror_of(url)
        self.path = check_path(path, "--store") if self.mirror is None else self.mirror.folder
        try:
            open_marker(self.path, create=create)
        except StoreError as error:
            raise type(error)(str(error).replace(str(self.path), str(url or self.path))) from error
        self.verified = VerifiedFiles(self.path)
        self.tables = SampleTables(self.path)
        self.reported: set[str] = set()  # what is damaged and left out

    @staticmethod
    def is_at(path: Path | str) -> bool:
        """Whether there is a store, of whatever version, at a path."""
        url = url_of(path)
        return ((check_path(path, "--store") if url is None else mirror_of(url).folder) / "store.json").exists()

    @property
    def place(self) -> Path | str:
        """By which another process opens the store: its folder, or its URL."""
        return self.path.absolute() if self.mirror is None else self.mirror.url

    def update(self, *parts: str) -> None:
        """Sees what others have written to a store in object storage since, in all of it or in one of its folders."""
        if self.mirror is not None:
            self.mirror.update("".join(f"{part}/" for part in parts))

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

    def files(self, cell: str) -> list[RowFile]:
        """The files of a cell, whole or not, by name; a compacted one as the pieces that it was made of."""
        return row_files(self.path / "cells" / cell, cell, self.verified, self.tables)

    def paths(self, cell: str) -> list[Path]:
        """Everything in the folder of a cell."""
        return [self.path / "cells" / cell / name for name in listed(self.path / "cells" / cell)]

    def stamps(self, cell: str) -> dict[str, list[int]]:
        """The files in the folder of a cell, by name: size and time of the last change, in nanoseconds."""
        return folder_stamps(self.path / "cells" / cell)

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

    def keep_images(self, cell: str, shard: int, start: int, arrays: dict[str, np.ndarray], stop: int, about: dict[str, str]) -> str:
        """Keeps images of rows [start, stop) of a shard, and a few words beside them; returns the sha256 of the file."""
        content = encoded(arrays, about)
        path = below(self.path, "cells", cell, file_name(shard, start, stop, content_digest(content), "safetensors"))
        write_bytes(path, content)
        remove(removal_of(path))
        return hashlib.sha256(content).hexdigest()

    def images(self, file: RowFile) -> ImageFile:
        """The images beside the rows of a file. Raises StoreError where none are kept, StoreDamaged where the file is another."""
        return kept_images(file)

    def damaged(self, cell: str, images: ImagesRequired = ImagesRequired.NO) -> list[Path]:
        """The `damaged_files` of a cell, those that a run sets aside; reads all that `verified` does not know. Raises as they do."""
        return damaged_files(self.files(cell), self._galleries(cell), images)

    def set_aside(self, cell: str, images: ImagesRequired = ImagesRequired.NO) -> list[Path]:
        """Renames the `damaged` files of a cell so that they are computed anew; returns their new names.

        Of a compacted file that is whole, whose images or gallery are not, the other pieces become files of their own first.
        """
        damaged = self.damaged(cell, images)
        for file in whole_pieces(self.files(cell), self._galleries(cell), images) if damaged else []:
            self.write(cell, file.shard, file.start, file.read(), file.about())
        return [set_aside(below(self.path, "cells", cell, path.name)) for path in damaged]

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
        return [path for path in self.paths(cell) if path.name.startswith("gallery") and path.suffix == ".parquet"]

    def artifact_of(self, cell: str) -> dict[str, np.ndarray]:
        """What the scenario of a cell fitted on other samples, arrays by name. Raises StoreError where that is not here."""
        found = self.artifact(artifact_id(self.describe(cell)))
        if found is None:
            raise StoreError(f"the store {self.path} keeps no artifact that cell {cell} was fitted with.")
        return found

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
        if str(damage) not in self.reported:
            self.reported.add(str(damage))
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
