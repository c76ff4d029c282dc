"""The two predictions of a model with a distillation token, in training."""

from __future__ import annotations

from torch import Tensor, nn

from robustvit.errors import BadParameter
from robustvit.primitives.training.on_pixels import OnPixels


def two_heads(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The logits (N, K) of the class token and of the distillation token, of which the model itself returns the mean.

    model: with modules `head` and `head_dist` (timm's VisionTransformerDistilled). Raises BadParameter for any other.
    """
    owner = next((one for one in model.modules() if hasattr(one, "head") and isinstance(getattr(one, "head_dist", None), nn.Module)), None)
    if owner is None:
        raise BadParameter("token=true needs a model with a distillation token, such as timm's deit_tiny_distilled_patch16_224.")
    seen: dict[str, Tensor] = {}
    heads: dict[str, nn.Module] = {"head": owner.head, "head_dist": owner.head_dist}  # type: ignore[dict-item]

    def hear(name: str) -> object:
        return heads[name].register_forward_hook(lambda module, given, output: seen.__setitem__(name, output))

    handles = [hear(name) for name in heads]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    reading = model.reading if isinstance(model, OnPixels) else None
    first, second = (seen[name] if reading is None else reading.read(seen[name]) for name in heads)
    return first, second
