"""Haze: atmospheric scattering at a constant depth."""

from __future__ import annotations

import math
from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor

from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption


@corruption(
    severity="beta",
    family="weather",
    source="Song et al. 2023, Vision Transformers for Single Image Dehazing (IEEE TIP); the atmospheric scattering model",
    url="https://github.com/IDKiro/DehazeFormer",
    licence="MIT",
    citation="""@article{song2023dehazeformer,
  title={Vision Transformers for Single Image Dehazing},
  author={Song, Yuda and He, Zhuqing and Qian, Hui and Du, Xin},
  journal={IEEE Transactions on Image Processing},
  year={2023}
}""",
    rules="One depth for the whole image, so that only the product of beta and depth matters. Not truncated to 8 bits.",
)
def haze(
    images: Tensor,
    draws: Draws,
    *,
    beta: Annotated[float, Ge(0)],
    depth: Annotated[float, Ge(0)] = 1.0,
    airlight: Annotated[float, Ge(0), Le(1)] = 1.0,
) -> Tensor:
    """Haze by atmospheric scattering, I = J·t + A·(1 − t) with t = exp(−β·d); A is white by default. beta 0 is the identity.

    beta: scattering coefficient per unit of depth. airlight: A, in [0, 1], the same for all channels.
    """
    clear = math.exp(-beta * depth)
    return images * clear + airlight * (1.0 - clear)
