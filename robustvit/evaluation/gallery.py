"""A few samples of each cell as the model saw them, for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from PIL import Image

from robustvit.evaluation.datasets import Samples
from robustvit.evaluation.evaluate import EvaluatedCell
from robustvit.spec.sample_order import SHARD, starts

_COUNT = 4  # samples of each cell
_FRAMES_APART = 10  # of a clip
_SMALL = 64  # pixels; up to here an image is kept without loss


def gallery_rows(samples: Samples, wanted: int) -> Sequence[int]:
    """The rows whose images are kept: the first few, or a few of the first clip from its beginning to its end."""
    length = int(starts(samples.data.ids, samples.positions[: min(wanted, SHARD)])[1])
    return range(wanted)[:_COUNT] if length == 1 else range(0, length, _FRAMES_APART)[:_COUNT]


def gallery(found: EvaluatedCell) -> pa.Table:
    """The images that an evaluation was to show: sample, label, pred (null where a scenario predicts nothing), image (encoded bytes)."""
    rows = found.rows.take(list(found.shown))
    preds = rows["pred"] if "pred" in rows.column_names else pa.nulls(len(found.seen), pa.int32())
    return pa.table({"sample": rows["sample"], "label": rows["label"], "pred": preds, "image": [_encoded(image) for image in found.seen]})


def _encoded(image: np.ndarray) -> bytes:
    """PNG for what is small, JPEG at quality 90 without chroma subsampling for what is not."""
    sink = io.BytesIO()
    if max(image.shape[:2]) <= _SMALL:
        Image.fromarray(image).save(sink, "PNG")
    else:
        Image.fromarray(image).save(sink, "JPEG", quality=90, subsampling=0)
    return sink.getvalue()
