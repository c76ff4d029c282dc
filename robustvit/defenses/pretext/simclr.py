"""Contrastive learning: a model learns, without labels, which two views are of one image."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional

from robustvit.defenses.pretext.patch_tokens import without
from robustvit.defenses.pretext.views import ViewChoice, random_views
from robustvit.errors import BadParameter, HostRefused, with_article
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative, Radius
from robustvit.primitives.training.on_pixels import normalised
from robustvit.spec.registry import defense

Share = Annotated[float, Ge(0), Le(1)]

_CITATION = """@inproceedings{chen2020simple,
  title={A Simple Framework for Contrastive Learning of Visual Representations},
  author={Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey},
  booktitle={International Conference on Machine Learning},
  year={2020}
}"""
_NAME, _HEAD = "simclr", "projection"


@defense(
    family="pretext", source="Chen et al. 2020 (SimCLR); the head of three layers: Chen et al. 2020 (SimCLR v2)",
    url="https://arxiv.org/abs/2002.05709", citation=_CITATION,
    licence="the authors' code is Apache-2.0; this is written from the paper and facts of the code",
    rules="A pretext: it trains no classifier, and the head that is kept is as it was. Train on from the checkpoint. Report the batch "
    "size: an image is told from the others of its batch, in its process, and in its part where batches are accumulated. Differs from the "
    "authors' code: the loss is the mean over both views, and theirs the sum of two means, twice that; crops are of images at the "
    "model's size. The authors take LARS and batches of 512 to 4,096.",
)  # fmt: skip
def simclr(
    *, temperature: Radius = 0.1, layers: Count = 3, width: Count = 128, scale: Annotated[float, Gt(0), Le(1)] = 0.08, flip: Share = 0.5,
    jitter: NonNegative = 1.0, blur: Share = 0.5,
) -> Defense:  # fmt: skip
    """SimCLR (Chen et al. 2020): of all views of a batch, the cross-entropy of finding the other view of the same image.

    temperature: cosines are divided by it; the authors have 0.1 for ImageNet, 0.5 for CIFAR-10. layers, width: of the projection, whose
    outputs are compared and which is not kept: linear layers, each with batch normalisation, the last without ReLU. scale: the smallest
    share of an image that a view shows. flip: probability of a mirror image; 0 for digits. jitter: strength of changes of brightness,
    contrast, saturation and hue, with probability 0.8, before grey with 0.2; 0 leaves both out. blur: probability. Takes models of timm
    whose features have a known number of channels.
    """
    choice = ViewChoice(scale, flip, jitter, blur)

    def prepare(model: nn.Module) -> nn.Module:
        channels = getattr(model, "head_hidden_size", None)
        if not isinstance(channels, int) or not hasattr(model, "forward_head"):
            raise HostRefused(f"'{_NAME}' takes models of timm with `forward_head`, and {with_article(type(model).__name__)} has none.")
        model.add_module(_HEAD, projection(channels, layers, width).to(next(model.parameters())))
        return model

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        views = torch.cat([random_views(batch.shown, draws.at(view), choice) for view in ("first", "second")])
        first, second = projected(model, normalised(model, views)).chunk(2)
        return contrastive_loss(first, second, temperature)

    return Defense(_NAME, prepare=prepare, loss=loss, export=lambda model: without(model, _HEAD))


def projection(channels: int, layers: int, width: int) -> nn.Sequential:
    """Linear layers of so many channels, the last of `width`, each followed by batch normalisation and all but the last by a ReLU.

    The last normalisation adds no bias: it would move all cosines.
    """
    made = nn.Sequential()
    for layer in range(layers):
        last = layer == layers - 1
        made.append(nn.Linear(channels, width if last else channels, bias=False))
        made.append(nn.BatchNorm1d(width if last else channels))
        if not last:
            made.append(nn.ReLU())
    made[-1].register_parameter("bias", None)
    return made


def projected(model: nn.Module, images: Tensor) -> Tensor:
    """(N, width): the projection of the features that the head of a model would be given. images: normalised."""
    owner: Any = next((one for one in model.modules() if isinstance(getattr(one, _HEAD, None), nn.Sequential)), None)
    if owner is None:
        raise BadParameter(f"the model has no projection; give '{_NAME}' what its `prepare` returns.")
    found: Tensor = owner.projection(owner.forward_head(owner.forward_features(images), pre_logits=True))
    return found


def contrastive_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """() the normalised, temperature-scaled cross-entropy (NT-Xent), a mean over 2N views. first, second: (N, D), rows are pairs."""
    with torch.autocast(first.device.type, enabled=False):  # half the digits of a cosine are few, over a low temperature
        both = torch.cat((first, second))
        views = functional.normalize(both.to(torch.promote_types(both.dtype, torch.float32)), dim=1)
        cosines = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
        others = torch.arange(len(views), device=views.device).roll(len(first))
        return functional.cross_entropy(cosines, others)
