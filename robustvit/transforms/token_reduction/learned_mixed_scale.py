"""Mixed-scale tokens by a learned gate: as many regions of an image are one coarse token as the gate lets be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.quantisation.calibration import LoadBatch, calibrated
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.region_embedding import embedded_regions, with_embedding
from robustvit.primitives.surgery.token_reduction import TokenPolicy, reduce_tokens
from robustvit.primitives.surgery.tokens import NO_PATCH, Tokens
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec
from robustvit.transforms.token_reduction.mixed_scale import CITATION, SIDE, members_of, region_of, require_all_patches
from robustvit.transforms.token_reduction.mixed_scale_learning import Gate, gate_logits, learn_gate


@transform(
    family="token-reduction", source="Havtorn et al. 2023 (MSViT)", url="https://arxiv.org/abs/2307.02321", citation=CITATION,
    licence="no code of the authors; this is written from the paper",
    rules="Its cost depends on the image: report the mean GMACs of the very images, clean and shifted, and how many gates flip "
    "(`token_choice`). Weights stay, where the paper trains them with the gate. Differs from the paper: the prior of batch shaping "
    "is a relaxed Bernoulli distribution with the target share of fine regions above ½ at every position, without a hyperprior "
    "that learns a share for each; gates are shaped before their noise, so that the share is one without it, and alone in the "
    "first third of the steps. The share is a target, which cross-entropy on frozen weights resists: report the tokens that there "
    "are; a larger weight holds it at the price of accuracy. All patches and all regions are embedded and counted, chosen or not. "
    "A head that averages tokens weighs a coarse one as the four patches that it stands for. Whoever writes pixels writes the "
    "choice, which a gradient does not see: report restarts and a black-box attack, too.",
    hosts="plain-patches", no_op="share=0", fit="fit_gate", passes="fit_passes",
)  # fmt: skip
def learned_mixed_scale(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    calibration: Data,
    share: Annotated[float, Ge(0), Lt(1)] = 0.5,
    weight: Annotated[float, Gt(0)] = 100.0,
    hidden: Count = 64,
    samples: Count = 1000,
    steps: Count = 200,
) -> Classifier:
    """Mixed-scale tokenisation by a learned gate (MSViT, Havtorn et al. 2023): one token for each region of 2x2 patches that needs no more.

    The gate is a perceptron of one layer of so many `hidden` units on the pixels of a region; the region is fine where its sigmoid is above
    ½. share: of the regions that should be coarse, over images at every position; 0 changes nothing. calibration: the data that it is
    learned on, the first `samples` of it, in so many `steps`, by cross-entropy + weight · batch shaping. Tokens are those of `mixed_scale`.
    Raises HostRefused for a grid of an odd number of rows or columns, and for a model whose patch tokens are reduced already.
    """
    region = region_of("learned_mixed_scale", model)
    if share == 0:
        return changed(model, unchanged)
    require_all_patches("learned_mixed_scale", model)
    shapes = {"into": (hidden, model.channels * region[0] * region[1]), "bias": (hidden,), "out": (hidden,), "shift": ()}
    return reduce_tokens(model, GatedRegions(Gate(*(calibrated(artifact, name, shapes[name], model) for name in Gate._fields)), region))


def fit_gate(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, calibration: Data, share: float, weight: float, hidden: int, samples: int, steps: int,
) -> dict[str, Tensor]:  # fmt: skip
    """into, bias, out and shift of the gate; nothing where no region is coarse."""
    region = region_of("learned_mixed_scale", model)
    if share == 0:
        return {}
    return learn_gate(model, load_batch, draws, calibration, region, share, weight, hidden, samples, steps)


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample that it is applied to; a gradient pass for each row of a tile in every step, once."""
    return Passes(fit=0.0 if spec.get("share") == 0 else product_of(spec, "steps") * model.tile)


class GatedRegions(TokenPolicy):
    """Gives the regions that a gate closes one token each. region: (height, width) in pixels."""

    into: Tensor
    bias: Tensor
    out: Tensor
    shift: Tensor

    def __init__(self, gate: Gate, region: tuple[int, int]) -> None:
        super().__init__()
        for name, tensor in gate._asdict().items():
            self.register_buffer(name, tensor)
        self.region = region

    def at_embedding(self, tokens: Tokens, images: Tensor, vit: Any) -> Tokens:
        """The fine tokens, and behind them those of all regions, both in raster order."""
        values = embedded_regions(vit, images, SIDE).to(tokens.values.dtype)
        regions = values.shape[1]
        places = torch.full((len(values), regions), NO_PATCH, device=values.device)
        gate = regions * (self.into.numel() + self.out.numel())
        return tokens.having(
            values=torch.cat((tokens.values, values), dim=1),
            sizes=torch.cat((tokens.sizes, tokens.sizes.new_full(places.shape, SIDE * SIDE)), dim=1),
            places=torch.cat((tokens.places, places), dim=1), costs=with_embedding(tokens.costs, vit, regions).plus(gate),
        )  # fmt: skip

    def at_input(self, tokens: Tokens, images: Tensor) -> list[Tokens]:
        """Of each image the fine tokens of open regions and the coarse ones of the others."""
        fine = gate_logits(Gate(self.into, self.bias, self.out, self.shift), images, self.region) > 0
        members = members_of(images.shape[2] // self.region[0], images.shape[3] // self.region[1]).to(images.device)
        return [_chosen(one, flags, members) for one, flags in zip(tokens.each(), fine, strict=True)]


def _chosen(one: Tokens, fine: Tensor, members: Tensor) -> Tokens:
    """The tokens of one image at the scale of each region. fine: (regions,) bool; members: (regions, 4), the patches of each."""
    patches = members[fine].flatten().sort().values
    coarse = members.numel() + (~fine).nonzero()[:, 0]
    return one.take(torch.cat((patches, coarse))[None]).having(merged=bool(len(coarse)))
