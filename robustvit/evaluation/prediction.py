"""The predictions of the images that a scenario made, held against what the scenario saw, and judged afresh for random models."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.errors import ModelError
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import JUDGEMENTS, judges
from robustvit.primitives.reading import Reading

_ROUNDING = 1e-3  # relative: a margin below it may change its sign with the order of sums


def predicted_logits(images: Tensor, model: Classifier, batch: Batch) -> Tensor:
    """The model's logits; raises ModelError where one is not a finite number, which no prediction could be read from."""
    with torch.no_grad():
        logits: Tensor = model(images)
    broken = ~torch.isfinite(logits).all(dim=1)
    if bool(broken.any()):
        first = batch.ids[int(broken.nonzero()[0])]
        raise ModelError(
            f"model '{model.card.label}' gives logits that are not finite numbers for {int(broken.sum())} samples, first {first}."
        )
    return logits


def judged_afresh(images: Tensor, model: Classifier, batch: Batch, draws: Draws, reading: Reading) -> dict[str, Tensor]:
    """The columns `draws` and `draws_right`: under how many new draws of its own a random model predicts each image, and how often rightly.

    A deterministic model has neither.
    """
    right = [reading.read(predicted_logits(images, judge, batch)).argmax(dim=1) == batch.labels for judge in judges(model, draws)]
    if not right:
        return {}
    return {"draws": torch.full_like(batch.labels, JUDGEMENTS), "draws_right": torch.stack(right).sum(dim=0)}


def check_seen(seen: Tensor | None, logits: Tensor, batch: Batch, model: Classifier, scenario: str) -> None:
    """Raises ModelError where a prediction is not the one that the scenario saw of the same image, by more than rounding.

    seen: as `Outcome.seen`. logits: as the data's first reading reads them.
    """
    if seen is None:
        return
    own = logits.gather(1, batch.labels[:, None])[:, 0]
    others = logits.scatter(1, batch.labels[:, None], -torch.inf).amax(dim=1)
    beyond = (own - others).abs() > _ROUNDING * (1.0 + logits.abs().amax(dim=1))
    apart = (seen >= 0) & ((seen == 1) != (logits.argmax(dim=1) == batch.labels)) & beyond
    if bool(apart.any()):
        first = batch.ids[int(apart.nonzero()[0])]
        raise ModelError(
            f"model '{model.card.label}' predicts {int(apart.sum())} of {len(batch)} images otherwise than '{scenario}' saw it "
            f"predict the same pixels, first {first}: its predictions depend on other rows of a batch, or on chance that nothing keys. Put "
            "layers that use batch statistics into evaluation mode, and let `bound(draws)` of a Classifier key what is random."
        )
