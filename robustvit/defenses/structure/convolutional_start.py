"""Training from a first block whose attention is a convolution."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt

from robustvit.primitives.defense import Defense
from robustvit.primitives.limits import Count
from robustvit.primitives.structure.convolutional_attention import start_as_convolution
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@article{li2021can,
  title={Can Vision Transformers Perform Convolution?},
  author={Li, Shanda and Chen, Xiangning and He, Di and Hsieh, Cho-Jui},
  journal={arXiv preprint arXiv:2111.01353},
  year={2021}
}"""
_NAME = "convolutional_start"


@defense(
    family="structure", source="Li et al. 2021; Cordonnier et al. 2020", url="https://arxiv.org/abs/2111.01353", citation=_CITATION,
    rules="For training from the start. Reduced: the paper first trains a convolutional network and takes its weights over; here the first "
    "block alone begins as a convolution, of patch tokens behind its norm, with the values and the projection that it has.",
)  # fmt: skip
def convolutional_start(*, kernel: Count = 3, sharpness: Annotated[float, Gt(0)] = 20.0) -> Defense:
    """Begins training where the first attention is exactly a convolution of the patch tokens (Li et al. 2021): nine heads for 3x3.

    kernel: odd, in patches; the first kernel² heads are its taps. sharpness: what a head's own neighbour has more than others before the
    softmax: 20 is a convolution to rounding in float32, and training hardly moves its attention; about 5 lets it. Convolution, a bias of
    relative positions and a factor for each head's content are trained. The checkpoint names the transform `convolutional_start`. Takes
    timm's plain vision transformers of at least kernel² heads.
    """
    return Defense(
        _NAME, prepare=lambda model: start_as_convolution(plain_host(model, _NAME), kernel, sharpness),
        surgery=named_surgery(_NAME, kernel=kernel, sharpness=sharpness),
    )  # fmt: skip
