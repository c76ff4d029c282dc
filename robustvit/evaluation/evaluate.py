"""Evaluates a Cell on some of its samples: a Cell, a model and images in, Records out."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.evaluation.class_names import MatchedClasses, in_data_order, match_classes, read_by, reads
from robustvit.evaluation.images.batches import batches
from robustvit.evaluation.prediction import check_seen, judged_afresh, predicted_logits
from robustvit.evaluation.scenario_of_cell import ScenarioOfCell, in_forward_mode
from robustvit.primitives.adversarial_images import AdversarialImages
from robustvit.primitives.attack_search import GRADIENTS
from robustvit.primitives.batch import NO_CLASS, Data, traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier, ThroughHost
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.pixels import to_uint8
from robustvit.primitives.reading import Reading, label_rank, prediction_columns
from robustvit.primitives.scenario import compares_with_labels, group_size, scenario, stream, takes_headless
from robustvit.primitives.surgery.recorded.tie_records import recorded_ties
from robustvit.primitives.surgery.recorded.token_records import recorded_costs
from robustvit.records import records
from robustvit.spec import registry
from robustvit.spec.cell import Cell
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec

_LOGITS_AT_ONCE = 1 << 20  # all of a shard for a thousand classes, in a few megabytes


class EvaluatedCell(NamedTuple):
    """The Records of some samples, and what was kept beside them.

    shown: the rows whose images were to be shown; seen: these images as the model saw them, (n, H, W, 3) uint8. adversarial: the images
    that an attack left, where they are kept: `rows` (m,) of the samples it was run on, `adversarial` (m, 3, H, W) float32, `clean` (m, H,
    W, 3) uint8.
    """

    rows: pa.Table
    shown: tuple[int, ...]
    seen: np.ndarray
    adversarial: dict[str, np.ndarray] | None = None


@dataclass
class _Parts:
    """What is collected batch by batch."""

    columns: list[dict[str, Tensor]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    seen: list[np.ndarray] = field(default_factory=list)
    adversarial: list[np.ndarray] = field(default_factory=list)


def evaluate(
    cell: Cell,
    model: Classifier,
    data: Data,
    images: np.ndarray,
    positions: np.ndarray,
    *,
    plugins: Mapping[str, Any] | None = None,
    keep: Sequence[str] = (),
    show: Sequence[int] = (),
    earlier: pd.DataFrame | None = None,
    artifact: Mapping[str, np.ndarray] | None = None,
    through: Classifier | None = None,
    crafted: AdversarialImages | None = None,
    rank: int = 0,
) -> EvaluatedCell:
    """Evaluates a cell on some samples.

    A row depends on its own sample alone, or on those of its group, bitwise at one tile size; attacks of other libraries mix the rows of a
    call.

    model: with the cell's transforms applied, frozen. images: (n, H, W, 3) uint8, already through the cell's view. positions: the n
    samples' indices in `data`. plugins: what plug-in parameters were resolved to, by name. keep: `logits`, and `adversarial` for the
    images that attacks leave. show: rows, in ascending order, whose images to return as the model saw them. earlier: for a cell that
    follows other attacks, the Records that these left of the same samples: only those still classified rightly are attacked. artifact:
    what the scenario fitted on other samples, see robustvit.evaluation.pipelines.fit. through: the model before its transforms, for a cell
    whose attack follows its gradients. crafted: the images of a cell that are crafted on another model. rank: of the first sample in
    evaluation order, where samples are measured in groups: the first of one.
    """
    if earlier is not None:
        follow = functools.partial(
            evaluate, replace(cell, after=()), model, data, plugins=plugins, keep=keep, artifact=artifact, through=through
        )
        return _continued(follow, model, images, positions, keep, show, earlier)
    entry = registry.scenario_entry(cell.scenario.name)
    readable = not (_reads_no_labels(cell, entry) or (model.card.headless and takes_headless(cell.scenario))) or reads(model, data)
    seen_by = _seen_by(entry, cell.scenario, plugins or {}, model, data) if readable else dict(plugins or {})
    does = scenario(entry, cell.scenario, seen_by, as_tensors(artifact or {}))
    if does.predicts or compares_with_labels(entry):
        _refuse_no_class(data, positions, cell.scenario.name)
    own = ScenarioOfCell(cell, does, crafted, reads=readable)
    asked = model if through is None else ThroughHost(model, through)
    host = through_reading(asked, data) if compares_with_labels(entry) and own.reads else asked
    parts = _Parts()
    matched = match_classes(model, data) if own.reads else MatchedClasses(data.readings)
    scored = matched.readings[0]
    rows, faster = does.rows_at_once(model.tile, model.size), in_forward_mode(cell)
    for start, batch in batches(data, images, positions, rows, model.device):
        draws = Draws(cell.seed, stream(cell.scenario), batch.ids, model.device)
        outcome = own(host, batch, draws, model)
        parts.columns.append(outcome.columns)
        if outcome.images is not None and does.makes_adversarial_images and "adversarial" in keep:
            parts.adversarial.append(outcome.images.cpu().numpy())
        if outcome.images is not None and own.reads:
            with model.in_float32() if does.in_float32 else model.in_forward_mode() if faster else contextlib.nullcontext():
                with recorded_costs(model, len(batch)) as spent, recorded_ties(model, len(batch)) as tied:
                    logits = predicted_logits(outcome.images, keyed_by(model, draws), batch)
                parts.columns[-1] |= spent | tied
                parts.columns[-1] |= judged_afresh(outcome.images, model, batch, draws, scored)
            check_seen(outcome.seen, scored.read(logits), batch, model, cell.scenario.name)
            parts.logits.append(logits)
            if shown := [row - start for row in (show if model.channels == 3 else ()) if start <= row < start + len(batch)]:
                parts.seen.append(to_uint8(outcome.images[shown]))
    columns = _columns(data, matched, positions, parts, keep)
    if (size := group_size(entry, cell.scenario)) > 1:
        columns["group"] = np.arange(rank, rank + len(positions)) // size
    columns |= {"felled_by": _successful(columns, cell.scenario.name)} if does.makes_adversarial_images and own.reads else {}
    adversarial = _adversarial(np.concatenate(parts.adversarial), images) if parts.adversarial else None
    return EvaluatedCell(
        records.table(columns),
        tuple(show) if parts.seen else (),
        np.concatenate(parts.seen) if parts.seen else _no_images(model, np.uint8),
        adversarial,
    )


def _refuse_no_class(data: Data, positions: np.ndarray, scenario: str) -> None:
    """Raises BadParameter for images without a label, with which no prediction can be compared."""
    missing = int((np.asarray(data.labels)[positions] == NO_CLASS).sum())
    if missing:
        raise BadParameter(
            f"'{scenario}' compares predictions with labels, and {missing} of {len(positions)} images of data '{data.name}' are of none of "
            "its classes. Only analyses take such data, such as ood_scores."
        )


def _adversarial(adversarial: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
    return {"rows": np.arange(len(images), dtype=np.int32), "adversarial": adversarial, "clean": images}


def _no_images(model: Classifier, kind: type) -> np.ndarray:
    return np.zeros((0, *model.size, model.channels), kind)


def _continued(
    follow: functools.partial[EvaluatedCell], model: Classifier, images: np.ndarray, positions: np.ndarray, keep: Sequence[str],
    show: Sequence[int], earlier: pd.DataFrame,
) -> EvaluatedCell:  # fmt: skip
    """The next attack of a chain on the samples that the earlier ones did not make the model misclassify."""
    active = np.flatnonzero(earlier["attacked"] & (earlier["pred"] == earlier["label"]))
    if not len(active):
        none = _adversarial(_no_images(model, np.float32).transpose(0, 3, 1, 2), _no_images(model, np.uint8))
        return EvaluatedCell(records.of_frame(earlier), (), _no_images(model, np.uint8), none if "adversarial" in keep else None)
    place = {int(row): i for i, row in enumerate(active)}
    found = follow(images[active], positions[active], show=[place[row] for row in show if row in place])
    kept = None if found.adversarial is None else {**found.adversarial, "rows": active.astype(np.int32)}
    return EvaluatedCell(
        records.continued(earlier, found.rows, active), tuple(int(active[row]) for row in found.shown), found.seen, kept
    )  # fmt: skip


def as_tensors(artifact: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The tensors of a fitted artifact, which a store holds as arrays."""
    return {name: torch.from_numpy(values) for name, values in artifact.items()}


