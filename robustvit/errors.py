"""What robustvit raises.

    RobustvitError
    ├── UsageError              the request itself is wrong (exit code 2)
    │   ├── UnknownName         a name nobody registered
    │   ├── CodeRefused         a name of code, in a file that may not name any
    │   ├── BadParameter        a parameter that is unknown, missing, of the wrong type or out of range
    │   └── SuiteError          a suite file that is incomplete or wrong
    ├── ModelError              a model cannot be loaded as requested
    │   ├── WeightsUnavailable  its weights are not here and cannot be fetched
    │   ├── CheckpointMismatch  a checkpoint's tensors do not fit the architecture
    │   ├── HostRefused         a transform or scenario does not take this kind of model
    │   └── GradientAbsent      it gives an attack no gradient to follow
    ├── DataError               a data set cannot be opened as requested
    │   ├── DataMissing         nothing, or too little, where it should be
    │   └── DataUnreadable      images or labels that cannot be read
    ├── PixelRange              images outside [0, 1], or not finite
    ├── BudgetExceeded          a perturbation larger than its budget
    ├── StoreError              a store cannot be read or written
    │   ├── StoreTooNew         written by a newer schema
    │   ├── StoreDamaged        a file in it is not whole
    │   └── StoreFull           no room left on the disk, or no right to write
    ├── MetricUndefined         a metric has no value here
    │   ├── NotApplicable       its question does not fit this data or model
    │   └── MissingCells        the store lacks cells it needs
    └── MissingExtra            a package is not installed: of an extra, or of those that tables do without (requirements/board.txt)

Every message says where, what was wrong, what is allowed and the nearest valid name. A RobustvitError is a user's mistake or a
fact about their machine: the command line prints it without a traceback. Anything else is a defect of robustvit.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence


class RobustvitError(Exception):
    """Base of all errors of robustvit; its message says what a user can do."""

    exit_code = 1


class UsageError(RobustvitError):
    """The request itself is wrong."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that nobody registered."""


class CodeRefused(UsageError):
    """A name of code in a suite or a store, which may come from others."""


class BadParameter(UsageError):
    """A parameter that is unknown, missing, of the wrong type or out of range."""


class SuiteError(UsageError):
    """A suite file that is incomplete or wrong."""


class ModelError(RobustvitError):
    """A model cannot be loaded as requested."""


class WeightsUnavailable(ModelError):
    """Weights that are not on this machine and cannot be fetched."""


class CheckpointMismatch(ModelError):
    """A checkpoint whose tensors do not fit the architecture."""


class DataError(RobustvitError):
    """A data set cannot be opened as requested."""


class DataMissing(DataError):
    """Nothing, or too little, where a data set should be."""


class DataUnreadable(DataError):
    """Images or labels that cannot be read."""


class PixelRange(RobustvitError):
    """Images outside [0, 1], or not finite."""


class HostRefused(ModelError):
    """A transform or a scenario does not take this kind of model, or so few samples: the cell is undefined, which is no fault of either."""


class GradientAbsent(ModelError):
    """A model gives an attack no input gradients to follow, so that what it survives says nothing."""


class BudgetExceeded(RobustvitError):
    """A perturbation larger than its budget."""


class StoreError(RobustvitError):
    """A store cannot be read or written."""


class StoreTooNew(StoreError):
    """A store written by a newer schema than this robustvit reads."""


class StoreDamaged(StoreError):
    """A file in a store is not whole."""


class StoreFull(StoreError):
    """No room left on the disk, or no right to write there."""


class WorkersLost(RobustvitError):
    """Processes or machines that were to compute a run cannot be reached, or ended before it was done."""


class MetricUndefined(RobustvitError):
    """A metric has no value here; the message is the reason that tables show."""


class NotApplicable(MetricUndefined):
    """A metric whose question does not fit this data or model."""


class MissingCells(MetricUndefined):
    """A metric over several cells, some of which the store lacks."""


class MissingExtra(RobustvitError):
    """An optional dependency that is not installed, or one that tables of stored records do without."""


ONLY_COMPUTING = {
    "torch": "torch", "torchvision": "torchvision", "timm": "timm", "sklearn": "scikit-learn", "numba": "numba",
}  # fmt: skip
"""Dependencies that requirements/board.txt leaves out: modules, and the packages that have them."""


@contextlib.contextmanager
def whole_install_needed(by: str) -> Iterator[None]:
    """Raises MissingExtra where the block imports one of `ONLY_COMPUTING` that is not installed. by: what needs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = ONLY_COMPUTING.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise MissingExtra(f"{by} needs {package}, which is not installed: python3 -m pip install robustvit.") from error


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint naming the options closest to `name`: " Did you mean 'eps'?", or "" when none is close."""
    close = difflib.get_close_matches(name, list(options), n=3, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(f"'{option}'" for option in close) + "?"


def with_article(noun: str) -> str:
    """A noun behind its indefinite article, by its first letter: "an Eva", "a list"."""
    return f"{'an' if noun[:1].lower() in tuple('aeiou') else 'a'} {noun}"


_NAMED = 5  # names a message spells out


def few(names: Sequence[str]) -> str:
    """The first few names, and how many more there are: "a.png, b.png and 17 more"."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
