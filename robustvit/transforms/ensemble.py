"""Several models as one: their logits, or probabilities, averaged."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.class_lookup import look_up, names_classes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import constructor_arguments, seeing
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import transform

Fused = Literal["logits", "probabilities"]

_CITATION = """@inproceedings{liu2017delving,
  title={Delving into Transferable Adversarial Examples and Black-box Attacks},
  author={Liu, Yanpei and Chen, Xinyun and Liu, Chang and Song, Dawn},
  booktitle={International Conference on Learning Representations},
  year={2017}
}
@inproceedings{dong2018boosting,
  title={Boosting Adversarial Attacks with Momentum},
  author={Dong, Yinpeng and Liao, Fangzhou and Pang, Tianyu and Su, Hang and Zhu, Jun and Hu, Xiaolin and Li, Jianguo},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
  year={2018}
}"""


@transform(
    family="ensemble", source="Liu et al. 2017 (probabilities), Dong et al. 2018 (logits)", url="https://arxiv.org/abs/1611.02770",
    citation=_CITATION, no_op="weight=0",
    rules="A surrogate for transfer attacks, and a model like any other. Three models that weigh alike are "
    "`a+ensemble(other=b)+ensemble(other=c,weight=1/3)`. Transforms of a model's module do not take an ensemble: put them before it.",
)  # fmt: skip
def ensemble(model: Classifier, *, other: Classifier, weight: Annotated[float, Ge(0), Lt(1)] = 0.5, fused: Fused = "logits") -> Classifier:
    """A mean of two models' outputs: (1 − weight) of the model and weight of the other.

    other: a model of the same classes; one of another input size sees the images resized, bicubic, with gradients. Where both name their
    classes the other's are brought into the model's order. fused: logits, or probabilities, whose logarithms the logits then are. Raises
    BadParameter where the two have other classes.
    """
    order = _order(model, other)
    return _Ensemble(model, seeing(other, model.view), weight, fused, order)


def _order(model: Classifier, other: Classifier) -> tuple[int, ...] | None:
    """Which logit of the other is each class of the model; None where they are in one order."""
    if model.outputs != other.outputs:
        raise BadParameter(
            f"an ensemble is of models of the same classes: '{model.card.label}' has {model.outputs} outputs, and '{other.card.label}' "
            f"{other.outputs}."
        )
    names = (model.card.classes, other.card.classes)
    if not all(len(one) == model.outputs and names_classes(one) for one in names):
        return None
    found = look_up(*names)
    order = found.order()
    if order is None:
        raise BadParameter(f"an ensemble is of models of the same classes; those of '{model.card.label}' and '{other.card.label}' differ.")
    return None if order == tuple(range(len(order))) else order


class _Ensemble(Classifier):
    """A mean of the outputs of two classifiers. order: which logit of the second is each class, None where they are in one order."""

    def __init__(self, first: Classifier, second: Classifier, weight: float, fused: Fused, order: tuple[int, ...] | None) -> None:
        super().__init__(**constructor_arguments(first))
        self.first, self.second, self.weight, self.fused, self.order = first, second, weight, fused, order
        kinds = [first.gradient, *([second.gradient] if weight else [])]
        self.gradient = next((kind for kind in kinds if kind != "exact"), "exact")

    @property
    def outputs(self) -> int:
        """The number of logits of either."""
        return self.first.outputs

    def configure(self, *, tile: int | None = None, precision: str | None = None) -> Classifier:
        """Sets rows per tile and arithmetic precision, of both; returns itself."""
        for part in ("first", "second"):
            if part in self._modules:
                getattr(self, part).configure(tile=tile, precision=precision)
        return super().configure(tile=tile, precision=precision)

    def bound(self, draws: Draws) -> Classifier:
        """Both bound to the draws."""
        first, second = self.first.bound(draws), self.second.bound(draws)
        if first is self.first and second is self.second:
            return self
        return _Ensemble(first, second, self.weight, self.fused, self.order)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, K) float32 logits."""
        logits: Tensor = self.first(images)
        if not self.weight:
            return logits
        other: Tensor = self.second(images)
        if self.order is not None:
            other = other[:, list(self.order)]
        if self.fused == "logits":
            return (1 - self.weight) * logits + self.weight * other
        shares = logits.new_tensor([1 - self.weight, self.weight]).log()
        both = torch.stack((logits.log_softmax(dim=1) + shares[0], other.log_softmax(dim=1) + shares[1]))
        return both.logsumexp(dim=0)
