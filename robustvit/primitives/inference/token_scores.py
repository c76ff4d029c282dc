"""Scores of classes from single tokens: the last norm and the head of a plain vision transformer, applied to a token by itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier
from robustvit.primitives.inference.keyed import BoundClassifier
from robustvit.primitives.surgery.hosts import plain_vit, why_not_host


def readout(model: Classifier, tokens: Tensor) -> Tensor:
    """(n, T, D) tokens → (n, D): the token that the head reads: the class token, or the mean of the patch tokens before their norm.

    Raises HostRefused as `token_scores`.
    """
    vit = _with_head(model)
    return tokens[:, 0] if vit.global_pool == "token" else tokens[:, vit.num_prefix_tokens :].mean(dim=1)


def token_scores(model: Classifier, tokens: Tensor) -> Tensor:
    """(…, D) tokens of any block → (…, K) scores of the classes: the last norm, then the head; two heads are averaged.

    Classes are those of the model's outputs: of a ReadClassifier, the data's. Raises HostRefused for another model than timm's plain vision
    transformer with a head that reads one token or the mean of the patches.
    """
    vit = _with_head(model)
    normed = vit.fc_norm(vit.norm(tokens))
    heads = [vit.head, *([vit.head_dist] if hasattr(vit, "head_dist") else [])]
    scores: Tensor = sum(head(normed) for head in heads) / len(heads)
    read = _read(model, scores.flatten(0, -2))
    return read.reshape(*scores.shape[:-1], read.shape[-1])


def _with_head(model: Classifier) -> Any:
    why = why_not_host("blocks", model)
    vit: Any = plain_vit(model.model)
    if not why and (getattr(vit, "attn_pool", None) is not None or vit.global_pool not in ("token", "avg")):
        why = f"pools its tokens by '{vit.global_pool}'"
    if not why and not getattr(vit, "num_classes", 0):
        why = "has no head"
    if why:
        raise HostRefused(
            "scores of single tokens are those of timm's plain vision transformers whose head reads the class token or the mean of the "
            f"patches, and '{model.card.label}' is none: it {why}."
        )
    return vit


def _read(model: Classifier, scores: Tensor) -> Tensor:
    """(n, outputs of the module) → (n, outputs of the Classifier)."""
    if isinstance(model, BoundClassifier):
        return _read(model.host, scores)
    return model.reading.read(_read(model.host, scores)) if isinstance(model, ReadClassifier) else scores