def _seen_by(entry: Entry, spec: Spec, plugins: Mapping[str, Any], model: Classifier, data: Data) -> dict[str, Any]:
    """The plug-ins of a scenario, nested data sets as the model's class names read them.

    Where the scenario compares predictions with labels, nested models are seen through the data's first Reading; a surrogate whose outputs
    are other classes as it is, where the attack on it reads no labels.
    """
    own = {name: read_by(model, one) if isinstance(one, Data) else one for name, one in plugins.items()}
    if not compares_with_labels(entry):
        return own
    if any(registry.lookup("attack", name).label_free for name in _nested_attacks(spec)):
        return {name: through_reading(one, data) if isinstance(one, Classifier) and reads(one, data) else one for name, one in own.items()}
    return {name: through_reading(one, data) if isinstance(one, Classifier) else one for name, one in own.items()}


def _reads_no_labels(cell: Cell, entry: Entry) -> bool:
    """Whether a cell crafts images for other models without reading the data's labels, so that its model may have any outputs."""
    return cell.crafts and (entry.label_free or bool(cell.surrogate and cell.surrogate.labels))


def _nested_attacks(spec: Spec) -> list[str]:
    return [value.name for _, value in spec.params if isinstance(value, Spec) and value.kind == "attack"]


def through_reading(model: Classifier, data: Data) -> Classifier:
    """A model whose outputs are the data's classes, by the first Reading of the two. Raises ModelError for a model with other outputs."""
    reading = match_classes(model, data).readings[0]
    reading.check(model.outputs, model.card.label, data.name)
    return model if reading.columns is None and reading.groups is None else ReadClassifier(model, reading)


