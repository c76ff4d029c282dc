"""Classifiers that wrap another: upsampled images, the logits of a data set's Reading, the gradients of the model before transforms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused, with_article
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.reading import Reading
from robustvit.primitives.shared_weights import owned
from robustvit.spec.view import View


class UpsampledClassifier(Classifier):
    """A classifier of images of `view.size`, which it resizes to `view.shown`, the size of its host.

    Bicubic, antialiased where it shrinks them, with Pillow's kernel (a = −0.5), clipped to [0, 1]; gradients pass through.
    """

    def __init__(self, host: Classifier, view: View) -> None:
        super().__init__(**constructor_arguments(host) | {"view": view})
        self.host = host
        self.gradient = host.gradient

    def with_module(self, module: nn.Module) -> Classifier:
        """The same upsampling before its host around another module."""
        return UpsampledClassifier(around(self.host, module), self.view)

    @property
    def outputs(self) -> int:
        """The number of logits of its host."""
        return self.host.outputs

    def bound(self, draws: Draws) -> Classifier:
        """The same upsampling before its host bound to the draws."""
        host = self.host.bound(draws)
        return self if host is self.host else UpsampledClassifier(host, self.view)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, *view.size) float in [0, 1] → (N, K) float32 logits."""
        self._check(images)
        upsampled = nn.functional.interpolate(images.float(), self.view.shown, mode="bicubic", antialias=True)
        logits: Tensor = self.host(upsampled.clamp(0.0, 1.0))
        return logits


def seeing(model: Classifier, view: View) -> Classifier:
    """The model for images of another view: as it is where they have its size, else resized to it, with gradients."""
    return model if model.size == view.size else UpsampledClassifier(model, replace(view, shown=model.size))


class ReadClassifier(Classifier):
    """A classifier whose logits are its host's as a Reading reads them, one for each of a data set's labels. It is what attacks receive."""

    def __init__(self, host: Classifier, reading: Reading) -> None:
        card = replace(host.card, classes=())  # its logits are the labels of the data, in their order
        super().__init__(**constructor_arguments(host) | {"card": card})
        self.host, self.reading = host, reading
        self.gradient = host.gradient

    def with_module(self, module: nn.Module) -> Classifier:
        """The same reading of its host around another module."""
        return ReadClassifier(around(self.host, module), self.reading)

    def bound(self, draws: Draws) -> Classifier:
        """The same reading of its host bound to the draws."""
        host = self.host.bound(draws)
        return self if host is self.host else ReadClassifier(host, self.reading)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, classes of the reading) float32."""
        return self.reading.read(self.host(images)).float()

    @property
    def outputs(self) -> int:
        """The number of classes, or of groups, that the reading compares."""
        return self.reading.classes if self.reading.groups is None else len(self.reading.groups)


class ThroughHost(Classifier):
    """A transformed classifier whose input gradients are its host's at the same images (BPDA; Athalye, Carlini and Wagner 2018).

    model: whose logits it gives, to the bit. host: the same model before its transforms.
    """

    gradient = "surrogate"

    def __init__(self, model: Classifier, host: Classifier) -> None:
        super().__init__(**constructor_arguments(model))
        self.transformed, self.host = model, host

    @property
    def outputs(self) -> int:
        """The number of logits."""
        return self.transformed.outputs

    def bound(self, draws: Draws) -> Classifier:
        """Both bound to the draws."""
        model, host = self.transformed.bound(draws), self.host.bound(draws)
        return self if (model, host) == (self.transformed, self.host) else ThroughHost(model, host)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, K) float32 logits of the transformed model."""
        with torch.no_grad():
            logits: Tensor = self.transformed(images)
        if not (torch.is_grad_enabled() and images.requires_grad):
            return logits
        passed: Tensor = _BackwardThrough.apply(self.host(images), logits)
        return passed


class _BackwardThrough(torch.autograd.Function):
    """The second of two tensors, with the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, followed: Tensor, given: Tensor) -> Tensor:
        """Returns `given`."""
        return given.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Passes the gradient on to `followed`."""
        return gradients[0], None


def why_wrapped(model: Classifier) -> str:
    """Why a Classifier computes more than its module, and more than `module_context` holds, as a predicate; "" where it does not."""
    if type(model) is Classifier:
        return ""
    host = getattr(model, "host", None)
    if not type(model).context_only or not isinstance(host, Classifier):
        return f"is wrapped in {with_article(type(model).__name__.strip('_'))}, which changes its input or how it computes"
    return why_wrapped(host)


def computed_size(model: Classifier) -> tuple[int, int]:
    """(height, width) of the images that its module computes on: those it takes, or what they are resized to."""
    return model.view.shown or model.size


def channels(buffer: Any) -> tuple[float, ...]:
    """The mean or std of a Classifier as a tuple: one number per channel."""
    return tuple(buffer.flatten().tolist())


def constructor_arguments(host: Classifier) -> dict[str, Any]:
    """The arguments with which a Classifier that wraps `host` builds itself: those of the host, its module included."""
    return {
        "model": host.model, "mean": channels(host.mean), "std": channels(host.std), "view": host.view, "card": host.card,
        "tile": host.tile, "precision": host.precision,
    }  # fmt: skip


def around(host: Classifier, module: nn.Module) -> Classifier:
    """The same classifier around another module, which it takes as its own; the host is untouched.

    A class of Classifier that computes more than its module has a method `with_module(module)` for this. Raises HostRefused for one that
    has none.
    """
    own = getattr(host, "with_module", None)
    if own is not None:
        made: Classifier = own(module)
        return made
    if type(host) is not Classifier:
        raise HostRefused(
            f"model '{host.card.label}' is {with_article(type(host).__name__)}, whose own computation a change of its module would "
            "lose; give it a method `with_module(module)`, or transform the model within it first."
        )
    return Classifier(**constructor_arguments(host) | {"model": owned(module)})
