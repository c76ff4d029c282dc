"""Hierarchical channel sampling: every image is trained on with a random subset of its channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.shown_channels import with_channels
from robustvit.primitives.training.on_pixels import normalisation_mean
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{bao2024channel,
  title={Channel Vision Transformers: An Image Is Worth 1 x 16 x 16 Words},
  author={Bao, Yujia and Sivanandan, Srinivasan and Karaletsos, Theofanis},
  booktitle={International Conference on Learning Representations},
  year={2024}
}"""


@defense(
    family="structure", source="Bao et al. 2024 (ChannelViT)", url="https://arxiv.org/abs/2309.16108", citation=_CITATION,
    licence="the authors' code is CC BY-NC 4.0; this is written from the paper",
    rules="Report accuracy for every subset of channels, by their number and the worst, with the same rescaling. Differs from the paper: "
    "each image draws its own subset, where theirs is one for a batch; and channels of a model that takes all of them are set to the mean "
    "of its normalisation, where ChannelViT leaves out their tokens.",
)  # fmt: skip
def channel_sampling(*, rescale: bool = True) -> Defense:
    """Hierarchical channel sampling (HCS, Bao et al. 2024): cross-entropy on images with m of C channels, m uniform in 1 … C.

    The others are 0 after the model's normalisation. rescale: whether those that stay are multiplied by C/m there, so that the patch
    embedding receives as much on average. Every number of channels is as likely, unlike under dropout of channels. Raises BadParameter for
    a model without a normalisation of its own (`rv.OnPixels`).
    """

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        keep = sampled_channels(draws, batch.images.shape[1])
        return functional.cross_entropy(model(with_channels(batch.shown, keep, normalisation_mean(model), rescale=rescale)), batch.targets)

    return Defense("channel_sampling", loss=loss)


def sampled_channels(draws: Draws, channels: int) -> Tensor:
    """(N, C) bool: for each sample a uniform number of channels, and a uniform subset of that size."""
    count = draws.at("count").integers(1, low=1, high=channels + 1)
    return draws.at("channels").permutation(channels) < count
