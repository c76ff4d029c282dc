"""Training of a classifier of parts that it finds itself (PDiscoFormer)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.drawn_maps import drawn_affine, on_grid
from robustvit.primitives.geometry.resampling import resampled
from robustvit.primitives.limits import Count, NonNegative
from robustvit.primitives.structure.part_maps import PartViT, find_parts, part_model
from robustvit.primitives.surgery.patch_features import module_outputs
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.primitives.training.part_losses import (
    background_presence_loss,
    equivariance_loss,
    orthogonality_loss,
    pixel_entropy_loss,
    presence_loss,
    total_variation_loss,
)
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{aniraj2024pdiscoformer,
  title={PDiscoFormer: Relaxing Part Discovery Constraints with Vision Transformers},
  author={Aniraj, Ananthu and Dantas, Cassio F and Ienco, Dino and Marcos, Diego},
  booktitle={European Conference on Computer Vision},
  year={2024}
}"""
_NAME = "parts"
_SCALE = (0.8, 1.4)  # of the affine maps, as in the authors' code
_BACKGROUND = 2.0  # the weight of the background's presence; all others are 1


@defense(
    family="structure", source="Aniraj et al. 2024 (PDiscoFormer)", url="https://arxiv.org/abs/2407.04538", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="Every image is moved by an affine map of its own, where the authors' code has one for a batch. What enters repeats the border, "
    "and is zero on the way back, which resamples once; the code does twice. The presence of parts is judged over a batch, so that a row "
    "depends on its company. The authors train the transformer at 1/1000 of the rate of prototypes and 1/10000 of that of gains and head; "
    "here it is frozen, or trained at the one rate, at which a small one learnt to call everything background.",
)  # fmt: skip
def parts(
    *, count: Count = 8, dropout: Annotated[float, Ge(0), Lt(1)] = 0.3, degrees: NonNegative = 90.0,
    shift: Annotated[float, Ge(0), Lt(1)] = 0.11, frozen: bool = True,
) -> Defense:  # fmt: skip
    """Trains a classifier that finds parts of images without being told any, and reads logits from each (PDiscoFormer, Aniraj et al. 2024).

    count: of parts, besides the background. dropout: how often a whole part is left out of the logits. degrees, shift: of the affine map
    under which parts are to move with the image, shift as a share of the side; sizes are from 0.8 to 1.4. frozen: trains prototypes, gains
    and head alone, of a model that comes trained (--from). The loss is the cross-entropy plus, of the part maps, presence, twice the
    background's presence towards the corners, the entropy of patches, equivariance, the orthogonality of the parts' features, and total
    variation. Two forward passes a step. The checkpoint names the transform `parts`. Takes timm's plain vision transformers with a linear
    head and at least 4x4 patches.
    """

    def prepare(model: nn.Module) -> nn.Module:
        made: Any = find_parts(plain_host(model, _NAME), count, dropout)
        made.backbone.requires_grad_(not frozen)
        whole: nn.Module = made
        return whole

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        own = part_model(model)
        if own is None:
            raise HostRefused(f"'{_NAME}' trains the parts that its `prepare` adds, and this {type(model).__name__} has none.")
        size: Any = tuple(batch.shown.shape[2:])
        maps = drawn_affine(draws, size, degrees, shift, _SCALE).to(batch.shown.device)
        return loss_of_parts(model, own, batch, maps)

    return Defense(_NAME, prepare=prepare, loss=loss, surgery=named_surgery(_NAME, count=count))


def loss_of_parts(model: nn.Module, own: PartViT, batch: Batch, maps: Tensor) -> Tensor:
    """(): all terms of the loss of a batch. own: in the model. maps: (N, 3, 3) under which images are moved, see `resampled`."""
    with module_outputs(own.assignment) as found:
        logits = model(batch.shown)
        model(resampled(batch.shown, maps, "edge"))
    here, there = found
    rows, columns = here.maps.shape[2:]
    patch = (batch.shown.shape[2] // rows, batch.shown.shape[3] // columns)
    back = resampled(there.maps, on_grid(torch.linalg.inv(maps), patch), "zeros")
    part_terms = presence_loss(here.maps) + _BACKGROUND * background_presence_loss(here.maps) + pixel_entropy_loss(here.maps)
    part_terms = part_terms + equivariance_loss(here.maps, back) + orthogonality_loss(here.features) + total_variation_loss(here.maps)
    return functional.cross_entropy(logits, batch.targets) + part_terms
