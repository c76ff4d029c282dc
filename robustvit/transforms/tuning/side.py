"""Hierarchical Side-Tuning, reduced: a trained side network beside a frozen vision transformer."""

from __future__ import annotations

from torch import nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.structure.side_network import add_side_network
from robustvit.primitives.surgery.hosts import plain_vit, refusing
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="tuning", source="Lin et al. 2023 (Hierarchical Side-Tuning), reduced", url="https://arxiv.org/abs/2310.05393", hosts="side",
    no_op="width=0",
    citation="""@misc{lin2023hierarchical,
  title={Hierarchical Side-Tuning for Vision Transformers},
  author={Lin, Weifeng and Wu, Ziheng and Yang, Wentao and Huang, Mingxin and Jin, Lianwen},
  year={2023},
  eprint={2310.05393},
  archivePrefix={arXiv}
}""",
    rules="A structure to train, by `robustvit train --from MODEL --tuning side`: before that it changes nothing. Reduced: the meta tokens "
    "of the paper, which change what the transformer computes, and its cross-attention are left out; side blocks are convolutions, the "
    "side map has three scales instead of four, and its logits are added to those of a linear head on the transformer's own features, so "
    "that without the side network it is a linear probe. Of its figures none is claimed.",
)  # fmt: skip
def side(model: Classifier, *, width: Whole = 64) -> Classifier:
    """A side network (Hierarchical Side-Tuning, reduced): it reads the tokens of every block as maps, and its logits are added.

    width: channels of the side map; 0 changes nothing. For a ViT-B it has 0.8 million weights. Its last layer begins at zero, and the
    logits are those of the model until it is trained. Raises HostRefused for a model without a linear head.
    """

    def beside(module: nn.Module) -> nn.Module:
        if width and plain_vit(module) is not module:
            raise HostRefused("something walks its blocks already, which the side network would not; add it before that.")
        with seeded():
            return add_side_network(module, width).eval()

    with refusing("side", model):
        return changed(model, beside)
