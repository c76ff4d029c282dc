"""Adversarial training with any registered attack: on the model in training, or on another that stays as it is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import Card
from robustvit.spec.registry import defense
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

Attack = Callable[..., Crafted | Tensor]

_CITATION = """@inproceedings{tramer2018ensemble,
  title={Ensemble Adversarial Training: Attacks and Defenses},
  author={Tram{\\`e}r, Florian and Kurakin, Alexey and Papernot, Nicolas and Goodfellow, Ian and Boneh, Dan and McDaniel, Patrick},
  booktitle={International Conference on Learning Representations},
  year={2018}
}"""


@defense(
    family="adversarial", source="with a surrogate: Tramèr et al. 2018", url="https://arxiv.org/abs/1705.07204", citation=_CITATION,
    rules="A model that is trained on images of one attack is evaluated under others: by AutoAttack, and by adaptive attacks on itself, "
    "never by images of the surrogate alone, which are no threat to a model that was trained on them.",
)  # fmt: skip
def attack_at(*, attack: Attack, surrogate: Classifier | None = None) -> Defense:
    """Adversarial training with the images of an attack of a suite: `attack_at(attack=patch(size=8, steps=10))`.

    attack: any that needs no artifact, with a budget of its own, on images at the model's size; one that stops at its first success makes
    weak images (`early=false`). surrogate: attacks this model, which is not trained, so that images are transferred (ensemble adversarial
    training, Tramèr et al. 2018); default the model in training, in evaluation mode. Whatever the loss, it is of these images.
    """

    def craft(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        attacked = surrogate if surrogate is not None else _classifier(model, batch)
        found = attack(attacked, batch.images, batch.labels, draws)
        return found.images if isinstance(found, Crafted) else found

    return Defense("attack_at", craft=craft)


def _classifier(model: nn.Module, batch: Batch) -> Classifier:
    """The model in training as attacks take it, for images of the size of the batch."""
    channels, height, width = batch.images.shape[1:]
    card = Card("in training", Spec("training"), "", "given")
    view = View((height, width), min(height, width))
    return Classifier(model, mean=(0.0,) * channels, std=(1.0,) * channels, view=view, card=card, tile=len(batch))
