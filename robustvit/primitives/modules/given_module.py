"""A module that a caller gives as a model: what is done to its images and what it is called, by what it says of itself or by default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from robustvit.errors import BadParameter, with_article
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.modules.class_names import classes_of_module
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIZE = 224
_SMALL = 64  # pixels; images of such data are not cut at the border
_SHARE = 0.875


class GivenModule(NamedTuple):
    """A module with its normalisation, view and card."""

    module: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    view: View
    card: Card


def given_module(
    module: nn.Module, mean: float | Sequence[float] | None, std: float | Sequence[float] | None, view: View | None, card: Card | None,
    size: int | tuple[int, int] | None, name: str | None,
) -> GivenModule:  # fmt: skip
    """A module with all that is not given: see Classifier. Raises BadParameter for what is no module, and for a size beside a view."""
    if not isinstance(module, nn.Module):
        raise BadParameter(
            f"a Classifier takes a torch.nn.Module from normalised images to logits; this is {with_article(type(module).__name__)}."
        )
    if view is not None and size is not None:
        raise BadParameter(f"a Classifier was given the size {size} and a view, which has one, {view}; leave size out.")
    if card is not None and name is not None:
        raise BadParameter(f"a Classifier was given the name '{name}' and a card, which has one, '{card.label}'; leave name out.")
    config, assumed = {**timm_config(module), **_built_for(module)}, []
    count = next((len(one) for one in (mean, std) if isinstance(one, Sequence)), int(config.get("input_size", (3,))[0]))
    if mean is None and std is None and "mean" not in config and count == 3:
        assumed.append("the mean and std of ImageNet")
    if view is None and size is None and "input_size" not in config:
        assumed.append(f"images of {_SIZE} px")
    means = _per_channel("mean", mean if mean is not None else config.get("mean", IMAGENET_MEAN), count)
    stds = _per_channel("std", std if std is not None else config.get("std", IMAGENET_STD), count)
    if (mean is None) != (std is None):
        raise BadParameter(f"a Classifier was given mean {mean} and std {std}; give both, or neither.")
    _refuse_bytes(means, stds)
    label = type(module).__name__ if name is None else name
    note = f"assumed: {' and '.join(assumed)}; say what it takes by rv.Classifier(module, mean=…, std=…, size=…)"
    identity = Spec("given", (("class", type(module).__qualname__), ("mean", means), ("std", stds)), "model", 1)
    parameters = sum(one.numel() for one in module.parameters())
    made = card or Card(
        label=label, identity=identity, fingerprint=fingerprint(module), weights="given", parameters=parameters,
        classes=classes_of_module(module), notes={"assumed": note} if assumed else {},
    )  # fmt: skip
    return GivenModule(_with_logits(module), means, stds, view or _view(config, size), made)


def timm_config(module: nn.Module) -> dict[str, Any]:
    """timm's configuration of a model, a dict or timm's own class, as a dict; empty where it has none."""
    for name in ("pretrained_cfg", "default_cfg"):
        found: Any = getattr(module, name, None)
        config = found.to_dict() if callable(getattr(found, "to_dict", None)) else found
        if isinstance(config, dict) and config:
            return {key: value for key, value in config.items() if value is not None}
    return {}


def _built_for(module: nn.Module) -> dict[str, Any]:
    """The input size that a transformer of timm was built for, where that is another than its configuration's, and no crop is known."""
    size: Any = getattr(getattr(module, "patch_embed", None), "img_size", None)
    known = timm_config(module).get("input_size")
    if not isinstance(size, tuple) or len(size) != 2 or known is None or tuple(known)[-2:] == size:
        return {}
    return {"input_size": (known[0], *size), "crop_pct": _share_of(*size)}


def _share_of(height: int, width: int) -> float:
    return 1.0 if max(height, width) <= _SMALL else _SHARE


def _view(config: dict[str, Any], size: int | tuple[int, int] | None) -> View:
    if size is not None and not isinstance(size, int) and not (isinstance(size, tuple) and len(size) == 2):
        raise BadParameter(f"a Classifier's size is {size!r}; it takes a number of pixels, or (height, width).")
    height, width = (size, size) if isinstance(size, int) else size or tuple(config.get("input_size", (3, _SIZE, _SIZE)))[-2:]
    other = size is not None and (height, width) != tuple(config.get("input_size", ()))[-2:]  # than what its share was chosen for
    shares = {"crop_pct": _share_of(height, width)} if other or "crop_pct" not in config else {}
    return View.of_timm({"interpolation": "bicubic", **config, **shares, "input_size": (3, height, width)})


def _per_channel(name: str, given: object, count: int) -> tuple[float, ...]:
    values = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in values):
        raise BadParameter(f"a Classifier's {name} is {given!r}; it takes a number, or one for each channel.")
    return tuple(float(one) for one in (values * count if len(values) == 1 else values))


def _refuse_bytes(means: tuple[float, ...], stds: tuple[float, ...]) -> None:
    """Raises BadParameter for a mean or a standard deviation that no pixels in [0, 1] have, such as those of bytes."""
    if max((*means, *stds), default=0.0) > 1:
        first, second = ("(" + ", ".join(f"{one / 255:.3g}" for one in values) + ")" for values in (means, stds))
        raise BadParameter(
            f"mean {means} and std {stds} are not of pixels in [0, 1], which models are given here; where they are of bytes, divide them "
            f"by 255: mean {first}, std {second}."
        )


class LogitsOfTransformers(nn.Module):
    """Wraps a classifier of transformers as a module from normalised images to logits."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, K) logits."""
        logits: Tensor = self.classifier(pixel_values=images).logits
        return logits


def _with_logits(module: nn.Module) -> nn.Module:
    """The module; one of transformers, which returns its logits within an object, as one that returns them alone."""
    takes_pixels = getattr(module, "main_input_name", "") == "pixel_values" and hasattr(module, "config")
    return LogitsOfTransformers(module) if takes_pixels else module
