"""The files of a training run beside its checkpoint, and what is said of them when it is interrupted."""

from __future__ import annotations

from pathlib import Path

from robustvit.errors import BadParameter
from robustvit.records.disk import sweep
from robustvit.training.saving import ENDING

_GOES_ON = " The same command goes on from there."


def partial_of(out: Path) -> Path:
    """The file for the weights of unfinished training. Raises BadParameter where `out` cannot be written."""
    if out.suffix != ENDING:
        raise BadParameter(f"--out is {out}; a checkpoint's name ends in {ENDING}.")
    if out.is_dir():
        raise BadParameter(f"--out is {out}, a folder; name a file in it, such as {out / 'mine.safetensors'}.")
    partial = out.with_suffix(f".partial{ENDING}")
    sweep(out.absolute().parent, of=out.name)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab"):
            pass
        if not partial.stat().st_size:
            partial.unlink()
    except OSError as error:
        raise BadParameter(f"--out is {out}; it cannot be written: {error.strerror}.") from error
    return partial


def remove_unfinished(partial: Path) -> None:
    """Removes the weights of unfinished training, unless another process that trained the same has done so."""
    try:
        partial.unlink(missing_ok=True)
    except OSError as error:
        raise BadParameter(f"{partial} cannot be removed: {error.strerror}. The trained weights are beside it, whole.") from error


def state_of(out: Path) -> Path:
    """The file for the state of unfinished training."""
    return out.with_suffix(".resume.pt")


def good_weights(finished: int, partial: Path) -> str:
    """Where the weights are of the last epoch before training failed. finished: whole epochs."""
    return f" The weights after epoch {finished} are in {partial}." if finished else ""


def interrupted(finished: int, epochs: int, partial: Path, state: Path) -> str:
    """What a KeyboardInterrupt says. finished: whole epochs."""
    if not finished:
        return "stopped before the end of the first epoch: there are no weights to keep." + (_GOES_ON if state.exists() else "")
    return f"stopped after epoch {finished} of {epochs}; the weights of that epoch are in {partial}.{_GOES_ON}"
