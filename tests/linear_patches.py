"""A model that is linear in its patches, with tokens to remove: the logit of class 1 is the sum of w_p times the mean of patch p."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.spec.spec import Spec
from robustvit.spec.view import View


class LinearPatches(nn.Module):
    """Two classes; tokens are the pixels of g x g patches, in one block that leaves them as they are."""

    def __init__(self, weights: Tensor, side: int) -> None:
        super().__init__()
        self.weights, self.side = nn.Parameter(weights), side
        self.blocks = nn.ModuleList([nn.Identity()])

    def forward(self, images: Tensor) -> Tensor:
        tokens = nn.functional.unfold(images, self.side, stride=self.side).transpose(1, 2)
        score = self.blocks[0](tokens).mean(dim=2) @ self.weights
        return torch.stack((torch.zeros_like(score), score), dim=1)


def linear_patches(weights: list[float], side: int = 4, mean: float = 0.0, tile: int = 3) -> Classifier:
    """The Classifier, whose input is pixels less `mean`; its grid is square, of patches of `side` pixels."""
    module = LinearPatches(torch.tensor(weights), side)
    whole = side * round(len(weights) ** 0.5)
    card = Card("linear", Spec("given"), fingerprint(module), "given")
    view = View(size=(whole, whole), resize=None, crop="none")
    return Classifier(module, mean=(mean,) * 3, std=(1.0,) * 3, view=view, card=card, tile=tile)
