"""ScaleKD: a student's features, projected by cross-attention, learn those of a larger vision transformer, through its last blocks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.defenses.distillation.distillation import at_size
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative, Radius
from robustvit.primitives.surgery.hosts import plain_vit, why_no_plain_vit
from robustvit.primitives.training.block_order import transformer_in
from robustvit.primitives.training.on_pixels import normalised
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{fan2024scalekd,
  title={ScaleKD: Strong Vision Transformers Could Be Excellent Teachers},
  author={Fan, Jiawei and Li, Chao and Liu, Xiaolong and Yao, Anbang},
  booktitle={Advances in Neural Information Processing Systems},
  year={2024}
}"""
_NAME, _PART = "scalekd", "feature_projectors"
_SMALL = 1e-4  # least length that features are divided by: a map of one value, less its mean, is rounding, and stays near 0


@defense(
    family="distillation", source="Fan et al. 2024 (ScaleKD)", url="https://arxiv.org/abs/2411.06786", citation=_CITATION,
    licence="the authors' code is Apache-2.0; this is written from facts of the code",
    rules="Name the teacher. A penalty beside a loss: the authors add distillation of predictions (alpha 0.5, temperature 1, the defense "
    "distillation). Reduced to plain vision transformers: where the authors take the last two stages of a Swin, this takes features before "
    "and after the last quarter of the blocks. Their cross-attention could not be read: how its scale enters, and that no residual "
    "connection goes round it, are assumptions. Two forward passes and a backward pass more, and one through the teacher's last blocks.",
)  # fmt: skip
def scalekd(
    *, teacher: Classifier, spatial: NonNegative = 0.08, frequency: NonNegative = 0.06, perceive: bool = True, heads: Count = 8,
    scale: Radius = 5.0,
) -> Defense:  # fmt: skip
    """ScaleKD (Fan et al. 2024): squared distance of a student's projected features from a teacher's, as they are and without their mean.

    teacher: a plain vision transformer of timm; images are resized to its size. spatial: weight of the distance of features that are
    normalised over channels, summed over a map; frequency: that of the same after the constant part (DC) of each channel is removed.
    perceive: the student's features before its last quarter of blocks are projected, too, and go through the teacher's last quarter, whose
    result is compared, and queries the projection of the student's last features. heads, scale: of the attention of projections, whose
    products are multiplied by scale / √d. Projections are trained with the student and not kept. Takes timm's plain vision transformers.
    """
    host = _teacher(teacher)

    def prepare(model: nn.Module) -> nn.Module:
        vit: Any = plain_host(model, _NAME)
        places = ("early", "last") if perceive else ("last",)
        made = {f"{place}_{view}": FeatureProjector(vit, host, heads, scale, place == "early" or not perceive)
                for place in places for view in ("spatial", "frequency")}  # fmt: skip
        vit.add_module(_PART, nn.ModuleDict(made).to(next(vit.parameters())))
        return model

    def penalty(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        vit = transformer_in(model, _NAME)
        with torch.no_grad():
            goal = feature_maps(host, teacher.model, normalised(teacher, at_size(batch.shown, teacher)))[1]
        early, last = feature_maps(vit, model, batch.shown)
        made = batch.images.new_zeros(())
        for view, weight, distance in (("spatial", spatial, spatial_distance), ("frequency", frequency, frequency_distance)):
            queries = None
            if perceive:
                queries = through_last_blocks(host, vit.feature_projectors[f"early_{view}"](early, None))
                made = made + weight * distance(queries, goal)
            made = made + weight * distance(vit.feature_projectors[f"last_{view}"](last, queries), goal)
        return made

    return Defense(_NAME, prepare=prepare, penalty=penalty, export=_without_projectors)


class FeatureProjector(nn.Module):
    """Cross-attention from queries at a teacher's patches to a student's features, which a convolution and positions go before."""

    def __init__(self, student: Any, teacher: Any, heads: int, scale: float, own_queries: bool) -> None:
        super().__init__()
        wide, width = student.embed_dim, teacher.embed_dim
        if width % heads:
            raise BadParameter(f"'{_NAME}': the teacher's width is {width}, which {heads} heads do not divide.")
        self.grid, self.heads, self.scale = student.patch_embed.grid_size, heads, scale
        self.local = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU())
        self.positions = nn.Parameter(torch.zeros(wide, *self.grid))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.queries = nn.Parameter(torch.randn(teacher.patch_embed.num_patches, width)) if own_queries else None
        self.before = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(wide, width), nn.Linear(wide, width)
        self.out, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, features: Tensor, queries: Tensor | None) -> Tensor:
        """(N, L of the teacher, its width). features: (N, L, D) of the student; queries: of that shape, where it has none of its own."""
        made = self.local(features.transpose(1, 2).reshape(len(features), -1, *self.grid)) + self.positions
        made = made.flatten(2).transpose(1, 2)
        asked = self.before(queries if self.queries is None else self.queries.expand(len(features), -1, -1))
        query, key, value = (self._split(part) for part in (self.query(asked), self.key(made), self.value(made)))
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=self.scale / query.shape[-1] ** 0.5)
        normed = self.norm(self.out(mixed.transpose(1, 2).flatten(2)))
        found: Tensor = normed + self.feed(normed)
        return found

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


