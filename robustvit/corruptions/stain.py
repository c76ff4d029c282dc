"""Stain jitter of histology images: separates haematoxylin, eosin and DAB, perturbs them and recombines them."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.corruptions.kernels.eight_bit import in_chunks, levels
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import of_levels
from robustvit.spec.registry import corruption

_SIGMA = (0.02, 0.05, 0.1, 0.2, 0.4)
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))  # optical density of H, E and DAB in red, green and blue
_WHITE = 256.0  # optical density is −log((level + 1) / 256): zero for white, finite for black


@corruption(
    severity="severity",
    family="stain",
    source="Tellez et al. 2018, Whole-Slide Mitosis Detection in H&E Breast Histology Using PHH3 as a Reference (IEEE TMI)",
    url="https://doi.org/10.1109/TMI.2018.2820199",
    licence="a published definition; no code is used",
    citation="""@article{tellez2018whole,
  title={Whole-Slide Mitosis Detection in H\\&E Breast Histology Using PHH3 as a Reference
    to Train Distilled Stain-Invariant Convolutional Networks},
  author={Tellez, David and others},
  journal={IEEE Transactions on Medical Imaging},
  year={2018}
}""",
    rules="Severities 1 to 5 jitter by up to 0.02, 0.05, 0.1, 0.2 and 0.4: levels chosen by robustvit. Rounded to 8 bits, not truncated.",
)
def stain_jitter(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Stain variation: each stain's density s becomes s·(1 + a) + b, with a and b uniform within ± 0.02 … 0.4, drawn per image.

    The stains are those of Ruifrok and Johnston 2001, to two digits and not normalised. The draws do not depend on the severity.
    """
    jitter = draws.at("jitter").uniform(2, 3, low=-1.0, high=1.0) * _SIGMA[severity - 1]
    return in_chunks(_stain_jitter, images, jitter)


def _stain_jitter(images: Tensor, jitter: Tensor) -> Tensor:
    """jitter: (N, 2, 3), a and b of each stain."""
    stains = torch.tensor(_STAINS, dtype=torch.float64, device=images.device)
    a, b = jitter.double().unbind(1)
    concentration = _matrix_product(torch.linalg.inv(stains), -((levels(images) + 1.0) / _WHITE).log())
    density = _matrix_product(stains, concentration * (1.0 + a)[:, :, None, None] + b[:, :, None, None])
    return of_levels(((-density).exp() * _WHITE - 1.0).round_().clamp_(0.0, 255.0))


def _matrix_product(matrix: Tensor, images: Tensor) -> Tensor:
    """Each pixel, as a row vector, times a (3, 3) matrix; summed in one fixed order."""
    first, second, third = images.unbind(1)
    return torch.stack([first * column[0] + second * column[1] + third * column[2] for column in matrix.unbind(1)], dim=1)
