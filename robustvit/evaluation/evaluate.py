"""A Cell and some of its samples in, their Records out."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from robustvit.errors import ModelError
from robustvit.primitives.attack_search import GRADIENTS
from robustvit.primitives.batch import Batch, Data, traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.primitives.reading import Reading, label_rank, prediction_columns
from robustvit.primitives.scenario import Outcome, Scenario, scenario, stream
from robustvit.records import records
from robustvit.spec import registry
from robustvit.spec.cell import Cell

_ATTACK_BYTES = 64 << 20  # images an attack or analysis works on at once: enough that the fallen make room, little enough for any machine

_CERTIFIED_BYTES = 32 << 20  # pictures whose looks are put together: enough to fill batches, few enough that a killed run loses little
_JUDGED_NUMBERS = 1 << 20  # logits that are judged at once: all of a shard for a thousand classes, in a few megabytes


class Answers(NamedTuple):
    """The Records of some samples; those that were to be shown, as the model saw them: their rows, and (n, H, W, 3) uint8; and the images that an attack
    left, where they are kept: `rows` (m,) of those it met, `adversarial` (m, 3, H, W) float32, `clean` (m, H, W, 3) uint8."""

    rows: pa.Table
    shown: tuple[int, ...]
    seen: np.ndarray
    kept: dict[str, np.ndarray] | None = None


def evaluate(
    cell: Cell,
    model: Classifier,
    data: Data,
    pictures: np.ndarray,
    positions: np.ndarray,
    *,
    plugins: dict[str, Any] | None = None,
    keep: Sequence[str] = (),
    show: Sequence[int] = (),
    earlier: pd.DataFrame | None = None,
    learned: Mapping[str, np.ndarray] | None = None,
) -> Answers:
    """Answers a cell for some samples. A row depends on its own sample alone, bitwise at one tile size; attacks of other libraries mix the rows of a call.

    model: with the cell's transforms applied, frozen. pictures: (n, H, W, 3) uint8, already through the cell's view. positions: the n
    samples' indices in `data`. plugins: what plug-in parameters stand for, by name. keep: `logits`, and `adversarial` for the images that attacks leave. show: rows, in
    ascending order, to return as seen. earlier: of a cell that comes after other attacks, what these left of the same samples: only those that
    stand are attacked. learned: what the scenario has learned from other samples, see robustvit.evaluation.fit.
    """
    if earlier is not None:
        return _continued(cell, model, data, pictures, positions, plugins, keep, show, earlier, learned)
    entry = registry.scenario(cell.scenario.name)
    met = functools.partial(_met, entry.kind, data)
    does = scenario(entry, cell.scenario, {name: met(one) for name, one in (plugins or {}).items()}, _tensors(learned))
    rows = rows_at_once(entry.kind, model.tile, model.size)
    told, logits, seen, left = [], [], [], []
    shown: list[int] = []
    for start in range(0, len(positions), rows):
        batch = _batch(data, pictures[start : start + rows], positions[start : start + rows], model.device)
        outcome = _outcome(does, met(model), batch, Draws(cell.seed, stream(cell.scenario), batch.ids, model.device))
        outcome = _stored(outcome, cell, model, batch)
        told.append(outcome.columns)
        if outcome.images is not None:
            with model.in_float32() if entry.kind == "attack" else contextlib.nullcontext():
                logits.append(_logits(outcome.images, model, batch))
            if entry.kind == "attack" and "adversarial" in keep:
                left.append(outcome.images.cpu().numpy())
            here = [row for row in show if start <= row < start + len(batch)]
            if here:
                shown += here
                seen.append(to_uint8(outcome.images[[row - start for row in here]]))
    columns = _columns(data, positions, told, logits, keep)
    if entry.kind == "attack":
        columns["felled_by"] = _felled(columns, cell.scenario.name)
    table = records.table(columns)
    kept = _kept(np.concatenate(left), pictures) if left else None
    return Answers(table, tuple(shown), np.concatenate(seen) if seen else _nothing(model, np.uint8), kept)


def _kept(adversarial: np.ndarray, pictures: np.ndarray) -> dict[str, np.ndarray]:
    return {"rows": np.arange(len(pictures), dtype=np.int32), "adversarial": adversarial, "clean": pictures}


def _nothing(model: Classifier, kind: type) -> np.ndarray:
    """No pictures."""
    return np.zeros((0, *model.size, 3), kind)


def _continued(
    cell: Cell, model: Classifier, data: Data, pictures: np.ndarray, positions: np.ndarray, plugins: dict[str, Any] | None, keep: Sequence[str],
    show: Sequence[int], earlier: pd.DataFrame, learned: Mapping[str, np.ndarray] | None,
) -> Answers:  # fmt: skip
    standing = np.flatnonzero(earlier["attacked"] & (earlier["pred"] == earlier["label"]))
    if not len(standing):
        none = _kept(_nothing(model, np.float32).transpose(0, 3, 1, 2), _nothing(model, np.uint8)) if "adversarial" in keep else None
        return Answers(records.of_frame(earlier), (), _nothing(model, np.uint8), none)
    place = {int(row): i for i, row in enumerate(standing)}
    wanted = [place[row] for row in show if row in place]
    found = evaluate(
        replace(cell, after=()), model, data, pictures[standing], positions[standing], plugins=plugins, keep=keep, show=wanted, learned=learned,
    )  # fmt: skip
    return Answers(
        records.continued(earlier, found.rows, standing), tuple(int(standing[row]) for row in found.shown), found.seen,
        None if found.kept is None else {**found.kept, "rows": standing.astype(np.int32)},
    )  # fmt: skip


def _tensors(learned: Mapping[str, np.ndarray] | None) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in (learned or {}).items()}


def rows_at_once(kind: str, tile: int, size: tuple[int, int]) -> int:
    """How many rows a kind of scenario is given together: a tile, or for what takes many looks at a picture as many tiles as there is room for."""
    room = {"attack": _ATTACK_BYTES, "analysis": _ATTACK_BYTES, "certificate": _CERTIFIED_BYTES}.get(kind)
    if room is None:
        return tile
    bytes_a_row = 3 * 4 * size[0] * size[1]
    return max(1, room // bytes_a_row // tile) * tile


def _batch(data: Data, pictures: np.ndarray, positions: np.ndarray, device: torch.device) -> Batch:
    labels = torch.from_numpy(np.asarray(data.labels)[positions].astype(np.int64)).to(device)
    return Batch(pixels(pictures, device), labels, tuple(data.ids[i] for i in positions))


def _met(kind: str, data: Data, plugin: Any) -> Any:
    """A model as a scenario meets it: attacks, which compare answers with labels, and certificates, whose votes are such answers, as the data's first
    Reading reads it. Everything else as it is.

    Raises ModelError where a model cannot answer the data's labels.
    """
    if kind not in ("attack", "certificate") or not isinstance(plugin, Classifier):
        return plugin
    reading = data.readings[0]
    reading.check(plugin.outputs, plugin.card.label, data.name)
    return plugin if reading.columns is None and reading.groups is None else ReadClassifier(plugin, reading)


def _outcome(does: Scenario, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
    return does(model.bound(draws), batch, draws)


def _stored(outcome: Outcome, cell: Cell, model: Classifier, batch: Batch) -> Outcome:
    """What a corruption made, after the storage that the cell asks for."""
    made = registry.scenario(cell.scenario.name)
    if cell.storage is None or outcome.images is None or made.kind != "corruption" or not made.severity:
        return outcome
    does = scenario(registry.lookup("corruption", cell.storage.name), cell.storage)
    after = does(model, batch.with_images(outcome.images), Draws(cell.seed, stream(cell.storage), batch.ids, model.device))
    return replace(outcome, images=after.images)


def _logits(images: Tensor, model: Classifier, batch: Batch) -> Tensor:
    """The model's logits; raises ModelError where one is not a finite number, since every answer read from it would be nonsense."""
    with torch.no_grad():
        logits: Tensor = model(images)
    broken = ~torch.isfinite(logits).all(dim=1)
    if bool(broken.any()):
        first = batch.ids[int(broken.nonzero()[0])]
        raise ModelError(
            f"model '{model.card.label}' gives logits that are not finite numbers for {int(broken.sum())} samples, first {first}."
        )
    return logits


