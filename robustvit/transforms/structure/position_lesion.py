"""Learned position embeddings taken away, or exchanged among the patches."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused, ModelError, with_article
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import around, constructor_arguments
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.learned_positions import (
    LearnedPositions,
    learned_positions,
    permuted,
    require_learned_positions,
    with_positions,
)
from robustvit.primitives.limits import Whole
from robustvit.primitives.shared_weights import shared_copy
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.spec.registry import transform

CITATION = """@inproceedings{wang2023droppos,
  title={DropPos: Pre-Training Vision Transformers by Reconstructing Dropped Positions},
  author={Wang, Haochen and Fan, Junsong and Wang, Yuxi and Song, Kaiyou and Wang, Tong and Zhang, Zhaoxiang},
  booktitle={Advances in Neural Information Processing Systems},
  year={2023}
}"""


@transform(
    family="structure", source="definition; the question of Wang et al. 2023 (DropPos)", url="https://arxiv.org/abs/2309.03576",
    citation=CITATION, licence="a published idea; no code is used", hosts="positions", no_op="lesion=none",
    rules="At test time alone: a model that was trained without positions is another model. dropped leaves tokens without an offset that "
    "they were trained with; mean keeps the offset and loses the place, so report both.",
)  # fmt: skip
def position_lesion(
    model: Classifier, *, lesion: Literal["none", "dropped", "mean", "shuffled"] = "shuffled", each: Literal["model", "sample"] = "model",
    seed: Whole = 0,
) -> Classifier:  # fmt: skip
    """Takes the learned position embeddings of the patches away; those of class and register tokens stay.

    lesion: none changes nothing; dropped, they are zero; mean, all are their mean over the patches; shuffled, they are permuted among the
    patches. each: whether one permutation of `seed` is the model's, or every sample has one of its own draws. Gradients are exact. Raises
    HostRefused for a model without a learned position embedding, such as one of relative or rotary positions.
    """
    found = require_learned_positions("position_lesion", model)
    if lesion == "none":
        return changed(model, unchanged)
    patches = found.patches
    if lesion == "shuffled" and each == "sample":
        return ShuffledPositions(model)
    if lesion == "shuffled":
        return with_positions(model, permuted(patches, Draws(seed, "positions", ["all"]).permutation(len(patches))[0].to(patches.device)))
    return with_positions(model, torch.zeros_like(patches) if lesion == "dropped" else patches.mean(dim=0).expand_as(patches))


class ShuffledPositions(Classifier):
    """A classifier whose patches have position embeddings in an order of each sample's own. draws: of its rows, once it is bound."""

    def __init__(self, host: Classifier, draws: Draws | None = None) -> None:
        super().__init__(**constructor_arguments(host))
        if getattr(plain := require_learned_positions("position_lesion", host).owner, "dynamic_img_size", False):
            raise HostRefused(
                f"'position_lesion': {with_article(type(plain).__name__)} that resamples its positions has no batch of "
                "them; use each=model."
            )
        self.host, self.draws, self.gradient = host, draws, host.gradient
        module = shared_copy(host.model, host.card.label)
        self.shuffled = around(host, module)

    def with_module(self, module: nn.Module) -> Classifier:
        """The same for its host around another module."""
        return ShuffledPositions(around(self.host, module))

    @property
    def outputs(self) -> int:
        """The number of logits of its host."""
        return self.host.outputs

    def configure(self, *, tile: int | None = None, precision: str | None = None) -> Classifier:
        """Sets rows per tile and arithmetic precision, of its host too; returns itself."""
        for part in (self.host, self.shuffled) if "shuffled" in self._modules else ():
            part.configure(tile=tile, precision=precision)
        return super().configure(tile=tile, precision=precision)

    def bound(self, draws: Draws) -> Classifier:
        """The model with the permutations that the draws give to its rows."""
        return ShuffledPositions(self.host, draws)

    def module_context(self) -> contextlib.AbstractContextManager[None]:
        """That of its host."""
        return self.host.module_context()

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, K) float32 logits. Raises ModelError before it is bound to draws."""
        if self.draws is None:
            raise ModelError(
                f"model '{self.card.label}' draws an order of positions for each sample: bind it to samples first, `model.bound(draws)`."
            )
        positions: LearnedPositions = self._positions
        patches = require_learned_positions("position_lesion", self.host).patches
        order = self.draws.at("order of positions").permutation(len(patches)).to(patches.device)
        rows, logits = self.shuffled.tile, []
        for some, own in zip(torch.split(images, rows), torch.split(order, rows), strict=True):
            whole = torch.cat((own, own[:1].expand(rows - len(own), -1)))
            positions.replace(permuted(patches, whole))
            logits.append(self.shuffled(some))
        return torch.cat(logits)

    @property
    def _positions(self) -> LearnedPositions:
        found = learned_positions(self.shuffled.model)
        assert found is not None
        return found
