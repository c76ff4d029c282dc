"""Rows of one cell taken over by another, which is the same question under a newer id."""

from __future__ import annotations

from robustvit.records.disk import write_bytes
from robustvit.records.records import cover
from robustvit.records.store import Store

_OWN = ("schema", "cell", "shard", "start", "stop")  # notes that `Store.write` makes itself


def adopt(store: Store, former: str, cell: str) -> None:
    """Copies the rows of the cell `former`, what was kept beside them and its gallery to the cell `cell`; its files stay as they are.

    Raises StoreDamaged where a file is not whole.
    """
    folder = store.path / "cells"
    for file in cover(store.files(former)):
        about = {key: value for key, value in store.about(file).items() if key not in _OWN}
        if "images" in about:
            images = file.path.with_suffix(".safetensors")
            write_bytes(folder / cell / images.name, images.read_bytes())
        store.write(cell, file.shard, file.start, file.read(), {**about, "former": former})
    gallery = folder / former / "gallery.parquet"
    if gallery.is_file():
        write_bytes(folder / cell / gallery.name, gallery.read_bytes())
