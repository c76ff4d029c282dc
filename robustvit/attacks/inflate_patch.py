"""One patch for all images that makes a token reducer keep more tokens, learned on images of another split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Le, Lt
from torch import Tensor

from robustvit.attacks.inflate import gmacs_of, side_at, square
from robustvit.attacks.universal import LoadBatch
from robustvit.errors import HostRefused
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.primitives.surgery.recorded.token_records import reduces_tokens, refusal
from robustvit.spec.registry import attack
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec

Corner = Literal["upper_left", "upper_right", "lower_left", "lower_right"]

_CITATION = """@inproceedings{navaneet2024slowformer,
  title={SlowFormer: Adversarial Attack on Compute and Energy Consumption of Efficient Vision Transformers},
  author={Navaneet, K L and Koohpayegani, Soroush Abbasi and Sleiman, Essam and Pirsiavash, Hamed},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2024}
}"""


@attack(
    severity="size", budget="side of the patch, of the image's", family="cost", fit="learn_patch", passes="fit_passes", citation=_CITATION, url="https://arxiv.org/abs/2310.02544",
    source="after Navaneet et al. 2024 (SlowFormer); random search",
    rules="Its success is what the image costs: compare gmacs and token_utilisation of its cell with those of clean. Robust accuracy under "
    "it counts what is misclassified on the way, which it does not look for: it replaces the pixels under the patch. Learned on images of "
    "another split, never on those that it is evaluated on, unless a suite names the same data twice. Adaptive reducers (ats, ltmp) can be "
    "inflated; fixed counts cannot.",
)  # fmt: skip
def inflate_patch(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, train: Data, size: Annotated[float, Gt(0), Le(1)] = 2 / 7, corner: Corner = "upper_left", samples: Count = 100, steps: Count = 300,
    share: Annotated[float, Gt(0), Lt(1)] = 0.8,
) -> Crafted:  # fmt: skip
    """Universal patch that inflates the operations of a model that computes on fewer tokens (SlowFormer, Navaneet et al. 2024).

    One patch of any pixels in [0, 1] in the same corner of every image; no other pixel changes, and each image costs one query. train: the
    data it is learned on. size: its side, as a share of the image's shorter side; 2/7 is the paper's 64 pixels of 224, 8 % of the area.
    corner: where it lies; the authors' code takes the upper left. samples: how many images it is learned on, the first in evaluation order.
    steps: random squares of black or white in each channel that are tried one after another; each stays where the mean operations of those
    images rise. share: of the patch that a square covers at first. The patch is (3, s, s): `Store.artifact_of(cell)["patch"]`. Uses no
    gradient, because the number of tokens has none; differs from the paper, which follows gradients of relaxed scores of each reducer and
    adds terms for accuracy: this takes any reducer as it is. Raises HostRefused for a model that computes on all its tokens.
    """
    _refuse(model)
    search = Search(model, images, labels, draws, early=False)
    rows, moved = torch.arange(len(images), device=images.device), pasted(images, artifact["patch"], corner)
    search.query(rows, moved)
    search.keep_best(rows, moved)
    return search.outcome()


def learn_patch(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, train: Data, size: float, corner: Corner, samples: int, steps: int, share: float,
) -> dict[str, Tensor]:  # fmt: skip
    """The patch (3, s, s): random search, from vertical stripes, for the largest mean operations of the first `samples` of the data.

    Raises HostRefused for a model that computes on all its tokens, before it loads an image.
    """
    _refuse(model)
    side = max(1, round(size * min(model.size)))
    batch = load_batch(train, order(train.ids)[:samples])
    low, high = (torch.full((1, model.channels, side, side), end, device=model.device) for end in (0.0, 1.0))
    patch = torch.where(draws.at("start").uniform(model.channels, 1, side) < 0.5, low, high)
    best = mean_gmacs(model, batch, patch[0], corner, draws.seed)
    for step in range(1, steps + 1):
        proposal = square(patch, low, high, draws.at(step), side_at(patch, step, share))
        found = mean_gmacs(model, batch, proposal[0], corner, draws.seed)
        if found > best:
            patch, best = proposal, found
    return {"patch": patch[0]}


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample that it is applied to; a forward pass for each image that it is learned on, for the start and every step."""
    count = min(product_of(spec, "samples"), len(plugins["train"]))
    return Passes(fit=(1.0 + product_of(spec, "steps")) * count / GRADIENT)


@torch.no_grad()
def mean_gmacs(model: Classifier, batch: Batch, patch: Tensor, corner: Corner, seed: int) -> float:
    """The mean operations of images with a patch, in 10⁹. seed: of a random model's draws for them."""
    return sum(float(_gmacs(model, part, patch, corner, seed).double().sum()) for part in batch.chunks(model.tile)) / len(batch)


def pasted(images: Tensor, patch: Tensor, corner: Corner) -> Tensor:
    """Images (N, 3, H, W) with the patch (3, s, s) in a corner of each; other pixels keep their bits."""
    moved, side = images.clone(), patch.shape[1]
    down = slice(0, side) if corner.startswith("upper") else slice(images.shape[2] - side, None)
    across = slice(0, side) if corner.endswith("left") else slice(images.shape[3] - side, None)
    moved[:, :, down, across] = patch.to(images)
    return moved


def _gmacs(model: Classifier, part: Batch, patch: Tensor, corner: Corner, seed: int) -> Tensor:
    host = keyed_by(model, Draws(seed, "model", part.ids, part.images.device))
    return gmacs_of(host, len(part), lambda: host(pasted(part.images, patch, corner)))


def _refuse(model: Classifier) -> None:
    if not reduces_tokens(model):
        raise HostRefused(refusal(model))
