"""Adversarial training against patches that are the same for all images, and grow stronger while the model is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.patches import paste, patch_mask, random_places
from robustvit.primitives.training.ascent import summed_cross_entropy
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{mummadi2019defending,
  title={Defending Against Universal Perturbations With Shared Adversarial Training},
  author={Mummadi, Chaithanya Kumar and Brox, Thomas and Metzen, Jan Hendrik},
  booktitle={IEEE/CVF International Conference on Computer Vision},
  year={2019}
}"""


@defense(
    family="adversarial", source="after Mummadi, Brox and Metzen 2019 (shared adversarial training)",
    url="https://arxiv.org/abs/1812.03705", citation=_CITATION,
    rules="Evaluate under patches that were fitted to the trained model (universal_patch), not under those of training. Differs from the "
    "paper: patches replace pixels and are kept from step to step, where the paper adds perturbations that begin anew in every batch.",
)  # fmt: skip
def universal_patch_at(*, size: Count, patches: Count = 10, step: Radius = 8 / 255) -> Defense:
    """Adversarial training against universal patches: each image shows one of a few patches, all of which ascend the loss at every step.

    size: side of a patch in pixels. patches: how many there are; each begins as uniform noise and is kept from step to step. step: of the
    sign of the gradient, summed over the images that show a patch. Every image draws its patch and its place anew. One forward and
    backward pass beside those of the loss.
    """
    state: dict[str, Tensor] = {}

    def craft(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        kept = _kept(state, batch, patches, size)
        chosen = draws.at("patch").integers(low=0, high=patches).to(kept.device)
        height, width = batch.images.shape[2:]
        corners = random_places(draws.at("place"), 1, height, width, size, None).to(kept.device)
        leaf = kept.clone().requires_grad_(True)
        with torch.enable_grad():
            loss = summed_cross_entropy(batch)(model(_shown(batch.images, leaf[chosen], corners)))
            (gradient,) = torch.autograd.grad(loss, leaf)
        state["patches"] = (kept + step * gradient.sign()).clamp(0, 1)
        return _shown(batch.images, state["patches"][chosen], corners)

    return Defense("universal_patch_at", craft=craft, state=state)


def _kept(state: dict[str, Tensor], batch: Batch, patches: int, size: int) -> Tensor:
    """The patches (P, C, size, size) of the step before, or noise."""
    if "patches" not in state:
        noise = Draws(0, "universal patches", [str(number) for number in range(patches)], batch.images.device)
        state["patches"] = noise.uniform(batch.images.shape[1], size, size).to(batch.images)
    return state["patches"]


def _shown(images: Tensor, patches: Tensor, corners: Tensor) -> Tensor:
    """Images with a patch each, whose upper left pixel is at its corner, (N, 1, 2) row and column; gradients reach the patches."""
    height, width = images.shape[2:]
    side = patches.shape[-1]
    rows, columns = (torch.arange(length, device=images.device) - corners[..., axis] for axis, length in ((0, height), (1, width)))
    index = rows.clamp(0, side - 1)[:, :, None] * side + columns.clamp(0, side - 1)[:, None, :]
    spread = patches.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, patches.shape[1], -1)).view_as(images)
    return paste(images, spread, patch_mask(corners, side, height, width))
