"""A name for the data set that a run evaluates on, for what is nested in a suite's transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter
from robustvit.spec.registry import dataset


@dataset(
    source="the run itself", licence="that of the evaluated data",
    rules="Names the data of a run inside its transforms, where nothing else is known of it: calibration=evaluated?split=train.",
)  # fmt: skip
def evaluated(root: Path | None, *, split: str | None = None, part: str | None = None) -> Any:
    """The data set that a run evaluates on, another split or part of it, inside a transform: `calibration: evaluated?split=train`.

    split, part: replace those of the evaluated data, of which the first is taken where a suite has several. So that one suite calibrates on
    the training images of whatever data it is run on. Raises BadParameter anywhere else: by itself it names nothing.
    """
    raise BadParameter("'evaluated' names the data of a run, inside its transforms; name a data set, such as digits?split=train.")
