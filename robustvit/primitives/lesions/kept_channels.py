"""Classifiers of some of the channels of an image."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter
from robustvit.primitives.architectures.channel_embedding import channel_embedding
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import around, constructor_arguments
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.shown_channels import require_own_size, with_channels
from robustvit.primitives.surgery.modules import changed


def keeping_channels(plugin: str, model: Classifier, kept: tuple[int, ...], *, rescale: bool) -> Classifier:
    """A new Classifier that sees some channels of normalised images: tokens of the others are left out, or else they are zero.

    kept: at least one. rescale: whether these are multiplied by C over their number, where the others are zero. Raises HostRefused, naming
    the plug-in, where the model resizes its images.
    """
    found = channel_embedding(model.model)
    if found is None:
        require_own_size(plugin, model)
        return KeptChannels(model, kept, rescale)
    left = tuple(channel for channel in (range(found.channels) if found.kept is None else found.kept) if channel in kept)
    if not left:
        raise BadParameter(
            f"{plugin}: no channel of '{model.card.label}' is left, which was shown {', '.join(map(str, found.kept or ()))} alone."
        )

    def change(module: nn.Module) -> nn.Module:
        own = channel_embedding(module)
        assert own is not None
        own.kept = left
        return module

    return changed(model, change)


class KeptChannels(Classifier):
    """A classifier of some of its host's channels."""

    def __init__(self, host: Classifier, kept: tuple[int, ...], scale: bool) -> None:
        super().__init__(**constructor_arguments(host))
        self.host, self.kept, self.scale = host, kept, scale
        self.gradient = host.gradient

    def with_module(self, module: nn.Module) -> Classifier:
        """The same channels for its host around another module."""
        return KeptChannels(around(self.host, module), self.kept, self.scale)

    @property
    def outputs(self) -> int:
        """The number of logits of its host."""
        return self.host.outputs

    def configure(self, *, tile: int | None = None, precision: str | None = None) -> Classifier:
        """Sets rows per tile and arithmetic precision, of its host too; returns itself."""
        if "host" in self._modules:
            self.host.configure(tile=tile, precision=precision)
        return super().configure(tile=tile, precision=precision)

    def bound(self, draws: Draws) -> Classifier:
        """The same channels for its host bound to the draws."""
        host = self.host.bound(draws)
        return self if host is self.host else KeptChannels(host, self.kept, self.scale)

    def module_context(self) -> contextlib.AbstractContextManager[None]:
        """That of its host."""
        return self.host.module_context()

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float in [0, 1] → (N, K) float32 logits."""
        self._check(images)
        keep = torch.zeros(len(images), self.channels, dtype=torch.bool, device=images.device)
        keep[:, list(self.kept)] = True
        mean: Tensor = self.mean.to(images)  # type: ignore[operator,assignment]
        with self.host.unbounded_pixels():
            logits: Tensor = self.host(with_channels(images, keep, mean, rescale=self.scale))
        return logits
