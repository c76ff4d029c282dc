"""A model with its pipeline of transforms: from Python by name, or as the cells of a plan name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from robustvit.errors import BadParameter, with_article
from robustvit.evaluation.class_names import Logits
from robustvit.evaluation.evaluate import as_tensors
from robustvit.evaluation.pipelines.fit import fit
from robustvit.evaluation.pipelines.heads import replaces_head
from robustvit.evaluation.pipelines.nested import Place, nested_of, resolved_pipeline, view_of
from robustvit.evaluation.settings import Settings
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import fingerprint
from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.spec import registry
from robustvit.spec.coercion import check_seed
from robustvit.spec.spec import Spec, parse
from robustvit.spec.written.pipeline import bind_pipeline, shown_steps, write_pipeline

Artifact = Mapping[str, Tensor]


class Origin(NamedTuple):
    """What a transformed Classifier was made of: the model before all its bound transforms, what these nest, its own fingerprint then."""

    model: Classifier
    transforms: tuple[Spec, ...]
    nested: Mapping[Spec, Any]
    fingerprint: str


def transformed(model: Classifier, transform: str | Spec, /, *, seed: int = 0, **params: Any) -> Classifier:
    """The model after one transform, a new Classifier: `transformed(model, "tome", r=8)`. The model is untouched.

    transform: a name, or as after a model's address (`"tome(r=8)"`). params: its own, as in a suite file; a nested data set or model is
    given by its address. One that learns, learns now, with this seed. A run on the result names its cells as those of an address or a suite
    that asks for the same. Raises UnknownName, BadParameter, or HostRefused for a model that the transform does not take.
    """
    if not isinstance(model, Classifier):
        raise BadParameter(
            f"transformed takes a Classifier; this is {with_article(type(model).__name__)}. rv.load_model makes one of an address."
        )
    check_seed(seed, "seed")
    (bound,) = bind_pipeline([_with_params(transform, params)], "transformed")
    return with_pipeline(model, (bound,), seed)


def with_pipeline(model: Classifier, transforms: Sequence[Spec], seed: int = 0) -> Classifier:
    """The model after bound transforms, in order, with what it was made of in its `origin`. Those that learn, learn now."""
    base, before, found, _ = model.origin or Origin(model, (), {}, "")
    found = dict(found)
    replaced = any(map(replaces_head, before))
    place = Place(base, Settings(device=str(base.device), batch_size=base.tile), head=_logits_of(model) if replaced else None)
    made = model
    for spec in resolved_pipeline(transforms, place, found):
        made = apply_transform(made, spec, nested_of(spec, found), learned(made, spec, seed, found))
    made.origin = Origin(base, (*before, *transforms), found, fingerprint(made.model))
    return made.relabel(base.card.label + write_pipeline(shown_steps(made.origin.transforms))).configure(
        tile=model.tile, precision=model.precision
    )


def pipeline_host(
    model: Classifier, transforms: Sequence[Spec], found: Mapping[Spec, Any], artifact: Callable[[int], Artifact]
) -> Classifier:  # fmt: skip
    """The model after resolved transforms, in order, named with them. found: what they nest. artifact: what the one at a place learned."""
    label = model.card.label
    for place, spec in enumerate(transforms):
        own = artifact(place) if registry.lookup("transform", spec.name).fit else None
        model = apply_transform(model, spec, nested_of(spec, found), own)
    return model.relabel(label + write_pipeline(shown_steps(transforms))) if transforms else model


def learned(model: Classifier, spec: Spec, seed: int, found: Mapping[Spec, Any], workers: int = 0) -> Artifact | None:
    """What a resolved transform learns of the model that it is to be applied to, in float32; None where it learns nothing."""
    if not registry.lookup("transform", spec.name).fit:
        return None
    nested = nested_of(spec, found)
    data = next((one for one in nested.values() if isinstance(one, Data)), None)
    with model.in_float32():
        return as_tensors(fit(model, model.view if data is None else view_of(model, data), spec, seed, nested, workers))


def _logits_of(model: Classifier) -> Logits:
    return Logits(model.card.classes, model.outputs)


def refuse_changed(model: Classifier) -> None:
    """Raises BadParameter for a transformed model whose own weights were changed since: a run would make it anew without that."""
    if model.origin is not None and fingerprint(model.model) != model.origin.fingerprint:
        raise BadParameter(
            f"the weights of '{model.card.label}' were changed after its transforms, and a run makes it anew from the model before them. "
            "Save it as a checkpoint and name that, or give rv.Classifier its module."
        )


def _with_params(transform: str | Spec, params: Mapping[str, Any]) -> str | Spec:
    for key, value in params.items():
        if isinstance(value, Classifier) or (isinstance(value, Data) and not isinstance(value, str)):
            raise BadParameter(
                f"{key} is {with_article(type(value).__name__)}; it takes its address, such as digits?split=train or vit_b16."
            )
    if not params:
        return transform
    if isinstance(transform, Spec) or not transform.replace("_", "").isalnum():
        raise BadParameter(f"the arguments of '{transform}' are given twice: in it, and as {', '.join(params)}.")
    found = parse({transform: dict(params)})
    if len(found) != 1:
        raise BadParameter(f"the lists stand for {len(found)} transforms, and transformed makes one; a value that is a sequence is [[…]].")
    return found[0]
