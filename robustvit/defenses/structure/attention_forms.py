"""Training with attention of other forms than the softmax of dot products."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from robustvit.primitives.defense import Defense
from robustvit.primitives.structure.attention_forms import form_attention
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_RELU = """@article{wortsman2023replacing,
  title={Replacing softmax with ReLU in Vision Transformers},
  author={Wortsman, Mitchell and Lee, Jaehoon and Gilmer, Justin and Kornblith, Simon},
  journal={arXiv preprint arXiv:2309.08586},
  year={2023}
}"""
_L2 = """@inproceedings{kim2021lipschitz,
  title={The Lipschitz Constant of Self-Attention},
  author={Kim, Hyunjik and Papamakarios, George and Mnih, Andriy},
  booktitle={International Conference on Machine Learning},
  year={2021}
}"""


@defense(
    family="structure", source="Wortsman et al. 2023", url="https://arxiv.org/abs/2309.08586", citation=_RELU,
    rules="For training from the start, or of many epochs. Rows of attention do not sum to 1: what reads attention maps refuses the model.",
)  # fmt: skip
def relu_attention(*, exponent: Annotated[float, Ge(0)] = 1.0) -> Defense:
    """ReLU attention (Wortsman et al. 2023): relu(QKᵀ/√d) / Lᵃ in place of the softmax, in every block.

    exponent: a, of the number of keys L, those of prefix tokens included; about 1 is best in the paper. The checkpoint names the transform
    `attention_form`. Takes timm's plain vision transformers.
    """
    return Defense(
        "relu_attention", prepare=lambda model: form_attention(plain_host(model, "relu_attention"), "relu", exponent),
        surgery=named_surgery("attention_form", form="relu", exponent=exponent),
    )  # fmt: skip


@defense(
    family="structure", source="Kim et al. 2021", url="https://arxiv.org/abs/2006.04710", citation=_L2,
    rules="For training from the start, or of many epochs. Differs from the paper, whose proof also ties the values' projection to the "
    "keys': values are free here, and no Lipschitz constant is certified.",
)  # fmt: skip
def l2_attention() -> Defense:
    """L2 attention (Kim et al. 2021): the softmax of −|k_i − k_j|²/√d in every block, with queries that are the keys.

    Its Jacobian does not grow with its input, as that of dot products does. It starts from the keys' projection; that of queries is left
    unused. The checkpoint names the transform `attention_form`. Takes timm's plain vision transformers.
    """
    return Defense(
        "l2_attention", prepare=lambda model: form_attention(plain_host(model, "l2_attention"), "l2"),
        surgery=named_surgery("attention_form", form="l2"),
    )  # fmt: skip
