"""Classifiers in front of others: shown upsampled images, or read by a data set's Reading."""

from __future__ import annotations

from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier, channels
from robustvit.primitives.draws import Draws
from robustvit.primitives.reading import Reading
from robustvit.spec.view import View


class Enlarging(Classifier):
    """A classifier that is shown pictures enlarged: it takes `view.size` and answers at `view.shown`, its host's size.

    Bicubic with Pillow's kernel (a = −0.5), clipped to [0, 1]; gradients pass through.
    """

    def __init__(self, host: Classifier, view: View) -> None:
        super().__init__(
            host.model,
            mean=channels(host.mean),
            std=channels(host.std),
            view=view,
            card=host.card,
            tile=host.tile,
            precision=host.precision,
        )
        self.host = host
        self.gradient = host.gradient

    def bound(self, draws: Draws) -> Classifier:
        """Its host bound to the draws, shown pictures likewise."""
        return Enlarging(self.host.bound(draws), self.view)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, *view.size) float in [0, 1] → (N, K) float32 logits."""
        self._check(images)
        shown = nn.functional.interpolate(images.float(), self.view.shown, mode="bicubic", antialias=True)
        logits: Tensor = self.host(shown.clamp(0.0, 1.0))
        return logits


class Answering(Classifier):
    """A classifier that answers a data set's labels: its logits as a Reading reads them. Attacks meet it, so that their labels and its answers agree."""

    def __init__(self, host: Classifier, reading: Reading) -> None:
        super().__init__(
            host.model,
            mean=channels(host.mean),
            std=channels(host.std),
            view=host.view,
            card=host.card,
            tile=host.tile,
            precision=host.precision,
        )
        self.host, self.reading = host, reading
        self.gradient = host.gradient

    def bound(self, draws: Draws) -> Classifier:
        """Its host bound to the draws, read likewise."""
        return Answering(self.host.bound(draws), self.reading)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, classes of the reading) float32."""
        return self.reading.read(self.host(images)).float()

    @property
    def outputs(self) -> int:
        """How many answers compete."""
        return self.reading.classes if self.reading.groups is None else len(self.reading.groups)
