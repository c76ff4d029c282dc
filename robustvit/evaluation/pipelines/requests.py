"""The models that a run is asked for: each once, with the pipelines of transforms that it is asked for with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from robustvit.errors import BadParameter
from robustvit.evaluation.loading import without_pipeline
from robustvit.evaluation.pipelines.transformed import refuse_changed
from robustvit.primitives.classifier import Classifier
from robustvit.spec.model_address import parse_model, pipeline_of
from robustvit.spec.spec import Spec

Pipeline: TypeAlias = tuple[Spec, ...]
Base: TypeAlias = str | Spec | Classifier


def requested_models(models: Sequence[Base]) -> list[tuple[Base, list[Pipeline]]]:
    """Every model before its transforms, with the pipelines that it is asked for with, in the order of asking.

    models: addresses, or Classifiers that the caller made, each of which gets the fingerprint of the weights it has now. Raises
    BadParameter for a model that is asked for twice with one pipeline, and for what is neither.
    """
    found: dict[Any, tuple[Base, list[Pipeline]]] = {}
    for one in models:
        base, pipeline = _split(one)
        _, pipelines = found.setdefault(base if isinstance(base, str | Spec) else id(base), (base, []))
        if pipeline in pipelines:
            label = one.card.label if isinstance(one, Classifier) else one
            raise BadParameter(f"the model '{label}' is named twice.")
        pipelines.append(pipeline)
    return list(found.values())


def _split(model: object) -> tuple[Base, Pipeline]:
    if isinstance(model, str | Spec):
        spec = parse_model(model) if isinstance(model, str) else model
        return without_pipeline(model), pipeline_of(spec)
    if not isinstance(model, Classifier):
        raise BadParameter(
            f"models takes addresses and Classifiers; this is a {type(model).__name__}. "
            "Name the function that makes it: package.module:factory."
        )
    refuse_changed(model)
    return (model.identify(), ()) if model.origin is None else (model.origin.model.identify(), model.origin.transforms)
