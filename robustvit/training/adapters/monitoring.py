"""A network that another's loop trains, as the Classifier that a Monitor measures, and what loops log of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import channels
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.spec.spec import Spec
from robustvit.spec.view import View
from robustvit.training.adapters.normalised import logits_of, normalised_model
from robustvit.training.monitor import Measured


def as_classifier(
    network: nn.Module, view: View, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Classifier:  # fmt: skip
    """A network as a Classifier, also while it is trained: `monitor.measure(rv.as_classifier(network, view, mean, std), epoch)`.

    network: gives logits, as a tensor or in `.logits`; its weights are shared, its mode and gradients are not. DistributedDataParallel,
    torch.compile and accelerate's autocast are left out. view: how images are brought to its size. mean, std: of the images that it takes,
    neither for pixels in [0, 1] or with an `rv.OnPixels` as network. Raises ModelError for a network that gives no logits.
    """
    read = normalised_model(getattr(network, "_orig_mod", network), mean, std)
    inner = getattr(read.model, "_orig_mod", read.model)
    count = sum(one.numel() for one in inner.parameters())
    identity = Spec("given", (("class", type(inner).__name__),))
    card = Card(label="in training", identity=identity, fingerprint=fingerprint(inner), weights="given", parameters=count)
    with _own_forward(inner):
        made = Classifier(inner, mean=channels(read.mean), std=channels(read.std), view=view, card=card)
    with torch.no_grad():
        output = made.model(torch.zeros(1, made.channels, *made.size, device=made.device))
    if logits_of(output, inner) is output:
        return made
    return Classifier(_Logits(made.model), mean=channels(read.mean), std=channels(read.std), view=view, card=card)


def scores(measured: Measured) -> dict[str, float]:
    """What loops log of a measurement: `robust_score`, and `robust_clean` where the suite has clean images."""
    found = {"robust_score": measured.score, "robust_clean": measured.clean}
    return {name: value for name, value in found.items() if value == value}


class _Logits(nn.Module):
    """A network that returns logits in an object, as a module that returns them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.network(images), self.network)


@contextlib.contextmanager
def _own_forward(module: nn.Module) -> Iterator[None]:
    """Context without a `forward` that a framework put on the instance, which copies of the module would share."""
    put = vars(module).pop("forward", None)
    try:
        yield
    finally:
        if put is not None:
            module.forward = put
