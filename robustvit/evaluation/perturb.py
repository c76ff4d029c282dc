"""Applies any corruption or attack by name, for loops of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robustvit.errors import BadParameter, with_article
from robustvit.evaluation.evaluate import as_tensors
from robustvit.evaluation.pipelines.fit import fit
from robustvit.evaluation.pipelines.nested import in_numbers, loaded_plugins
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.pixels import check_pixels
from robustvit.primitives.scenario import scenario, stream
from robustvit.primitives.scenarios.attack import AttackScenario
from robustvit.primitives.surgery.heads import refuse_headless
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.coercion import check_seed
from robustvit.spec.spec import Spec, parse
from robustvit.spec.suite import links

_PIXELS = "robustvit.pixels makes such of uint8 images (N, H, W, 3)."
_INDICES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def perturb(
    model: Classifier | None,
    images: Tensor,
    labels: Tensor | None,
    name: str,
    *,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    **params: Any,
) -> Tensor:
    """The images after the corruption or attack called `name`.

    images: (N, 3, H, W) float in [0, 1], not normalised. labels: (N,) class indices; corruptions need neither them nor a model. params:
    the plug-in's own, as in a suite file (`eps="4/255"`, `severity=3`); a nested model may be a Classifier. ids: names that key the random
    draws, default 0 … N − 1: the same id gets the same numbers in any batch. An attack leaves images alone that the model already
    misclassifies; one that reads no labels (`label_free`, as on features) changes them all, and its labels may be None. Raises UnknownName,
    BadParameter, PixelRange or BudgetExceeded.
    """
    _refuse_types(images, labels, name, model.channels if isinstance(model, Classifier) else 3)
    given = {key: value for key, value in params.items() if isinstance(value, Classifier)}
    specs = parse({name: {key: value.card.label if key in given else value for key, value in params.items()}})
    if len(specs) != 1:
        raise BadParameter(
            f"perturb does one thing; the lists among {', '.join(params)} stand for {len(specs)}. One value that is a sequence is [[…]]."
        )
    (spec,) = specs
    check_seed(seed, "seed")
    entry = registry.scenario_entry(name)
    bound = in_numbers(bind(entry, spec), model, (images.shape[2], images.shape[3]))
    if entry.kind not in ("corruption", "attack"):
        raise BadParameter(f"'{name}' is a {entry.kind}; perturb takes a corruption or an attack.")
    if entry.kind == "attack" and (model is None or (labels is None and not entry.label_free)):
        raise BadParameter(f"the attack '{name}' needs a model{'' if entry.label_free else ' and labels'}.")
    if model is not None and not isinstance(model, Classifier):
        raise BadParameter(
            f"perturb takes a Classifier; this is {with_article(type(model).__name__)}. robustvit.load_model makes one, of "
            "package.module:factory too."
        )
    check_pixels(images, "the images given to perturb")
    names = tuple(str(i) for i in range(len(images))) if ids is None else _names(ids)
    if len(names) != len(images) or (labels is not None and len(labels) != len(images)):
        raise BadParameter(f"perturb got {len(images)} images, {len(names)} ids and {0 if labels is None else len(labels)} labels.")
    if model is not None and entry.kind == "attack" and not entry.label_free:
        refuse_headless(model, f"attack '{name}' reads logits")
    if model is not None and labels is not None and not entry.label_free:
        _refuse_classes(model, labels)
    targets = torch.zeros(len(images), dtype=torch.int64, device=images.device) if labels is None else labels.to(images.device)
    batch = Batch(images.float(), targets, names)
    host: Any = None if model is None else model.to(images.device)
    if entry.chain:
        return _chained(host, batch, bound, seed)
    plugins = loaded_plugins(bound, given)
    fitted = fit(host, host.view, bound, seed, plugins) if entry.fit else {}
    draws = Draws(seed, stream(bound), names, images.device)
    does = scenario(entry, bound, plugins, as_tensors(fitted))
    every = does.craft_all if isinstance(does, AttackScenario) and entry.label_free else None
    outcome = does(host, batch, draws) if every is None else every(host, batch, draws, read=False)
    assert outcome.images is not None
    return outcome.images


def _refuse_types(images: object, labels: object, name: object, channels: int) -> None:
    """Raises BadParameter for what is no batch of images, no class indices, or no name."""
    if not isinstance(name, str):
        raise BadParameter(f"perturb takes the name of a corruption or an attack; this is {with_article(type(name).__name__)}.")
    if not isinstance(images, Tensor):
        raise BadParameter(f"images are a tensor (N, 3, H, W) in [0, 1]; these are {with_article(type(images).__name__)}. {_PIXELS}")
    if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape[2:]:
        raise BadParameter(f"images are (N, {channels}, H, W); these are {tuple(images.shape)}. One image is images[None].")
    if not images.is_floating_point() or images.is_meta or images.layout != torch.strided:
        raise BadParameter(f"images are dense floating-point pixels in [0, 1]; these are {images.dtype} on {images.device}. {_PIXELS}")
    if labels is None:
        return
    if not isinstance(labels, Tensor) or labels.is_meta or labels.dtype not in _INDICES or labels.ndim != 1:
        kind = f"{tuple(labels.shape)} {labels.dtype}" if isinstance(labels, Tensor) else f"{with_article(type(labels).__name__)}"
        raise BadParameter(f"labels are class indices, a tensor (N,) of whole numbers; these are {kind}. Write torch.as_tensor(labels).")


def _refuse_classes(model: Classifier, labels: Tensor) -> None:
    """Raises BadParameter for labels that are none of the model's classes."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < model.outputs:
        raise BadParameter(f"labels span {int(labels.min())} … {int(labels.max())}; the model has classes 0 … {model.outputs - 1}.")


def _names(ids: object) -> tuple[str, ...]:
    if isinstance(ids, str) or not isinstance(ids, Sequence) or not all(isinstance(one, str) for one in ids):
        raise BadParameter("ids are texts, one for each image: ids=['a', 'b'].")
    return tuple(ids)


def _chained(model: Classifier, batch: Batch, chain: Spec, seed: int) -> Tensor:
    """The images that a chain of attacks leaves, each run on the samples that those before it did not make the model misclassify."""
    images = batch.images.clone()
    for spec in links(chain):
        with torch.no_grad():
            clean = keyed_by(model, Draws(seed, stream(spec), batch.ids, images.device))
            rows = (clean(images).argmax(dim=1) == batch.labels).nonzero().flatten()
        if len(rows):
            part = batch[rows]
            outcome = scenario(registry.scenario_entry(spec.name), spec)(model, part, Draws(seed, stream(spec), part.ids, images.device))
            assert outcome.images is not None
            images[rows] = outcome.images
    return images
