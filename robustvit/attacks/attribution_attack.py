"""An attack on explanations: the attribution map changes, and the prediction does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.attacks.fgsm_pgd import clip_to_ball
from robustvit.attacks.losses import log_odds, untargeted
from robustvit.primitives.attack_search import Crafted, Evaluation, Search, input_gradient
from robustvit.primitives.attribution.methods import Explaining, differentiable_attribution
from robustvit.primitives.attribution.methods import attribution as attribution_map
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.norms import bounds, random_start
from robustvit.primitives.passes import Passes
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec


@attack(
    severity="eps", family="explanation", source="Ghorbani, Abid and Zou 2019, Interpretation of Neural Networks is Fragile (the goal)",
    url="https://arxiv.org/abs/1710.10547",
    citation="""@inproceedings{ghorbani2019interpretation,
  title={Interpretation of Neural Networks is Fragile},
  author={Ghorbani, Amirata and Abid, Abubakar and Zou, James},
  booktitle={AAAI Conference on Artificial Intelligence},
  year={2019}
}""",
    rules="It aims at the map, not at the prediction, which it keeps: robust accuracy says nothing of it. Nest it in attribution_drift.",
    passes="attribution_attack_passes", tells=("value_attribution_cosine",),
)  # fmt: skip
def attribution_attack(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, steps: Count = 20, step: Radius | None = None, attribution: Explaining = "legrad",
) -> Crafted:  # fmt: skip
    """PGD that makes the attribution map of an image unlike that of the clean one, in an linf ball, and keeps the prediction.

    eps: radius in pixel units; write 4/255. step: step size, default 2.5·eps/steps. attribution: of the class predicted of the clean image;
    see robustvit.primitives.attribution.methods. From a random start, each step descends the cosine of the two maps; where the prediction
    has changed, the log odds against the clean one instead, which lead back. Of all iterates with the clean prediction the one with the
    least cosine is returned, or the clean image where none has less than 1. value_attribution_cosine: that cosine; NaN where the clean map
    is zero everywhere, and the image then stays. Labels are not read. Raises HostRefused or ModelError for a model that the attribution
    does not take.

    Differs from the paper, which attacks by top-k overlap, centre of mass or target region and replaces ReLU by softplus: here it is the
    whole map, and second derivatives are those of the model itself.
    """
    search, rows = Search(model, images, labels, draws, early=False, labelled=False), torch.arange(len(images), device=images.device)
    answers = search.query(rows, images).argmax(dim=1)
    goal = _Goal(search, answers, attribution, attribution_map(attribution, search.model_of(rows), images, answers, draws))
    search.queries += 1
    search.gradients += 1
    low, high = bounds(images, eps)
    iterate = clip_to_ball(images, random_start(images, eps, "linf", draws), eps, "linf")
    defined = goal.clean.flatten(1).any(dim=1)
    best, least = images.clone(), images.new_ones(len(images))
    for turn in range(steps + 1):
        same, cosine, gradient = goal.evaluate(rows, iterate)
        better = defined & same & (cosine < least)
        best[better], least[better] = iterate[better], cosine[better]
        if turn < steps:
            iterate = torch.clamp(iterate - (2.5 * eps / steps if step is None else step) * gradient.sign(), low, high)
    search.keep_best(rows, best)
    found = search.outcome()
    return replace(found, columns=found.columns | {"value_attribution_cosine": least.where(defined, torch.nan)})


def attribution_attack_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """One prediction and one map of the clean image, and of every iterate; what leads back to the prediction is not counted."""
    steps = int(str(spec.get("steps")))
    return Passes(forward=steps + 2, gradients=steps + 2)


class _Goal:
    """The cosine of maps with those of the clean images, and the way back to the clean prediction. clean: (N, rows, columns)."""

    def __init__(self, search: Search, answers: Tensor, name: Explaining, clean: Tensor) -> None:
        self.search, self.answers, self.name, self.clean = search, answers, name, clean

    def evaluate(self, rows: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whether the prediction is the clean one (N,), the cosine (N,), and the gradient to descend, shaped like the pixels."""
        logits = self.search.query(rows, pixels)
        same = logits.argmax(dim=1) == self.answers
        found = Evaluation(logits, *self._cosine(rows, pixels))
        found = self.search.record_gradient(rows, pixels, found, candidates=False)
        gradient, lost = found.gradient.clone(), rows[~same]
        if len(lost):
            back = self.search.query_gradient(lost, pixels[lost], untargeted(log_odds, self.answers), candidates=False)
            gradient[lost] = back.gradient
        return same, found.loss, gradient

    def _cosine(self, rows: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) the cosine, and its gradient."""
        cosines, gradients = [], []
        for some in torch.split(rows, self.search.model.tile):
            leaf = pixels[some].detach().requires_grad_(True)
            with torch.enable_grad():
                maps = differentiable_attribution(self.name, self.search.model_of(some), leaf, self.answers[some])
                cosine = functional.cosine_similarity(maps.flatten(1), self.clean[some].flatten(1).to(maps), dim=1)
            gradients.append(input_gradient(cosine, leaf).to(pixels))
            cosines.append(cosine.detach().to(pixels))
        return torch.cat(cosines), torch.cat(gradients)
