"""Reads the named tensors of a checkpoint file, whatever they are wrapped in. Nothing from the file is executed."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from robustvit.errors import ModelError

_NESTS = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "net")  # averaged weights first
_PREFIXES = ("module.", "_orig_mod.", "model.")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint, out of the usual nests and without the usual prefixes, floating ones as float32.

    Raises ModelError for a file that is damaged, holds no tensors, or could only be read by running code from it.
    """
    found: Any = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickled(file)
    tensors = {key: value for key, value in unnested(found).items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(f"{file}: holds no named tensors.")
    plain = {key: value.float() if value.is_floating_point() else value for key, value in _unprefixed(tensors).items()}
    for key, value in plain.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{file}: tensor '{key}' holds values that are not finite; the training that wrote it diverged.")
    return plain


def unnested(found: Any) -> dict[str, Any]:
    """The state dict inside a training checkpoint: averaged weights before plain ones."""
    while isinstance(found, Mapping):
        inner = next((found[key] for key in _NESTS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            return {str(key): value for key, value in found.items()}
        found = inner
    return {}


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load_file(file))
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{file}: not a whole safetensors file: {error}") from error


def _read_pickled(file: Path) -> Any:
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
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{file}: not a whole checkpoint of torch.save: {error}") from error


def _unprefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES * 2:  # wrappers are nested in either order
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors
