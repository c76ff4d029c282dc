"""Training on ablated images, so that certificates by ablations certify more of a model's predictions."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.masked_inference import Unseen, masked_forward
from robustvit.spec.ablations import CITATION, Ablations, Kind
from robustvit.spec.registry import defense


@defense(
    family="certified", source="Salman et al. 2022, Certified Patch Robustness via Smoothed Vision Transformers", url="https://arxiv.org/abs/2110.07719",
    citation=CITATION,
)  # fmt: skip
def ablations(*, width: Annotated[int, Ge(1)], kind: Kind = "columns", unseen: Unseen = "auto") -> Defense:
    """Cross-entropy on one random ablation of every image.

    width: of the visible band, or the side of the visible block, in pixels: the same as for the certificate. unseen: as of the
    certificates; `auto` drops masked tokens of plain transformers. Differs from the paper, whose batches share one ablation: here each
    sample draws its own, among those at stride 1.
    """

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        height, across = batch.images.shape[2:]
        every = Ablations(kind, width, 1, (height, across))
        window = every.window(draws.integers(low=0, high=every.count).cpu().numpy())
        return functional.cross_entropy(masked_forward(model, batch.shown, window, unseen), batch.targets)

    return Defense("ablations", loss=loss)
