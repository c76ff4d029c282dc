"""Rows of one cell taken over by another, which is the same question under a newer id."""

from __future__ import annotations

import pyarrow as pa

from robustvit.records.disk import below, write_bytes
from robustvit.records.images import removal_of, were_removed
from robustvit.records.records import cover
from robustvit.records.records_file import file_name
from robustvit.records.store import Store

_OWN = ("schema", "cell", "shard", "start", "stop")  # notes that `Store.write` makes itself


def adopt(store: Store, former: str, cell: str) -> None:
    """Copies the gallery of the cell `former`, its rows and what was kept beside them to the cell `cell`; its files stay as they are.

    Raises StoreDamaged where a file is not whole.
    """
    gallery = store.gallery(former)
    if len(gallery):
        store.write_gallery(cell, pa.Table.from_pandas(gallery, preserve_index=False))
    for file in cover(store.files(former)):
        about = {key: value for key, value in file.about().items() if key not in _OWN}
        if "images" in about:
            name = file_name(file.shard, file.start, file.stop, str(about["images"])[:20], "safetensors")
            place, gone = below(store.path, "cells", cell, name), were_removed(file)
            write_bytes(removal_of(place) if gone else place, b"" if gone else store.images(file).path.read_bytes())
        store.write(cell, file.shard, file.start, file.read(), {**about, "former": former})
