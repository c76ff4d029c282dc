"""Attention of other forms than the softmax of dot products."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.structure.attention_forms import AttentionForm, form_attention
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="structure", source="Wortsman et al. 2023 (relu), Kim et al. 2021 (l2)", url="https://arxiv.org/abs/2309.08586", hosts="blocks",
    no_op="form=softmax",
    rules="A structure to train, by the defenses `relu_attention` and `l2_attention`: a model trained with softmax is much worse with "
    "another form. Rows of relu attention do not sum to 1: what reads attention maps, and token reduction, refuse it.",
)  # fmt: skip
def attention_form(model: Classifier, *, form: AttentionForm = "relu", exponent: Annotated[float, Ge(0)] = 1.0) -> Classifier:
    """The same projections with attention of another form in every block.

    form: relu, relu(QKᵀ/√d) / Lᵃ for L keys; l2, softmax of −|k_i − k_j|²/√d, with queries that are the keys; softmax changes nothing.
    exponent: a, of relu.
    """

    def formed(module: nn.Module) -> nn.Module:
        return form_attention(module, form, exponent)

    with refusing("attention_form", model):
        return changed(model, formed)
