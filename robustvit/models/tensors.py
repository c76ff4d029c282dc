"""Reads the named tensors of a checkpoint file, whatever they are wrapped in. Nothing from the file is executed."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from robustvit.errors import BadParameter, ModelError, few, nearest
from robustvit.primitives.checkpoint import LEARNED

_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
_NESTS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_NO_CHECKPOINT = {  # how a file begins that is none, in small letters
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch that with `git lfs pull`",
    b"<!doctype": "a saved web page, probably of a download that asked for a login or a confirmation: download the file itself",
    b"<html": "a saved web page, probably of a download that asked for a login or a confirmation: download the file itself",
    b"<?xml": "an XML page, probably the error message of a download: download the file itself",
}
_DEEPEST = 20  # of mappings in mappings
_LARGEST_PICKLE = 64 << 20  # bytes; it names the tensors, whose numbers lie beside it
_LARGEST_PACKED = 1 << 20  # bytes, unpacked, of what is compressed in an archive
_log = logging.getLogger(__name__)


class Wish(NamedTuple):
    """Which tensors of a file are wanted.

    key: of the mapping that holds them, dots between levels. prefix: of their names; others are left out; "" takes names as they are, and
    None removes the usual wrappers' prefixes. ema: averaged weights, or plain
    ones; None takes averaged ones where there are any, and says so.
    """

    key: str | None = None
    prefix: str | None = None
    ema: bool | None = None


class NamedTensors(NamedTuple):
    """tensors: by name, floating ones as float32, but for what transforms learned.

    chosen: what was chosen of the file, for the card; "" where there was no choice.
    """

    tensors: dict[str, Tensor]
    chosen: str


ANY = Wish()


def read_tensors(file: Path, wish: Wish = ANY) -> NamedTensors:
    """The named tensors of a checkpoint, out of the usual nests and without the usual prefixes.

    Raises ModelError for a file that is damaged, holds no tensors or several sets of them, or could only be read by running code from it,
    BadParameter for a wish that it cannot fulfil.
    """
    found: Any = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickled(file)
    if wish.key is not None:
        found = _at_key(found, wish.key, file)
    inner, chosen = _unnested(found, wish.ema, file)
    tensors = {key: value for key, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(f"{file}: holds no named tensors.{_several(inner)}")
    named = _unprefixed(tensors) if wish.prefix is None else _with_prefix(tensors, wish.prefix, file) if wish.prefix else tensors
    plain = {key: value.float() if value.is_floating_point() and not key.startswith(LEARNED) else value for key, value in named.items()}
    for key, value in plain.items():
        if value.is_meta or value.is_complex() or value.layout != torch.strided:
            kind = "no numbers (it is on the meta device)" if value.is_meta else f"values of {value.dtype}, {value.layout}"
            raise ModelError(f"{file}: tensor '{key}' has {kind}; a model's weights are dense real numbers.")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{file}: tensor '{key}' holds values that are not finite; the training that wrote it diverged.")
    return NamedTensors(plain, chosen)


def refuse_pages(file: Path) -> None:
    """Raises ModelError for what is often downloaded in place of a checkpoint."""
    try:
        with file.open("rb") as opened:
            begin = opened.read(200).lstrip().lower()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.") from error
    reason = next((reason for mark, reason in _NO_CHECKPOINT.items() if begin.startswith(mark)), None)
    if reason:
        raise ModelError(f"{file} is {reason}.")


def _at_key(found: Any, key: str, file: Path) -> Any:
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            known = [str(name) for name in found] if isinstance(found, Mapping) else []
            raise BadParameter(f"{file} has nothing at key={key}.{nearest(part, known)} It has {few(known) or 'no keys'}.")
        found = found[part]
    return found


def _unnested(found: Any, ema: bool | None, file: Path) -> tuple[dict[str, Any], str]:
    """The state dict inside a training checkpoint, and what was chosen where it holds averaged weights and plain ones."""
    chosen, averaged_there = "", False
    for _ in range(_DEEPEST):
        if not isinstance(found, Mapping):
            return {}, chosen
        averaged, plain = (next((key for key in keys if isinstance(found.get(key), Mapping)), None) for keys in (_AVERAGED, _NESTS))
        key = plain if averaged is None or ema is False else averaged
        averaged_there = averaged_there or averaged is not None
        if averaged is not None and plain is not None:
            chosen = f"{'plain' if key == plain else 'averaged'} weights ({key})"
            if ema is None:
                chosen += f"; the file holds plain ones too ({plain}): ?ema=false"
                _log.warning("%s: %s", file.name, chosen)
        if key is None:
            if ema and not averaged_there:
                raise BadParameter(f"{file} holds no averaged weights ({', '.join(_AVERAGED)}); leave ?ema=true out.")
            return {str(name): value for name, value in found.items()}, chosen
        found = found[key]
    raise ModelError(f"{file}: its mappings lie in each other more than {_DEEPEST} deep.")


def _several(inner: Mapping[str, Any]) -> str:
    """What to write where a file holds mappings of tensors under keys that have no usual name."""
    sets = [key for key, value in inner.items() if isinstance(value, Mapping)]
    return f" It has mappings under {few(sets)}: say which by ?key={sets[-1]}." if sets else ""


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load_file(file))
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{file}: not a whole safetensors file: {error}") from error


def _read_pickled(file: Path) -> Any:
    _refuse_bomb(file)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm and many others keep their command line beside the weights
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        holds = f" (it needs {named[1]})" if named else ""
        raise ModelError(
            f"{file}: cannot be read as weights only{holds}, and nothing from a file is executed here. Where you trust it, save its "
            f"weights alone: safetensors.torch.save_file(model.state_dict(), 'mine.safetensors')."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise ModelError(f"{file}: not a whole checkpoint of torch.save: {error}") from error


def _refuse_bomb(file: Path) -> None:
    """Raises ModelError for an archive that unfolds to far more than it holds; torch.save compresses nothing."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    largest = max((one.file_size for one in members if one.filename.endswith(".pkl")), default=0)
    packed = sum(one.file_size for one in members if one.compress_type != zipfile.ZIP_STORED)
    if largest > _LARGEST_PICKLE or packed > _LARGEST_PACKED:
        raise ModelError(f"{file}: unfolds to far more than it holds, as nothing does that torch.save writes.")


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str, file: Path) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it. `prefix` may leave its last dot out."""
    whole = prefix if prefix.endswith(".") else f"{prefix}."
    found = {key.removeprefix(whole): value for key, value in tensors.items() if key.startswith(whole)}
    if not found:
        raise BadParameter(f"{file} has no tensor that begins with '{whole}'; its names are like {few(list(tensors))}.")
    return found


def _unprefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES * 2:  # wrappers are nested in either order
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors
