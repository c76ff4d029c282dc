"""The whole state of a training run between two steps, and its file, from which a killed run goes on to the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustvit.errors import BadParameter, StoreFull
from robustvit.records.disk import write_output

_VERSION = 2


@dataclass(frozen=True)
class TrainingState:
    """step: of the next one; losses: the mean of every whole epoch; total: the sum over the steps of the epoch that was begun.

    model, averaged, optimizer: their state dicts; averaged is the running mean of the weights, None without one. defenses: what each keeps
    from step to step. generators: for each process those of torch, on the CPU and its GPU. scaling: the factor
    of the loss in float16, and how long it has stood.
    """

    step: int
    losses: tuple[float, ...]
    total: float
    model: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor] | None
    optimizer: Mapping[str, Any]
    defenses: Mapping[str, Mapping[str, Tensor]]
    generators: tuple[tuple[Tensor, ...], ...]
    scaling: tuple[float, int]


def generator_states(device: torch.device) -> tuple[Tensor, ...]:
    """The states of torch's generators, on the CPU and on a GPU."""
    return (torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else []))


def set_generators(states: tuple[Tensor, ...], device: torch.device) -> None:
    """Puts the states of torch's generators back."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def write_state(path: Path, state: TrainingState, question: Mapping[str, str]) -> None:
    """Writes the file whole or not at all. question: all that the training depends on, by name. Raises StoreFull where there is no room."""
    buffer = io.BytesIO()
    torch.save({"version": _VERSION, "question": dict(question), **vars(state)}, buffer)
    try:
        write_output(path, buffer.getvalue())
    except OSError as error:
        left = " The last one that was is there, and the same command goes on from it." if path.is_file() else ""
        raise StoreFull(f"the state of training after step {state.step} cannot be written to {path}: {error.strerror}.{left}") from error


def read_state(path: Path, question: Mapping[str, str]) -> TrainingState | None:
    """The state in a file, None where there is no file.

    Raises BadParameter where the file is of another training, which it names, or is no such file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadParameter(f"{path} cannot be read: {error.strerror}.") from error
    try:
        found = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        kept, version = found.pop("question"), found.pop("version")
        state = TrainingState(**found)
    except Exception as error:  # torch.load raises whatever unpickling meets
        raise BadParameter(f"{path} is no state of training ({type(error).__name__}); remove it to begin anew.") from error
    _refuse_another(path, state, {**kept, "version": str(version)}, {**question, "version": str(_VERSION)})
    return state


def _refuse_another(path: Path, state: TrainingState, kept: Mapping[str, str], asked: Mapping[str, str]) -> None:
    """Raises BadParameter where a state is of another training than is asked for."""
    differing = [name for name in asked if kept.get(name) != asked[name]]
    if differing:
        first = differing[0]
        more = f" ({len(differing) - 1} more differ)" if len(differing) > 1 else ""
        raise BadParameter(
            f"{path} is of another training, stopped before step {state.step}: its {first} is {kept.get(first)}, and this one's "
            f"{asked[first]}{more}. Give the same options to go on from it, another --out, or remove the file to begin anew."
        )