def feature_maps(vit: Any, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features of patches before the last quarter of the blocks of `vit`, and after all and the last norm, each (N, L, D).

    model: what is called, with `vit` in it; images: as it takes them. Raises HostRefused where it does not call blocks as a whole.
    """
    seen: dict[str, Tensor] = {}

    def before(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen["early"] = given[0]

    def after(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        seen["last"] = output

    handles = (vit.blocks[-_quarter(vit)].register_forward_pre_hook(before), vit.blocks[-1].register_forward_hook(after))
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) < len(handles):
        raise HostRefused(f"'{_NAME}' takes models that call their blocks as a whole, which {type(model).__name__} does not.")
    return seen["early"][:, vit.num_prefix_tokens :], vit.norm(seen["last"])[:, vit.num_prefix_tokens :]


def through_last_blocks(vit: Any, tokens: Tensor) -> Tensor:
    """(N, L, D): tokens after the last quarter of the blocks and the last norm."""
    found: Tensor = vit.norm(vit.blocks[-_quarter(vit) :](tokens))
    return found


def spatial_distance(found: Tensor, goal: Tensor) -> Tensor:
    """() the squared distance of features (N, L, D), each of length 1, summed over patches and channels, a mean over samples."""
    mine, others = (functional.normalize(_at_least_float32(one), dim=2, eps=_SMALL) for one in (found, goal))
    return (mine - others).square().sum() / len(found)


def frequency_distance(found: Tensor, goal: Tensor) -> Tensor:
    """() the spatial distance of maps whose constant part is removed.

    To set the first coefficient of a two-dimensional DCT to 0, and to transform back, as the authors do, is to subtract the mean.
    """
    mine, others = (_at_least_float32(one) for one in (found, goal))
    return spatial_distance(mine - mine.mean(dim=1, keepdim=True), others - others.mean(dim=1, keepdim=True))


def _at_least_float32(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _quarter(vit: Any) -> int:
    """How many blocks the last quarter is, at least one."""
    return max(1, round(len(vit.blocks) / 4))


def _teacher(teacher: Classifier) -> Any:
    if why := why_no_plain_vit(teacher.model):
        raise HostRefused(f"'{_NAME}' takes plain vision transformers of timm as teachers, and '{teacher.card.label}' is none: it {why}.")
    return plain_vit(teacher.model)


def _without_projectors(model: nn.Module) -> nn.Module:
    made = copy.deepcopy(model)
    delattr(made, _PART)
    return made
