"""A report as a folder: the page, and the rows and images of its list of samples in files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from robustvit.errors import StoreDamaged, StoreFull, UsageError
from robustvit.records.disk import below, write_output
from robustvit.records.store import Store
from robustvit.report.numbers import script_json
from robustvit.report.samples.sample_rows import PredictedCell, SampleGroup
from robustvit.spec.given import check_path

_PAGE = "index.html"
_ENDINGS = {b"\x89PNG": "png"}


class Bundle:
    """The folder of a report; files are written whole. Raises UsageError where something else is there, StoreFull where it is full."""

    def __init__(self, folder: Path | str, *stores: Store) -> None:
        """stores: what the report is of, one or two."""
        self.folder = check_path(folder, "the folder of the report")
        self._stores = stores
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"--bundle {self.folder} is a file; name a folder.")
        if self.folder.is_dir() and any(self.folder.iterdir()) and not (self.folder / _PAGE).is_file():
            raise UsageError(f"--bundle {self.folder} holds other files; name a new folder, or one that a report was written to before.")
        for store in stores:
            if self.folder.is_relative_to(store.path):
                below(store.path, *self.folder.relative_to(store.path).parts)

    def write_page(self, page: str) -> Path:
        """Writes the page, and returns its path."""
        return self._write(_PAGE, page.encode())

    def write_rows(self, groups: Iterable[SampleGroup]) -> list[str]:
        """Writes the rows of each group and the images that the store has of them; returns the names of the files of rows."""
        return [self._write_group(place, group) for place, group in enumerate(groups)]

    def _write_group(self, place: int, group: SampleGroup) -> str:
        images = {(cell.side, cell.cell): self._images(cell) for cell in group.cells}
        packed = group.packed(lambda cell, sample: images[cell.side, cell.cell].get(sample, ""))
        name = f"rows-{place}.js"
        self._write(name, f"robustvitRows({place}, {script_json(packed)});\n".encode())
        return name

    def _images(self, cell: PredictedCell) -> Mapping[str, str]:
        """Writes the images of a cell's gallery; their paths by sample."""
        try:
            rows = self._stores[cell.side].gallery(cell.cell)
        except StoreDamaged:  # its gallery on the page says so
            return {}
        found = {}
        for place, row in enumerate(rows.to_dict("records")):
            content = bytes(row["image"])
            path = f"images/{'b-' * cell.side}{cell.cell}/{place}.{_ENDINGS.get(content[:4], 'jpg')}"
            self._write(path, content)
            found[str(row["sample"])] = path
        return found

    def _write(self, name: str, content: bytes) -> Path:
        target = self.folder / name
        try:
            os.makedirs(target.parent, exist_ok=True)
            write_output(target, content)
        except OSError as error:
            raise StoreFull(f"cannot write the report {target}: {error.strerror or error}. Choose another folder with --bundle.") from error
        return target
