"""AdaptFormer: trained bottlenecks beside the MLPs of a frozen vision transformer."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import NonNegative, Whole
from robustvit.primitives.structure.adapters import adapt_blocks
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="tuning", source="Chen et al. 2022 (AdaptFormer)", url="https://arxiv.org/abs/2205.13535", hosts="plain", no_op="width=0",
    citation="""@inproceedings{chen2022adaptformer,
  title={AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition},
  author={Chen, Shoufa and Ge, Chongjian and Tong, Zhan and Wang, Jiangliu and Song, Yibing and Wang, Jue and Luo, Ping},
  booktitle={Advances in Neural Information Processing Systems},
  year={2022}
}""",
    licence="the authors' code is MIT; this is written from the paper",
    rules="A structure to train, by `robustvit train --from MODEL --tuning adapter`: before that it changes nothing. Bottlenecks are given "
    "the tokens after the MLP's norm, as the paper's equation has it. Where a block scales what its MLP makes (LayerScale), it "
    "scales what the bottleneck makes, too.",
)  # fmt: skip
def adapter(model: Classifier, *, width: Whole = 64, scale: NonNegative = 0.1) -> Classifier:
    """Bottlenecks beside the MLPs (AdaptFormer, Chen et al. 2022): MLP(h) + scale · relu(h · down) · up in every block.

    width: of the bottleneck; 0 changes nothing. scale: s of the paper. up begins at zero, and the logits are those of the model until it is
    trained.
    """

    def adapted(module: nn.Module) -> nn.Module:
        with seeded():
            return adapt_blocks(module, width, scale).eval()

    return changed(model, adapted)
