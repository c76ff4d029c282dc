"""Whether a model's predictions are the labels."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier


def right_predictions(model: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """(N,) float32: 1 where the most likely class is the label, else 0; ties go to the lowest class. labels: (N,) int64."""
    with torch.no_grad():
        right: Tensor = (model(images).argmax(dim=1) == labels).float()
    return right
