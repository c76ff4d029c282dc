"""Files of images beside the Records: adversarial ones that an attack left, and a few of every cell as the model saw them.

Where adversarial images were removed on purpose (`store gc --images`), an empty file with the ending .removed is in their place.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import safetensors.numpy

from robustvit.errors import StoreDamaged, StoreError
from robustvit.records.disk import content_digest
from robustvit.records.parquet import frame_of, read_table
from robustvit.records.records_file import GARBAGE, RowFile, file_name


@dataclass(frozen=True)
class ImageFile:
    """The images that an attack left of the rows of one Records file: `rows` names those it was run on.

    adversarial: (m, 3, H, W) float32 in [0, 1]; clean: (m, H, W, 3) uint8; m rows.
    """

    path: Path

    @property
    def earlier(self) -> str:
        """The cell of the attack before it in a chain, which keeps the images of the other rows; "" where there is none."""
        with self._opened() as file:
            return str(json.loads(file.metadata()["about"])["earlier"])

    def rows(self) -> list[int]:
        """The rows of the Records file that it has images of, in its own order."""
        with self._opened() as file:
            return [int(row) for row in file.get_tensor("rows")]

    def read(self, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The adversarial and the clean images at some places of its own order."""
        with self._opened() as file:
            slices = [file.get_slice(name) for name in ("adversarial", "clean")]
            adversarial, clean = (np.concatenate([one[place : place + 1] for place in places]) for one in slices)
        return adversarial, clean

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with safetensors.safe_open(self.path, framework="np") as file:
            yield file


def encoded(arrays: dict[str, np.ndarray], about: dict[str, str]) -> bytes:
    """The content of such a file. about: `cell`, and `earlier`; one entry of metadata, because several have no order."""
    return safetensors.numpy.save(arrays, metadata={"about": json.dumps(about, sort_keys=True)})


def image_places(file: RowFile) -> list[Path]:
    """Where the images beside the rows of a file are, or were; the second as it was called before names had digests. Empty without any."""
    checksum = str(file.about().get("images", ""))
    name = file_name(file.shard, file.start, file.stop, checksum[:20], "safetensors")
    return [file.path.with_name(one) for one in (name, name.replace(f"-{checksum[:20]}", ""))] if checksum else []


def removal_of(place: Path) -> Path:
    """The empty file that tells that the images of a place were removed on purpose."""
    return place.with_suffix(".removed")


def were_removed(file: RowFile) -> bool:
    """Whether images were kept beside the rows of a file and then removed on purpose, so that their absence is no damage."""
    places = image_places(file)
    return bool(places) and not any(map(Path.is_file, places)) and removal_of(places[0]).is_file()


def kept_images(file: RowFile) -> ImageFile:
    """The images beside the rows of a file.

    Raises StoreError where none are kept, StoreDamaged where the file is not the one that was written.
    """
    checksum, places = str(file.about().get("images", "")), image_places(file)
    if not places:
        raise StoreError(f"{file.path} has no images beside it. Run with --keep adversarial and a new --store.")
    path = next(filter(Path.is_file, places), None)
    if path is None:
        how = "was removed (store gc --images)" if removal_of(places[0]).is_file() else "is gone"
        raise StoreError(f"{places[0]} {how}. Run the same suite again with --keep adversarial.")
    with path.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != checksum:
            raise StoreDamaged(f"{path} is not what was written there. Run the same suite again with --keep adversarial.")
    return ImageFile(path)


def encoded_gallery(images: pa.Table) -> memoryview:
    """The content of a file of gallery images."""
    sink = io.BytesIO()
    pq.write_table(images, sink)
    return sink.getbuffer()


def decoded_gallery(path: Path) -> pd.DataFrame:
    """The images of a gallery file. Raises StoreDamaged where it is not the one that was written."""
    hint = "Run the same suite again, or delete it: the images return when their first rows are computed."
    if not is_whole_gallery(path):
        raise StoreDamaged(f"{path} is not whole. {hint}")
    try:
        table = read_table(path.read_bytes())
        table.validate(full=True)
        images = frame_of(table)
    except GARBAGE as error:
        raise StoreDamaged(f"{path} is not whole ({error}). {hint}") from error
    if not {"sample", "label", "pred", "image"} <= set(images):
        raise StoreDamaged(f"{path} is no gallery. {hint}")
    return images


def is_whole_gallery(path: Path) -> bool:
    """Whether a gallery file has the bytes that its name promises; earlier files promise nothing."""
    promised = path.stem.partition("-")[2]
    try:
        return path.is_file() and (not promised or content_digest(path.read_bytes()) == promised)
    except OSError:
        return False
