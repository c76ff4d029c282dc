"""Transforms applied to a Classifier, one after another: the one place where they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from robustvit.errors import ModelError, with_article
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.scenario import parameters
from robustvit.primitives.surgery.hosts import check_host
from robustvit.primitives.surgery.shift_guarantee import keep_guarantee
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec

DIGESTS = "robustvit.images"  # in what a transform learned: (n, 16) uint8, of the images that it was shown


def apply_transform(
    model: Classifier, spec: Spec, plugins: Mapping[str, Any] | None = None, artifact: Mapping[str, Tensor] | None = None
) -> Classifier:  # fmt: skip
    """The new Classifier that a bound transform makes of a model, which is untouched; its card names the transform after the model's own.

    plugins: what its plug-in parameters were resolved to, by name. artifact: what its `fit` learned of other samples, with their DIGESTS
    where they are known, which the model keeps and the transform does not see. Raises HostRefused where the transform does not take this
    kind of model, or ends what an anchored one promises; ModelError where it returns no new Classifier.
    """
    entry = lookup("transform", spec.name, spec.where)
    check_host(spec.name, entry.hosts, model)
    learned = dict(artifact or {})
    made = entry.load()(model, *((_without_digests(learned),) if entry.fit else ()), **parameters(spec, plugins))
    if not isinstance(made, Classifier) or made is model:
        what = "the very model that it was given" if made is model else f"{with_article(type(made).__name__)}"
        raise ModelError(f"transform '{spec.name}' must return a new Classifier; it returned {what}.")
    keep_guarantee(spec.name, model, made)
    own = {"classes": made.card.classes, "headless": made.card.headless} if entry.head else {}
    made.card = replace(model.card, transforms=(*model.card.transforms, spec), **own)  # type: ignore[arg-type]
    made.learned = (*model.learned, learned)
    return made


def _without_digests(artifact: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in artifact.items() if name != DIGESTS}
