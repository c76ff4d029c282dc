"""Training on Gaussian noise, for certificates by randomised smoothing."""

from __future__ import annotations

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import NonNegative
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{cohen2019certified,
  title={Certified Adversarial Robustness via Randomized Smoothing},
  author={Cohen, Jeremy and Rosenfeld, Elan and Kolter, Zico},
  booktitle={International Conference on Machine Learning},
  year={2019}
}"""


@defense(
    family="certified", source="Cohen et al. 2019", url="https://arxiv.org/abs/1902.02918", citation=_CITATION,
    rules="Certify with the certificate `gaussian` at the sigma of training.",
)  # fmt: skip
def gaussian(*, sigma: NonNegative) -> Defense:
    """Gaussian data augmentation (Cohen et al. 2019): each image gets normal noise of its own, which is not clipped to [0, 1].

    sigma: its standard deviation in pixel units; 0 changes nothing.
    """

    def batch(given: Batch, draws: Draws) -> Batch:
        return given.with_images(given.images + sigma * draws.normal(*given.images.shape[1:]).to(given.images)) if sigma else given

    return Defense("gaussian", batch=batch)