def _felled(columns: dict[str, Any], name: str) -> list[str]:
    """The attack, for each sample that it made the model get wrong; nothing for the others."""
    return [name if fell else "" for fell in (columns["attacked"] & (columns["pred"] != columns["label"])).tolist()]


def _columns(
    data: Data, positions: np.ndarray, told: Sequence[dict[str, Tensor]], logits: Sequence[Tensor], keep: Sequence[str]
) -> dict[str, Any]:
    """The columns of the Records: what the scenario told, and what the logits say."""
    labels = torch.from_numpy(np.asarray(data.labels)[positions].astype(np.int64))
    columns: dict[str, Any] = {"sample": [data.ids[i] for i in positions], "label": labels}
    columns.update({name: torch.cat([part[name] for part in told]) for name in told[0]})
    columns.update({name: [values[i] for i in positions.tolist()] for name, values in traits(data).facts.items()})
    if logits:
        columns.update(_judged(data.readings, torch.cat(list(logits)), labels))
        if "logits" in keep:
            columns["logits"] = torch.cat(list(logits))
    plain = {name: value.cpu().numpy() if isinstance(value, Tensor) else value for name, value in columns.items()}
    if "gradient" in plain:
        plain["gradient"] = [GRADIENTS[code] for code in plain["gradient"].tolist()]
    return plain


def _judged(readings: Sequence[Reading], logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What the logits say by each reading, a few million numbers at a time."""
    first, *others = readings
    rows = max(1, _JUDGED_NUMBERS // logits.shape[1])
    parts = []
    for some, right in zip(torch.split(logits, rows), torch.split(labels.to(logits.device), rows), strict=True):
        answers = prediction_columns(first.read(some), right)
        for reading in others:
            scores = reading.read(some)
            answers[f"pred_{reading.name}"] = scores.argmax(dim=1)
            answers[f"rank_{reading.name}"] = label_rank(scores, right)
        parts.append(answers)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
