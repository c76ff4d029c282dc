"""Random noise of a ball's size: what any change of that size does to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from robustvit.attacks.fgsm_pgd import clip_to_ball
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Radius
from robustvit.primitives.norms import Norm, random_start, surface_start
from robustvit.primitives.passes import Passes
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec


@attack(
    severity="eps", family="noise", label_free=True, source="the usual control of papers on transfer", passes="no_passes",
    rules="No query is made: it is the lower end of what an attack of this size must do.",
)  # fmt: skip
def random_noise(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", place: Literal["inside", "surface"] = "inside",
) -> Crafted:  # fmt: skip
    """Random noise in a ball, as a control of attacks of that size; the model is not queried.

    eps: radius in pixel units; write 8/255. place: `inside`, uniform in the ball (in l1 of a uniform direction and length); `surface`, on
    its surface before images are clipped to [0, 1]: in linf every value is −eps or eps.
    """
    if place == "inside":
        noise = random_start(images, eps, norm, draws)
    elif norm == "linf":
        noise = eps * (2.0 * (draws.uniform(*images.shape[1:]).to(images) < 0.5) - 1.0)
    else:
        noise = surface_start(images, eps, norm, draws)
    search = Search(model, images, labels, draws, labelled=False)
    search.keep_best(search.active, clip_to_ball(images, noise, eps, norm))
    return search.outcome()


def no_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """None."""
    return Passes()
