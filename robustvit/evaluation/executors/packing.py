"""A run as bytes for workers in other processes, with the folders in which Python finds modules, and how they begin."""

from __future__ import annotations

import os
import pickle
import sys

from robustvit.errors import UsageError
from robustvit.evaluation.executors.shares import ShareOutcome
from robustvit.evaluation.executors.workers import RunRequest, compute_share


def packed(request: RunRequest) -> bytes:
    """Raises UsageError for a model or data that cannot be sent."""
    try:
        content = pickle.dumps(request)
        pickle.loads(content)
    except (pickle.PicklingError, AttributeError, TypeError, ImportError, RecursionError) as error:
        raise UsageError(
            f"what is evaluated cannot be sent to other processes ({error}). Name the model and the data by their addresses: "
            "package.module:factory, file:PATH?arch=NAME, folder:PATH."
        ) from error
    return pickle.dumps((os.getcwd(), sys.path, content))


def share_of_packed(content: bytes, index: int, device: str | None = None) -> ShareOutcome:
    """`compute_share` of what `packed` made, in the folder where the run was started, if this machine has it."""
    folder, places, inner = pickle.loads(content)
    if os.path.isdir(folder):
        os.chdir(folder)
    sys.path += [place for place in places if place not in sys.path]
    return compute_share(pickle.loads(inner), index, device)
