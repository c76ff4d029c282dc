"""Downstream Transfer Attack: features of a pre-trained backbone are turned away, for whatever is fine-tuned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.attacks.feature.feature_ascent import (
    FeatureLoss,
    Schedule,
    UniversalSchedule,
    batches,
    feature_ascent,
    perturbed,
    universal_ascent,
)
from robustvit.attacks.universal import LoadBatch
from robustvit.errors import BadParameter
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.block_features import BlockFeatures, blocks_of, checked_layers, mean_patches
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.passes import GRADIENT, Passes, product_of
from robustvit.spec.registry import attack
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec

_CITATION = """@article{zheng2024downstream,
  title={Downstream Transfer Attack: Adversarial Attacks on Downstream Models with Pre-trained Vision Transformers},
  author={Zheng, Weijie and Ma, Xingjun and Huang, Hanxun and Wu, Zuxuan and Jiang, Yu-Gang},
  journal={arXiv preprint arXiv:2408.01705},
  year={2024}
}"""
_ROWS = 64  # probe images that are attacked together


@attack(
    severity="eps", family="feature", fit="fit_layers", label_free=True, source="Zheng et al. 2024", url="https://arxiv.org/abs/2408.01705",
    citation=_CITATION, passes="layer_passes",
    rules="A reconstruction: the paper's abstract, and later code of its authors that follows the last layer alone, were at hand. The "
    "number of steps, their size, and how layers are compared are ours. Layers are chosen on probe images, never on those that it is "
    "evaluated on.",
)  # fmt: skip
def dta(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, eps: Radius, steps: Count = 30, step: Radius | None = None, layers: tuple[int, ...] | None = None, probe: Data | None = None,
    samples: Count = 64, trials: Count = 5, top: Count = 1,
) -> Crafted:  # fmt: skip
    """Downstream Transfer Attack (Zheng et al. 2024): lowers the cosine of the mean patch token after a block with the clean image's.

    Signed gradient descent in linf from a uniform start in the ball; every image takes all steps, whatever the model predicts, and labels
    are not read: the model is a backbone, of which others were fine-tuned. eps: radius in pixel units; write 10/255. step: step size,
    default eps/10. layers: the blocks to follow, counted from 0; with several, their cosines add up. Default null: the `top` most
    vulnerable ones are found on `probe`, its first `samples` in evaluation order. For each block alone these are attacked for `trials`
    steps; the block whose images have the lowest mean cosine after the last block is the most vulnerable, the earlier of equals. (At the
    blocks themselves early ones would win whose features are easily turned and mean little.) The artifact has `layers`, and where they were
    searched `scores`, the mean cosines. Raises BadParameter where an image that it is given is one of the probe.
    """
    _refuse_overlap(draws, probe if layers is None else None, samples)
    features = BlockFeatures(model, artifact["layers"].tolist(), mean_patches)
    return feature_ascent(features, images, labels, draws, _schedule(eps, steps, step), turned_away(len(features.layers)))


def fit_layers(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, eps: float, steps: int, step: float | None, layers: Sequence[int] | None, probe: Data | None, samples: int, trials: int, top: int,
) -> dict[str, Tensor]:  # fmt: skip
    """`layers`, (k,) int64: those named, or the most vulnerable first; then also `scores`, (depth,), the mean cosine of each block.

    Raises BadParameter for blocks that the model does not have, and where neither layers nor a probe are named.
    """
    if layers is not None:
        return {"layers": torch.tensor(checked_layers("dta", model, layers))}
    if probe is None:
        raise BadParameter("attack 'dta' needs layers (layers: [[7]]), or data to choose them on (probe: {digits: {split: train}}).")
    return vulnerable_layers("dta", model, batches(probe, load_batch, samples, _ROWS), draws, _schedule(eps, trials, step), top)


@attack(
    severity="eps", family="feature", fit="fit_universal", label_free=True, source="Zheng et al. 2024, here for all images at once",
    url="https://arxiv.org/abs/2408.01705", citation=_CITATION, passes="universal_passes",
    rules="A reconstruction as dta; the paper's attack is on single images. Fitted to images of another split, never to those that it is "
    "evaluated on, unless a suite names the same data twice.",
)  # fmt: skip
def dta_universal(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, eps: Radius, train: Data, samples: Count = 1000, epochs: Count = 10, step: Radius | None = None,
    layers: tuple[int, ...] | None = None, searched: Count = 64, trials: Count = 5, top: Count = 1,
) -> Crafted:  # fmt: skip
    """Universal Downstream Transfer Attack: one perturbation that lowers the cosine of mean patch tokens with those of clean images.

    eps: radius in linf, in pixel units. train: the data it is fitted to, the first `samples` in evaluation order, `epochs` times. step: the
    first step size, default eps/10, decaying to a hundredth of it along a cosine. layers: as of dta, found on the first `searched` samples
    of `train`, with `trials` steps of eps/10 each. It starts from uniform noise. Images cost no query.
    """
    return perturbed(model, images, labels, draws, artifact["perturbation"], eps)


def fit_universal(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, eps: float, train: Data, samples: int, epochs: int, step: float | None, layers: Sequence[int] | None, searched: int, trials: int,
    top: int,
) -> dict[str, Tensor]:  # fmt: skip
    """The perturbation (1, 3, H, W), and the layers that it was fitted at, with their scores where they were searched."""
    if layers is None:
        probe = batches(train, load_batch, min(searched, samples), _ROWS)
        found = vulnerable_layers("dta_universal", model, probe, draws, _schedule(eps, trials, None), top)
    else:
        found = {"layers": torch.tensor(checked_layers("dta_universal", model, layers))}
    features = BlockFeatures(model, found["layers"].tolist(), mean_patches)
    schedule = UniversalSchedule(eps, samples, epochs, eps / 10 if step is None else step)
    loss = turned_away(len(features.layers))
    return found | universal_ascent("dta_universal", features, load_batch, draws, train, schedule, loss, clean=True)


def vulnerable_layers(
    name: str, model: Classifier, probe: Sequence[Batch], draws: Draws, schedule: Schedule, top: int
) -> dict[str, Tensor]:  # fmt: skip
    """`layers`, (top,) int64, the most vulnerable first, and `scores`, (depth,) float64: the mean cosine after the last block.

    Each block alone is attacked with the same starts. The earlier of equals comes first. Raises BadParameter for more than there are.
    """
    depth = len(blocks_of(model))
    if top > depth:
        raise BadParameter(f"attack '{name}': top is {top}; model '{model.card.label}' has {depth} blocks.")
    scores = torch.zeros(depth, dtype=torch.float64)
    for batch in probe:
        own = Draws(draws.seed, draws.at("probe").stream, batch.ids, batch.images.device)
        host = keyed_by(model, own)
        readout = BlockFeatures(host, [depth - 1], mean_patches)
        clean = _features(readout, batch.images)
        for layer in range(depth):
            crafted = feature_ascent(
                BlockFeatures(host, [layer], mean_patches), batch.images, batch.labels, own, schedule, turned_away(1)
            ).images
            scores[layer] += functional.cosine_similarity(_features(readout, crafted), clean, dim=1).sum().double().cpu()
    scores /= sum(len(batch) for batch in probe)
    return {"layers": scores.argsort(stable=True)[:top], "scores": scores}


def turned_away(layers: int) -> FeatureLoss:
    """The negative sum over layers of the cosine between features and clean ones, (n, L·D) each."""

    def loss(found: Tensor, clean: Tensor) -> Tensor:
        each, own = (of.reshape(len(of), layers, -1) for of in (found, clean))
        return -functional.cosine_similarity(each, own, dim=2).sum(dim=1)

    return loss


def _features(model: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(images)
    return found


def _schedule(eps: float, steps: int, step: float | None) -> Schedule:
    return Schedule(eps, steps, eps / 10 if step is None else step, "uniform")


def _refuse_overlap(draws: Draws, probe: Data | None, samples: int) -> None:
    if probe is None:
        return
    seen = {probe.ids[place] for place in order(probe.ids)[:samples].tolist()} & set(draws.ids)
    if seen:
        raise BadParameter(
            f"attack 'dta': {len(seen)} of the images that it is evaluated on are among those that its layers were chosen on (first "
            f"{min(seen)}); name another split or part of the data as probe."
        )


def layer_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """The clean features and a gradient at each step; the search attacks the probe for its trials at every block, and reads out twice."""
    probe = plugins.get("probe")
    searched = 0 if spec.get("layers") is not None or probe is None else min(product_of(spec, "samples"), len(probe))
    return Passes(forward=1, gradients=product_of(spec, "steps"), fit=_search_passes(spec, model, searched))


def universal_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample; the fit takes the clean features and a gradient of every sample in every epoch, after the search."""
    samples = min(product_of(spec, "samples"), len(plugins["train"]))
    search = _search_passes(spec, model, min(product_of(spec, "searched"), samples)) if spec.get("layers") is None else 0.0
    return Passes(fit=product_of(spec, "epochs") * samples * (1 + 1 / GRADIENT) + search)


def _search_passes(spec: Spec, model: Classifier, samples: float) -> float:
    """In gradients: for every block its trials, the clean features and the read-out of each sample."""
    return len(blocks_of(model)) * samples * (product_of(spec, "trials") + 2 / GRADIENT)