def _successful(columns: Mapping[str, Any], name: str) -> list[str]:
    """The attack, for each sample that it made the model misclassify; nothing for the others."""
    return [name if fooled else "" for fooled in (columns["attacked"] & (columns["pred"] != columns["label"])).tolist()]


def _columns(data: Data, matched: MatchedClasses, positions: np.ndarray, parts: _Parts, keep: Sequence[str]) -> dict[str, Any]:
    """The columns of the Records: the scenario's own, the data's facts, and what the logits give."""
    labels = torch.from_numpy(np.asarray(data.labels)[positions].astype(np.int64))
    columns: dict[str, Any] = {"sample": [data.ids[i] for i in positions], "label": labels}
    columns.update({name: torch.cat([part[name] for part in parts.columns]) for name in parts.columns[0]})
    columns.update({name: [values[i] for i in positions.tolist()] for name, values in traits(data).facts.items()})
    if parts.logits:
        logits = torch.cat(parts.logits)
        columns.update(_scored(matched.readings, logits, labels))
        if "logits" in keep:
            columns["logits"] = in_data_order(logits, matched)
    plain = {name: value.cpu().numpy() if isinstance(value, Tensor) else value for name, value in columns.items()}
    if "gradient" in plain:
        plain["gradient"] = [GRADIENTS[code] for code in plain["gradient"].tolist()]
    return plain


def _scored(readings: Sequence[Reading], logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What each reading makes of the logits, a limited number of them at a time."""
    first, *others = readings
    rows = max(1, _LOGITS_AT_ONCE // logits.shape[1])
    parts = []
    for some, right in zip(torch.split(logits, rows), torch.split(labels.to(logits.device), rows), strict=True):
        scores = prediction_columns(first.read(some), right)
        for reading in others:
            read = reading.read(some)
            scores[f"pred_{reading.name}"] = read.argmax(dim=1)
            scores[f"rank_{reading.name}"] = label_rank(read, right)
        parts.append(scores)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
