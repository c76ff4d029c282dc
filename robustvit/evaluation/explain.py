"""Attribution maps of any model in one call, for loops of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from robustvit.errors import BadParameter, nearest, with_article
from robustvit.primitives.attribution.methods import Attribution, attribution, tiled_logits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.pixels import check_pixels
from robustvit.spec.coercion import check_seed


def explain(
    model: Classifier, images: Tensor, name: Attribution = "legrad", classes: Tensor | None = None, *, seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Tensor:  # fmt: skip
    """How much each patch of some images counts for a class: attribution maps (N, rows, columns) float32, at least 0.

    model: a Classifier, as robustvit.load_model gives. images: (N, 3, H, W) float in [0, 1], not normalised, of the model's size. name:
    `legrad`, `rollout`, `gradient` (input times gradient), `gradcam`, `identifiability`, or, to compare with, `random` and `centre`.
    classes: (N,) which class is explained, default the one that the model predicts. ids: names that key random draws, default 0 … N − 1.
    Scales differ between methods and images: compare orders. Raises BadParameter, PixelRange, and HostRefused or ModelError for a model
    that the method does not take.
    """
    if not isinstance(model, Classifier):
        raise BadParameter(f"explain takes a Classifier; this is {with_article(type(model).__name__)}. robustvit.load_model makes one.")
    if name not in get_args(Attribution):
        raise BadParameter(
            f"no attribution is called '{name}'.{nearest(str(name), get_args(Attribution))} {', '.join(get_args(Attribution))}."
        )
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images) or not images.is_floating_point():
        kind = f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else with_article(type(images).__name__)
        raise BadParameter(f"explain takes one image or more, a floating-point tensor (N, 3, H, W) in [0, 1]; this is {kind}.")
    check_pixels(images, "the images given to explain")
    check_seed(seed, "seed")
    names = tuple(str(row) for row in range(len(images))) if ids is None else tuple(ids)
    if len(names) != len(images):
        raise BadParameter(f"explain got {len(images)} images and {len(names)} ids.")
    host = keyed_by(model, draws := Draws(seed, "explain", names, images.device))
    logits = tiled_logits(host, images.float())
    return attribution(name, host, images.float(), logits.argmax(dim=1) if classes is None else _checked(classes, logits), draws)


def _checked(classes: Tensor, logits: Tensor) -> Tensor:
    """The classes on the logits' device. Raises BadParameter for what are none of the model's."""
    if not isinstance(classes, Tensor) or classes.shape != logits.shape[:1] or classes.is_floating_point() or classes.dtype == torch.bool:
        kind = f"{tuple(classes.shape)} {classes.dtype}" if isinstance(classes, Tensor) else with_article(type(classes).__name__)
        raise BadParameter(f"classes are whole numbers, a tensor ({len(logits)},), one for each image; this is {kind}.")
    if not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
        raise BadParameter(f"classes span {int(classes.min())} … {int(classes.max())}; the model has classes 0 … {logits.shape[1] - 1}.")
    return classes.to(logits.device, torch.int64)
