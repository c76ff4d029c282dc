"""Images of another size, and what becomes of the positions."""

from __future__ import annotations

from dataclasses import replace

from robustvit.errors import BadParameter, HostRefused, ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import UpsampledClassifier, why_wrapped
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.resolution.input_size import Positions, patch_side, resize_input
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.spec.registry import transform

_MOST = 4096  # pixels of a side


@transform(
    family="resolution", source="timm; Dosovitskiy et al. 2021, section 3.2", url="https://arxiv.org/abs/2010.11929", no_op="scale=1",
    resizes=True,
    rules="The view changes with the size: images are resized and cropped anew from the originals, by the same share, so that more is "
    "shown where the data has more pixels. enlarged=true shows the pixels of the model's own view, enlarged: what is left is what the size "
    "alone does to the network.",
)  # fmt: skip
def image_size(
    model: Classifier, *, size: Count | None = None, scale: Radius | None = None, positions: Positions | None = None,
    patch: Count | None = None, enlarged: bool = False,
) -> Classifier:  # fmt: skip
    """The model for square images of another size.

    size: the side in pixels; or scale: its ratio to the model's own, rounded to whole patches. positions: how a learned position embedding
    is taken to the new grid: bicubic (default) and bilinear, antialiased; nearest; none leaves the positions of patches out. Relative and
    rotary positions follow their architecture. patch: the side of the patches from now on, whose embedding is resampled as FlexiViT's
    (pseudo-inverse resizing); default as it is. enlarged: whether images of the model's own view are enlarged (bicubic) in place of a
    larger view. Raises BadParameter unless exactly one of size and scale is given, and for a scale of less than half a patch; HostRefused
    for a size that is no multiple of the patches, a model without learned positions under `positions`, one that computes at one size alone,
    and one whose patch embedding or computation an earlier transform made for one size.
    """
    if (size is None) == (scale is None):
        raise BadParameter("image_size takes a size in pixels (size=384) or a ratio to the model's own (scale=12/7), and one of them.")
    own = min(model.size)
    with refusing("image_size", model):
        current = patch_side(model.model)
        side = size or round(own * float(scale or 1) / (patch or current)) * (patch or current)
        if size is None and side < (patch or current):
            raise BadParameter(
                f"image_size: {scale} times {own} px is less than half a patch of {patch or current} px; give a larger scale."
            )
        if side > _MOST:
            raise BadParameter(f"image_size of {side} px is too large; it takes up to {_MOST}.")
        if (side, side) == model.size and patch in (None, current) and positions is None:
            return changed(model, unchanged)
        if model.view.shown is not None:
            raise HostRefused("it enlarges its images already.")
        if why := why_wrapped(model):
            raise HostRefused(f"it {why}, for images of one size; name image_size before that.")
        made = changed(model, lambda module: resize_input(module, side, patch, positions))
    view = model.view if (side, side) == model.size else model.view.with_overrides(img_size=side)
    for part in (one for one in made.modules() if isinstance(one, Classifier)):  # it, and what it wraps
        part.view = view
    _probe(made)
    return UpsampledClassifier(made, replace(model.view, shown=(side, side))) if enlarged else made


def _probe(made: Classifier) -> None:
    """Raises HostRefused where the network does not compute at its new size."""
    try:
        made.outputs  # noqa: B018
    except (BadParameter, ModelError) as error:
        raise HostRefused(f"'image_size' does not take '{made.card.label}': {error}") from error
