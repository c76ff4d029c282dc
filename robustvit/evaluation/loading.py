"""Loads models and data sets by their addresses."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from robustvit.errors import BadParameter, DataMissing, nearest
from robustvit.evaluation import environment
from robustvit.evaluation.data_part import DataPart
from robustvit.primitives.architectures.registered import random_model
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.data_address import parse_data, resolve_root
from robustvit.spec.given import check_path, why_not_regular
from robustvit.spec.model_address import parse_model, pipeline_of, write_model
from robustvit.spec.parts import PARAMETER
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec, Value, plain
from robustvit.spec.written.pipeline import split_pipeline

CLASSES = ("by_name", "by_position")  # how a model's classes are compared with the data's
_LARGE = 128  # pixels; above it a CPU is fastest at small tiles


def load_model(
    address: str | Spec, *, device: torch.device | str | None = None, tile: int | None = None, precision: str | None = None
) -> Classifier:
    """Loads the model at an address, as a Classifier from [0, 1] pixels to logits.

    address: `vit_b16`, any timm name, `hf/ORG/NAME`, `file:PATH?arch=NAME`, `package.module:factory`, `demo`, `arch/hvt` for a registered
    architecture with random weights. device: default the CPU.
    tile: rows per forward pass (default: 16 above 128 px and 64 below on a CPU, 256 elsewhere). precision: float32, bfloat16 or
    float16. `?classes=by_position` of any model gives up the names of its classes. Transforms behind a + are applied in their order
    (`"vit_b16+quantize(bits=8)+tome(r=13)"`), and learn now what they learn. Raises UnknownName, WeightsUnavailable,
    CheckpointMismatch or ModelError.
    """
    spec = address if isinstance(address, Spec) else parse_model(address)
    if steps := pipeline_of(spec):
        from robustvit.evaluation.pipelines.transformed import with_pipeline

        return with_pipeline(load_model(without_pipeline(address), device=device, tile=tile, precision=precision), steps)
    there = environment.device("cpu" if device is None else device)
    entry = registry.lookup("model", spec.name, spec.where)
    bound = bind(entry, spec.without("classes"))
    model: Classifier = random_model(bound) if entry.architecture else entry.load()(**{key: plain(value) for key, value in bound.params})
    if _by_position(spec):
        model.card = replace(model.card, classes=())
    model.relabel(label(address)).to(there)
    return model.configure(tile=default_tile(model) if tile is None else tile, precision=precision)


def without_pipeline(address: str | Spec) -> str | Spec:
    """The address of the model before its transforms."""
    return address.without("transforms") if isinstance(address, Spec) else split_pipeline(address.strip())[0]


def _by_position(spec: Spec) -> bool:
    """Whether an address asks that classes be compared by position, though the model names them. Raises BadParameter for another wish."""
    asked = spec.get("classes")
    if asked not in (None, *CLASSES):
        raise BadParameter(f"classes is '{asked}' in a model's address.{nearest(str(asked), CLASSES)} It takes {' or '.join(CLASSES)}.")
    return asked == CLASSES[1]


def label(address: str | Spec) -> str:
    """The name of a model in tables: the address as it was written; for a checkpoint the name of its file, without folder and ending."""
    spec = parse_model(address) if isinstance(address, str) else address
    if spec.name == "file":
        return Path(str(spec.get("path"))).name.partition(".")[0] or str(spec.get("path"))
    return address if isinstance(address, str) else write_model(spec)


def default_tile(model: Classifier) -> int:
    """The number of rows per tile where the user gives none."""
    if model.device.type != "cpu":
        return 256
    return 16 if min(model.size) > _LARGE else 64


def load_data(address: str | Spec, *, data_dir: Path | str | None = None, inner: Data | None = None, **params: Any) -> Data:
    """Loads the data set at an address: `digits`, `imagenet`, `folder:PATH`, `npz:PATH`, `hfds/ORG/NAME`, …

    data_dir: the folder of its files, or one with a folder NAME; default $ROBUSTVIT_DATA/NAME or ./data/NAME. inner: replaces a data set
    that is nested in the Spec, whose files are otherwise in `data_dir`.
    params: parameters of the data set, such as `split`. Of any data set `?part=calibration` is the samples of that part, `?part=evaluation`
    the others, and `?part=2/5` the second of five parts (robustvit.spec.parts).
    Raises UnknownName, BadParameter, DataMissing or DataUnreadable.
    """
    spec, place = (address, None) if isinstance(address, Spec) else parse_data(address)
    entry = registry.lookup("data", spec.name, spec.where)
    bound = bind(entry, spec.with_params(**params))
    if data_dir is not None and place is not None:
        raise BadParameter(f"the data's place is given twice: {place} in its address and --data-dir {data_dir}. Leave one out.")
    refuse_no_folder(data_dir)
    return opened(entry, bound, place or resolve_root(spec.name, data_dir), data_dir=data_dir, inner=inner)


def refuse_no_folder(data_dir: Path | str | None) -> None:
    """Raises DataMissing for a place of data that is a file, a device or a pipe."""
    if data_dir is not None and (there := check_path(data_dir, "--data-dir").expanduser()).exists() and not there.is_dir():
        raise DataMissing(f"--data-dir is {there}, which {why_not_regular(there) or 'is a file'}; give the folder of the data's files.")


def opened(
    entry: Entry, bound: Spec, root: Path | None, *, data_dir: Path | str | None = None, inner: Data | None = None
) -> Data:  # fmt: skip
    """The data set of a bound Spec, whose files are at `root`, or the part that the Spec names. data_dir, inner: as in `load_data`."""
    nested = {param.name for param in entry.params if param.hint.plugin == "data"}
    part = bound.get(PARAMETER) if PARAMETER not in {param.name for param in entry.params} else None
    arguments = {
        key: (inner or load_data(value, data_dir=data_dir)) if key in nested and isinstance(value, Spec) else resolve(value)
        for key, value in bound.params
        if part is None or key != PARAMETER
    }
    data: Data = entry.load()(root, **arguments)
    return data if part is None else DataPart(data, str(part))


def resolve(value: Value) -> Any:
    """The argument of a function for a value: a nested corruption or attack becomes the function with its arguments filled in."""
    if isinstance(value, Spec) and value.kind not in ("", "data", "model"):
        arguments = {key: resolve(item) for key, item in value.params}
        return functools.partial(registry.lookup(value.kind, value.name).load(), **arguments)
    return plain(value)
