"""A network in training as a Classifier."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_training import MEAN, STD, normalised, samples, vit
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import ModelError
from robustvit.training.adapters.monitoring import scores
from robustvit.training.monitor import Measured

VIEW = rv.View(size=(16, 16), resize=16)


class Wrapped(nn.Module):
    """Logits in an object, and a forward that a framework put on the instance."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = vit()
        self.dropout = nn.Dropout(0.5)
        own = self.forward
        self.forward = lambda images: own(images)

    def forward(self, images: Tensor) -> Any:
        return type("Output", (), {"logits": self.dropout(self.inner(images))})()


@pytest.mark.parametrize("build", [vit, Wrapped])
def test_it_gives_the_logits_of_the_network_in_evaluation_and_follows_its_weights(build: Any) -> None:
    network, pixels = build().train(), samples()[0]
    inner = network.inner if isinstance(network, Wrapped) else network
    model = rv.as_classifier(network, VIEW, MEAN, STD)
    for _ in range(2):
        assert torch.allclose(model(pixels), inner(normalised(pixels)), atol=1e-5)
        with torch.no_grad():
            inner.head.weight.mul_(2)
    assert network.training
    assert all(one.requires_grad for one in network.parameters())
    assert ("forward" in vars(network)) == isinstance(network, Wrapped)


def test_an_on_pixels_and_a_frozen_network_are_taken_and_one_without_logits_is_refused() -> None:
    network, pixels = vit().requires_grad_(False), samples()[0]
    first, second = rv.as_classifier(network, VIEW, MEAN, STD), rv.as_classifier(rv.OnPixels(network, MEAN, STD), VIEW)
    assert torch.equal(first(pixels), second(pixels))
    with pytest.raises(ModelError, match=r"a Flatten returned .*; a defense needs"):
        rv.as_classifier(nn.Flatten(0), VIEW)


def test_a_suite_without_clean_images_logs_no_clean_accuracy() -> None:
    assert scores(Measured(1, float("nan"), 0.5)) == {"robust_score": 0.5}
    assert scores(Measured(1, 0.75, 0.5)) == {"robust_score": 0.5, "robust_clean": 0.75}
