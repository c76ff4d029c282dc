"""What the logits of a model are after transforms that replace its head, told before these are applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustvit.evaluation.class_names import Logits
from robustvit.primitives.batch import Data
from robustvit.primitives.class_lookup import named_classes
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec
from robustvit.spec.written.call import called


def replaces_head(spec: Spec) -> bool:
    """Whether a bound transform replaces the head: one of `head`, at a setting that changes anything."""
    entry = lookup("transform", spec.name)
    idle = called(f"{spec.name}({entry.no_op})", "no_op").params
    return bool(entry.head) and not all(str(spec.get(key)) == str(value) for key, value in idle)


def head_of(transforms: Sequence[Spec], found: Mapping[Spec, Any], before: Logits | None = None) -> Logits | None:
    """The logits that resolved transforms leave: those of the last that replaces the head, else `before`. found: what they nest."""
    for spec in reversed(transforms):
        if replaces_head(spec):
            classes = spec.get(lookup("transform", spec.name).head)
            data = found.get(classes) if isinstance(classes, Spec) else None
            return Logits(named_classes(data.classes), len(data.classes)) if isinstance(data, Data) else Logits((), int(str(classes)))
    return before
