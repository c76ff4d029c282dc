"""Some channels of the normalised image, the others zero."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import around, constructor_arguments
from robustvit.primitives.draws import Draws
from robustvit.primitives.structure.channels import check_channels, require_own_size, with_channels
from robustvit.spec.registry import transform

CITATION = """@inproceedings{bao2024channel,
  title={Channel Vision Transformers: An Image Is Worth 1 x 16 x 16 Words},
  author={Bao, Yujia and Sivanandan, Srinivasan and Karaletsos, Theofanis},
  booktitle={International Conference on Learning Representations},
  year={2024}
}"""


@transform(
    family="channels", source="Bao et al. 2024 (ChannelViT)", url="https://arxiv.org/abs/2309.16108", citation=CITATION,
    licence="the authors' code is CC BY-NC 4.0; this is written from the paper", no_op="channels=[]",
    rules="Masks after the normalisation, where zero is the mean of a channel; the corruption drop_channels masks before it, where zero is "
    "black. The two have other results and are never averaged. scale is that of hierarchical channel sampling on a plain ViT.",
)  # fmt: skip
def keep_channels(model: Classifier, *, channels: tuple[int, ...] = (0,), scale: bool = True) -> Classifier:
    """Shows a model some channels of the normalised image; the others are zero there, which is the mean of the normalisation.

    channels: those that stay, counted from 0; an empty list keeps all and changes nothing. scale: whether they are multiplied by C over
    their number, so that the patch embedding receives as much on average. Gradients are exact, zero in the channels that go. Raises
    BadParameter for a channel that is not there, or one that is named twice, HostRefused for a model that resizes its images.
    """
    check_channels("keep_channels", channels, model.channels)
    require_own_size("keep_channels", model)
    return KeptChannels(model, channels or tuple(range(model.channels)), scale)


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
        with self.host.unbounded_pixels():
            logits: Tensor = self.host(with_channels(images, keep, self.mean.to(images), rescale=self.scale))  # type: ignore[operator]
        return logits
