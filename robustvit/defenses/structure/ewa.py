"""Experts weights averaging: MLPs are trained as several experts, which become one MLP again."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import nn

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.structure.experts import Experts, with_experts, without_experts
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@article{huang2023experts,
  title={Experts Weights Averaging: A New General Training Scheme for Vision Transformers},
  author={Huang, Yongqi and Ye, Peng and Huang, Xiaoshui and Li, Sheng and Chen, Tao and He, Tong and Ouyang, Wanli},
  journal={arXiv preprint arXiv:2308.06093},
  year={2023}
}"""


@defense(
    family="structure", source="Huang et al. 2023", url="https://arxiv.org/abs/2308.06093", citation=_CITATION,
    licence="the authors released no code; this is written from the paper",
    rules="What is kept is a plain model of the same operations; training has more parameters and as many operations. The defaults of "
    "`experts` and `share` are ours. Adversarial images and measurements are of the mean of the experts.",
)  # fmt: skip
def ewa(*, experts: Count = 4, share: Annotated[float, Ge(0), Le(1)] = 0.3, every: Count = 2) -> Defense:
    """Experts weights averaging (EWA, Huang et al. 2023): MLPs become experts that a random equal share of tokens each trains.

    experts: in the place of each MLP, all like it at first; tokens of a batch are divided between them anew every forward pass. share:
    after each step every expert moves by this share towards the mean of the others; it rises from 0 over training. every: of so many blocks
    one has experts, the last of them. The model that is kept has the mean of the experts in their place. With one expert it is plain
    training, to the bit. Takes timm's plain vision transformers.
    """
    state = {"share": torch.tensor(share, dtype=torch.float64)}

    def batch(given: Batch, draws: Draws) -> Batch:
        state["share"] = torch.tensor(share * given.progress.done, dtype=torch.float64)
        return given

    def after_step(model: nn.Module) -> None:
        for part in model.modules():
            if isinstance(part, Experts):
                part.average(float(state["share"]))

    return Defense(
        "ewa", prepare=lambda model: with_experts(plain_host(model, "ewa"), experts, every), batch=batch, after_step=after_step,
        export=without_experts, state=state,
    )  # fmt: skip
