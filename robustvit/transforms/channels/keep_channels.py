"""Some channels of the normalised image, the others zero."""

from __future__ import annotations

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.lesions.kept_channels import keeping_channels
from robustvit.primitives.lesions.shown_channels import check_channels
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
    their number, so that the patch embedding receives as much on average. Where tokens are of single channels (arch/channel_vit) those of
    the other channels are left out, and nothing is scaled. Gradients are exact, zero in the channels that go. Raises
    BadParameter for a channel that is not there, or one that is named twice, HostRefused for a model that resizes its images.
    """
    check_channels("keep_channels", channels, model.channels)
    return keeping_channels("keep_channels", model, channels or tuple(range(model.channels)), rescale=scale)
