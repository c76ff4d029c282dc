"""Directed attention in place of a position embedding."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import NonNegative
from robustvit.primitives.resolution.directed_attention import FieldOfView, direct_attention
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform

_CITATION = """@inproceedings{fuller2024lookhere,
  title={LookHere: Vision Transformers with Directed Attention Generalize and Extrapolate},
  author={Fuller, Anthony and Kyrollos, Daniel G. and Yassin, Yousef and Green, James R.},
  booktitle={Advances in Neural Information Processing Systems},
  year={2024}
}"""


@transform(
    family="resolution", source="Fuller et al. 2024 (LookHere)", url="https://arxiv.org/abs/2405.13985", citation=_CITATION,
    hosts="patches", no_op="field=none",
    rules="A structure to train: what was trained with a position embedding is lost. The code of the authors has more sets "
    "of directions than the paper has names, and the released configurations were not at hand: 180 is four half planes, twice, 90 four "
    "triangles, twice, 45 their eight halves, each for two thirds of the heads; the rest see all. The scales of layers are from memory.",
)  # fmt: skip
def lookhere(
    model: Classifier, *, field: FieldOfView = "180", first: NonNegative = 1.5, last: NonNegative = 0.5
) -> Classifier:  # fmt: skip
    """LookHere (Fuller et al. 2024): no position embedding; heads look into fields of view, and scores fall with the distance of patches.

    field: the angle of the heads that have a direction, 180, 90 or 45 degrees; none changes nothing. first, last: the scale of the distance
    in the first and the last layer, linear between. Any grid of patches can follow (`image_size`), and whole-patch shifts of what is seen
    commute inside the image. Biases are made for a head at a time where they are large, so that memory does not grow by layers.
    """

    def directed(module: nn.Module) -> nn.Module:
        return module if field == "none" else direct_attention(module, field, (first, last))

    with refusing("lookhere", model):
        return changed(model, directed)
