"""Transfer: images made against one model, judged on another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustvit.primitives.attack_search import GRADIENTS, Crafted
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.spec import registry

Attack = Callable[..., Crafted | Tensor]

_CITATION = """@article{papernot2016transferability,
  title={Transferability in Machine Learning: from Phenomena to Black-Box Attacks using Adversarial Samples},
  author={Papernot, Nicolas and McDaniel, Patrick and Goodfellow, Ian},
  journal={arXiv preprint arXiv:1605.07277},
  year={2016}
}"""


@registry.attack(
    severity="attack.eps", family="surrogate", source="Papernot, McDaniel and Goodfellow 2016", url="https://arxiv.org/abs/1605.07277", citation=_CITATION,
    rules="The images that the judged model gets right are attacked on the surrogate, also those that the surrogate gets wrong.",
)  # fmt: skip
def transfer(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, surrogate: Classifier, attack: Attack
) -> Crafted:  # fmt: skip
    """Attacks a surrogate and hands the images to the model, which is asked nothing and gives no gradient.

    surrogate: a model for pictures of the same size. attack: with a budget of its own, which these images are held to. An attack that stops at the
    first image that fools the surrogate leaves the model little to fall for: with `early: false` pgd and the momentum attacks take all their steps.
    queries and gradients count what the surrogate was asked; no step is told, because only the last image is judged.
    """
    returned = attack(surrogate.bound(draws), images, labels, draws)
    crafted = returned if isinstance(returned, Crafted) else Crafted(returned)
    return Crafted(crafted.images, _of_surrogate(crafted.columns))


def _of_surrogate(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """The books of an attack on another model: gradients that it had were that model's."""
    told = {name: values for name, values in columns.items() if name in ("queries", "gradients")}
    if "gradient" in columns:
        had = torch.isin(columns["gradient"], _codes("exact", "straight-through").to(columns["gradient"]))
        told["gradient"] = torch.where(had, GRADIENTS.index("surrogate"), columns["gradient"])
    return told


def _codes(*names: str) -> Tensor:
    return torch.tensor([GRADIENTS.index(name) for name in names])
