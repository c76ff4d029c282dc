"""What each attention head does for predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.head_lesions import head_effects, head_list
from robustvit.primitives.passes import Passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="lesions", source="Li et al. 2023, How Does Attention Work in Vision Transformers? (the question; formulas are ours)",
    url="https://arxiv.org/abs/2303.13731", licence="a published idea; no code is used", reads_labels=True, passes="importance_passes",
    rules="One head at a time: heads that stand in for each other are each unimportant. The suite head-lesion removes them together.",
)  # fmt: skip
def head_importance(model: Classifier, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
    """What becomes of each prediction without the value output of each attention head, one head at a time.

    With p the softmax probabilities and q those without a head, lists of columns, an entry for each head, block after block:
    value_drop_label, p − q of the label; value_drop_answer, p − q of the predicted class; value_js, the Jensen-Shannon divergence of p and
    q in bits, 0 to 1; value_flip, 1 where another class is predicted. Earlier blocks are computed once: (L + 1) / 2 passes a head. Raises
    HostRefused for another model than timm's plain vision transformer.
    """
    found = head_effects("head_importance", model, images, labels)
    return {f"value_{name}": values for name, values in found._asdict().items()}


def importance_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """One, and for each head those of the blocks from its own."""
    heads = head_list(model.model)
    depth = heads[-1][0] + 1
    return Passes(forward=1 + sum(depth - block for block, _ in heads) / depth)
