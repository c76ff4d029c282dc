"""How much a model stretches small circles around an image."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

_JVP = 4.3  # a forward pass with its directional derivative, in forward passes; measured


@analysis(
    family="insides", severity="corruption.severity",
    source="Chen et al. 2022, Auto-scaling Vision Transformers without Training (of an initialisation; of a trained model it is ours)",
    url="https://arxiv.org/abs/2202.11921", licence="MIT; no code is used", passes="distortion_passes",
    rules="The paper measures networks before training, without norms, and sums instead of integrating. Pixels on the circle may leave "
    "[0, 1].",
)  # fmt: skip
def length_distortion(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None,
    radius: Annotated[float, Gt(0)] = 0.5, points: Annotated[int, Ge(3)] = 16,
) -> dict[str, Tensor]:  # fmt: skip
    """The length of what a circle around an image becomes in the logits, over its own.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    The circle has this radius in l2, of pixels in [0, 1], and lies in a random plane of the image's own. The length of what it becomes is
    integrated from directional derivatives at so many points: how much the model stretches in random directions, 1 of a rotation.
    Columns: value_clean_distortion; of shifted images value_shifted_distortion.
    """
    shifted = shifted_images("length_distortion", model, images, labels, draws, corruption, attack)
    across, up = _plane(images, draws)

    def measure(some: Tensor) -> dict[str, Tensor]:
        total = torch.zeros(len(some), dtype=torch.float64, device=some.device)
        for point in range(points):
            angle = 2 * math.pi * point / points
            place = some + radius * (math.cos(angle) * across + math.sin(angle) * up)
            total += _stretched(model, place, math.cos(angle) * up - math.sin(angle) * across)
        return {"distortion": (total / points).float()}

    return both(measure, images, shifted)


def distortion_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One with its derivative for each point of the circle."""
    return shifted_passes(_JVP * product_of(spec, "points"), plugins)


def _plane(images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Two orthonormal directions for each image."""
    across, up = (draws.at(name).normal(*images.shape[1:]).flatten(1).double() for name in ("across", "up"))
    across = across / across.norm(dim=1, keepdim=True)
    up = up - (up * across).sum(dim=1, keepdim=True) * across
    up = up / up.norm(dim=1, keepdim=True)
    first, second = (one.view_as(images).to(images.dtype) for one in (across, up))
    return first, second


def _stretched(model: Classifier, images: Tensor, directions: Tensor) -> Tensor:
    """(n,): the length of the derivative of the logits along directions."""
    with (
        torch.no_grad(), sdpa_kernel(SDPBackend.MATH), model.unbounded_pixels(), model.in_float32(), warnings.catch_warnings(),
        forward_ad.dual_level(),
    ):  # fmt: skip
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # of torch's own rules of derivatives
        logits = model(forward_ad.make_dual(images, directions))  # type: ignore[no-untyped-call]
        tangent: Tensor | None = forward_ad.unpack_dual(logits).tangent  # type: ignore[no-untyped-call]
        return torch.zeros(len(images)) if tangent is None else tangent.double().norm(dim=1)
