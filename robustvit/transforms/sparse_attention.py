"""Sparse attention: each query attends to the keys of its largest scores alone."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from annotated_types import Gt, Le
from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.modules import changed
from robustvit.primitives.surgery.plain_attention import keep_largest_scores
from robustvit.spec.registry import transform

Share: TypeAlias = Annotated[float, Gt(0), Le(1)]

CITATION = """@inproceedings{wei2023sparsifiner,
  title={Sparsifiner: Learning Sparse Instance-Dependent Attention for Efficient Vision Transformers},
  author={Wei, Cong and Duke, Brendan and Jiang, Ruowei and Aarabi, Parham and Taylor, Graham W. and Shkurti, Florian},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2023}
}"""


@transform(
    family="sparse-attention", source="Wei et al. 2023 (Sparsifiner), the true scores in place of its predictor",
    url="https://arxiv.org/abs/2303.13755", citation=CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="Saves no operations: keys are chosen by the true scores, which takes the product of queries and keys once more. No choice of "
    "this share of keys keeps more attention, though another may keep more accuracy: report no operations or time beside it. "
    "Differs from the paper: its low-rank predictor of scores is `learned_sparse_attention`, and nothing is fine-tuned. "
    "Distillation and register tokens attend to all keys, too, as the class token does. Gradients are exact on the chosen keys and "
    "blind to the choice.",
    hosts="plain", no_op="keep=1",
)  # fmt: skip
def sparse_attention(model: Classifier, *, keep: Share = 0.25) -> Classifier:
    """Sparse attention by an oracle, the true scores (of Sparsifiner, Wei et al. 2023): a query attends to its largest ones alone.

    keep: the share of keys, prefix included, that each patch token attends to in every head of every block, rounded up, of equal scores the
    first ones; 1 changes nothing. Prefix tokens attend to all. Scores are those of quantised queries and keys where they are quantised, and
    have the sizes of merged tokens where attention is proportional to them, before a temperature divides them.
    """

    def sparse(module: nn.Module) -> nn.Module:
        vit = plain_vit(module)
        for block in vit.blocks:
            block.attn = keep_largest_scores(block.attn, keep, vit.num_prefix_tokens)
        return module

    return changed(model, sparse)
