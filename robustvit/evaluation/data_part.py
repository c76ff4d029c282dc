"""A part of a data set, itself a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robustvit.errors import DataMissing
from robustvit.primitives.batch import Data, Sample, Traits, described, traits
from robustvit.spec.parts import PARAMETER, in_part
from robustvit.spec.sample_order import Frames


class DataPart:
    """The samples of a data set that are in the part of that name, in its order; see robustvit.spec.parts.

    Classes, readings and ids are the whole set's; name and base, `digits?part=calibration`, and the fingerprint tell the part, so that no
    table puts two parts, or a part and the whole, into one row. Raises DataMissing where it has no sample.
    """

    def __init__(self, whole: Data, part: str) -> None:
        clips = isinstance(whole.ids, Frames)
        names = whole.ids.clips if isinstance(whole.ids, Frames) else whole.ids
        chosen = np.flatnonzero(in_part(names, part))
        if not len(chosen):
            raise DataMissing(f"data '{whole.name}' has no sample in its part '{part}'; it has {len(whole)} in all.")
        self.whole, self.readings, self.classes = whole, whole.readings, whole.classes
        self.name = _of_part(whole.name, part)
        self.source: str = whole.source
        each = whole.ids.each if isinstance(whole.ids, Frames) else 1
        kept = [names[i] for i in chosen.tolist()]
        self.ids: Sequence[str] = Frames(kept, each) if clips else tuple(kept)
        self.places = (chosen[:, None] * each + np.arange(each)).reshape(-1)
        self.labels: np.ndarray = np.asarray(whole.labels)[self.places]
        self.fingerprint = hashlib.sha256(f"{whole.fingerprint}/{PARAMETER}={part}".encode()).hexdigest()
        self.ignored = getattr(whole, "ignored", "")
        own = traits(whole)
        facts = {name: [values[i] for i in self.places.tolist()] for name, values in own.facts.items()}
        self.traits: Traits = replace(own, base=_of_part(own.base, part), expected=None, facts=facts)

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        return self.whole[int(self.places[index])]


def _of_part(name: str, part: str) -> str:
    return f"{name}?{PARAMETER}={part}" if name else ""
