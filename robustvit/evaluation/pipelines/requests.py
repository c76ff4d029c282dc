"""The models that a run is asked for: each once, with the pipelines of transforms that it is asked for with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from torch import nn

from robustvit.errors import BadParameter, with_article
from robustvit.evaluation.loading import default_tile, without_pipeline
from robustvit.evaluation.pipelines.transformed import refuse_changed
from robustvit.primitives.classifier import Classifier
from robustvit.spec.model_address import parse_model, pipeline_of
from robustvit.spec.spec import Spec

Pipeline: TypeAlias = tuple[Spec, ...]
Base: TypeAlias = str | Spec | Classifier
Model: TypeAlias = str | Spec | nn.Module
"""A model as a caller names it: an address, a Classifier, or any other module, which becomes one by its defaults."""


def requested_models(models: Sequence[Base]) -> list[tuple[Base, list[Pipeline]]]:
    """Every model before its transforms, with the pipelines that it is asked for with, in the order of asking.

    models: addresses, or Classifiers that the caller made, each of which gets the fingerprint of the weights it has now. Raises
    BadParameter for a model that is asked for twice with one pipeline.
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


def refuse_same_labels(labels: Sequence[str], models: Sequence[Base]) -> None:
    """Raises BadParameter where two models have one name in tables, with how to name those that a caller made."""
    label = next((one for one in labels if labels.count(one) > 1), None)
    if label is not None:
        made = any(isinstance(one, Classifier) and one.card.label == label for one in models)
        hint = " Give a module of yours another name: rv.Classifier(module, name=…)." if made else ""
        raise BadParameter(f"the model '{label}' is named twice.{hint}")


def given_models(models: object) -> list[Base]:
    """The models of a call: addresses and Classifiers as they are, other modules as Classifiers.

    Raises BadParameter for what is no list of models, for an empty one, and for what is no model.
    """
    if isinstance(models, str | Spec | nn.Module):
        shown = repr(models) if isinstance(models, str | Spec) else models.card.label if isinstance(models, Classifier) else "module"
        raise BadParameter(f"models takes a list; write models=[{shown}].")
    if not isinstance(models, Sequence):
        raise BadParameter(f"models takes a list of addresses, modules and Classifiers; this is {with_article(type(models).__name__)}.")
    if not models:
        raise BadParameter("no model was named; give one with --model, for instance --model demo.")
    return [given_model(one) for one in models]


def given_model(model: object) -> Base:
    """A model of a call. Raises BadParameter for what is none."""
    if isinstance(model, str | Spec | Classifier):
        return model
    if not isinstance(model, nn.Module):
        raise BadParameter(f"a model is an address, a module or a Classifier; this is {with_article(type(model).__name__)}.")
    made = Classifier(model)
    return made.configure(tile=default_tile(made))


def _split(model: Base) -> tuple[Base, Pipeline]:
    if isinstance(model, str | Spec):
        spec = parse_model(model) if isinstance(model, str) else model
        return without_pipeline(model), pipeline_of(spec)
    refuse_changed(model)
    return (model.identify(), ()) if model.origin is None else (model.origin.model.identify(), model.origin.transforms)
