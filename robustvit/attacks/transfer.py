"""Transfer attacks: adversarial images crafted on a surrogate model and evaluated on another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.attack_search import GRADIENTS, Crafted
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import seeing
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.passes import Passes, declared_passes
from robustvit.spec import registry
from robustvit.spec.spec import Spec

Attack = Callable[..., Crafted | Tensor]

_CITATION = """@article{papernot2016transferability,
  title={Transferability in Machine Learning: from Phenomena to Black-Box Attacks using Adversarial Samples},
  author={Papernot, Nicolas and McDaniel, Patrick and Goodfellow, Ian},
  journal={arXiv preprint arXiv:1605.07277},
  year={2016}
}"""


@registry.attack(
    severity="attack.eps", family="surrogate", source="Papernot, McDaniel and Goodfellow 2016", url="https://arxiv.org/abs/1605.07277",
    citation=_CITATION,
    passes="attack_passes",
    rules="Images that the evaluated model gets right are attacked on the surrogate, including those that the surrogate gets wrong.",
)  # fmt: skip
def transfer(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, surrogate: Classifier, attack: Attack
) -> Crafted:  # fmt: skip
    """Transfer (Papernot et al. 2016): attacks a surrogate and evaluates the model on the images, without querying it.

    surrogate: a model, or an ensemble; one of another input size sees the images resized, bicubic, with gradients. Its outputs are the
    classes of the data, unless the attack reads no labels. attack: the attack on it, with a budget of its own, which the images are
    checked against. An attack that stops at the first image that fools the surrogate transfers poorly: with `early: false` pgd and the
    momentum attacks take all their steps. queries and gradients count those of the surrogate; steps is −1, because only the last image is
    evaluated. The paper also trains surrogates on labels queried from the target; here the surrogate is given.
    """
    returned = attack(keyed_by(seeing(surrogate, replace(model.view, shown=None)), draws), images, labels, draws)
    crafted = returned if isinstance(returned, Crafted) else Crafted(returned)
    return Crafted(crafted.images, _of_surrogate(crafted.columns))


def _of_surrogate(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """The columns of an attack on the surrogate: its queries, its gradients, and that these were the surrogate's."""
    kept = {name: values for name, values in columns.items() if name in ("queries", "gradients")}
    if "gradient" in columns:
        codes = [GRADIENTS.index(name) for name in ("exact", "straight-through")]
        followed = torch.isin(columns["gradient"], torch.tensor(codes).to(columns["gradient"]))
        kept["gradient"] = torch.where(followed, GRADIENTS.index("surrogate"), columns["gradient"])
    return kept


def attack_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Those of the attack on the surrogate, which is taken to be as expensive as the model."""
    attack = spec.get("attack")
    inner = declared_passes(registry.lookup("attack", attack.name), attack, model, plugins) if isinstance(attack, Spec) else None
    return inner or Passes()
