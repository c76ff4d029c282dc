"""A store as a data set of the Hugging Face hub: Parquet files and a card, which `datasets.load_dataset(FOLDER)` reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from robustvit.results.data_sets.folder import whole_folder
from robustvit.results.data_sets.stored_tables import CELLS, NAMES, StoredTables, aligned, cell_row
from robustvit.version import __version__

_FILE_ROWS = 2_000_000  # after which another file is begun
_MEANINGS = {
    "cell": "the id of the question that the row answers", "sample": "the id of the sample in its data set", "label": "its class",
    "pred": "the predicted class", "confidence": "the largest probability", "nll": "negative log-likelihood of the label, natural log",
    "margin": "logit of the label minus the largest other", "brier": "squared distance of the probabilities from the label",
    "rank": "place of the label among the classes, from 1", "top5": "the five classes with the largest logits",
}  # fmt: skip


def write_hub_folder(tables: StoredTables, to: Path | str) -> Path:
    """Writes the folder; returns it. Raises UsageError for a place that holds something, StoreFull, StoreDamaged."""
    with whole_folder(to, "--to") as folder:
        columns = tables.columns()
        schema = pa.schema([("cell", pa.string()), *((name, CELLS.field(name).type) for name in NAMES), *columns])
        cells, writer, number, written = [], None, 0, 0
        (folder / "rows").mkdir()
        try:
            for question, found, rows in tables.rows():
                cells.append(cell_row(question, found))
                if not len(rows):
                    continue
                if writer is None or written > _FILE_ROWS:
                    if writer is not None:
                        writer.close()
                    path, number, written = folder / "rows" / f"{number:05d}.parquet", number + 1, 0
                    writer = pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)
                told = {name: pa.array([cells[-1][name]] * len(rows), schema.field(name).type) for name in ("cell", *NAMES)}
                held = aligned(rows, columns)
                writer.write_table(pa.table([*told.values(), *held.columns], schema=schema))
                written += len(rows)
        finally:
            if writer is not None:
                writer.close()
        for name, table in (("cells", pa.Table.from_pylist(cells, CELLS)), ("questions", tables.question_table())):
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd", write_page_checksum=True)
        (folder / "README.md").write_text(_card(tables, cells, schema), encoding="utf-8")
    return Path(to)


def _card(tables: StoredTables, cells: list[dict[str, object]], schema: pa.Schema) -> str:
    rows = sum(int(str(one["rows"])) for one in cells)
    front = {
        "configs": [
            {"config_name": "rows", "data_files": "rows/*.parquet", "default": True},
            {"config_name": "cells", "data_files": "cells.parquet"}, {"config_name": "questions", "data_files": "questions.parquet"},
        ],
        "tags": ["robustness", "vision-transformer", "robustvit"], "task_categories": ["image-classification"],
    }  # fmt: skip
    kinds = Counter(str(one["status"]) for one in cells)
    manifests = tables.store.manifests()
    data = {facts.label: facts for manifest in manifests for facts in manifest.data.values()}
    licences = {label: filter(None, (facts.licence or "licence not recorded", facts.url)) for label, facts in sorted(data.items())}
    lines = [
        f"# Records of {', '.join(sorted({one.suite for one in tables.questions}))}",
        "", f"Predictions of vision transformers, sample by sample, made by robustvit {__version__}. Rows: {rows:,}. "
        f"Models: {len({one.model for one in tables.questions}):,}. "
        f"Cells: {', '.join(f'{count:,} {name}' for name, count in sorted(kinds.items()))}.",
        "", "- `rows`: one row for each sample of each cell. Columns that a cell does not have are null.",
        "- `cells`: what each cell is, how many rows were requested and are there, and why not all.",
        "- `questions`: which suite requested which cell, and the command that computes it.",
        "", "```python", "import datasets", "", 'rows = datasets.load_dataset("FOLDER", "rows", split="train")', "```",
        "", "| column | type | |", "|---|---|---|",
        *(f"| `{one.name}` | {one.type} | {_MEANINGS.get(one.name, '')} |" for one in schema),
        "", "Data sets, whose licences the rows are subject to:", "",
        *(f"- {label}: {', '.join(told)}" for label, told in licences.items()),
        "",
    ]  # fmt: skip
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n" + "\n".join(lines)
