"""A penalty on attention maps, whose training is followed by pruning."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import NonNegative
from robustvit.primitives.training.attention import trained_attention
from robustvit.spec.registry import defense

_CITATION = """@article{prasetyo2023sparse,
  title={Sparse then Prune: Toward Efficient Vision Transformers},
  author={Prasetyo, Yogi and Yudistira, Novanto and Widodo, Agus Wahyu},
  journal={arXiv preprint arXiv:2307.11988},
  year={2023}
}"""


@defense(
    family="structure", source="Prasetyo et al. 2023", url="https://arxiv.org/abs/2307.11988", citation=_CITATION,
    licence="the authors' code has no licence; this is written from the paper and facts of the code",
    rules="Rows of attention sum to 1, and on them the penalty is least for uniform attention, log(1 + 1/T²), and greatest where every "
    "query attends to one token, log(2)/T: it spreads attention, whatever the paper calls it. Report what it does to maps beside accuracy. "
    "Prune afterwards with the transform `magnitude`. A forward and a backward pass more.",
)  # fmt: skip
def sparse_attention(*, weight: NonNegative = 0.01, blocks: Literal["last", "all"] = "last") -> Defense:
    """Sparse attention regularisation (Prasetyo et al. 2023): weight · the mean of log(1 + A²) over all entries of attention maps.

    blocks: the maps of the last one, as the authors' code has it, or of all of them, as their text has it. weight: 0 is plain training.
    """

    def penalty(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        maps = trained_attention(model, batch.shown).maps
        return weight * log_penalty(maps if blocks == "all" else maps[-1:])

    return Defense("sparse_attention", penalty=penalty) if weight else Defense("sparse_attention")


def log_penalty(maps: list[Tensor]) -> Tensor:
    """() the mean of log(1 + A²) over the entries of maps, (N, heads, T, T) for each block."""
    return torch.stack([one.square().log1p().mean() for one in maps]).mean()
