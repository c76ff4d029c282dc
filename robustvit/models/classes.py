"""The names of the classes of a pretrained model of timm, in the order of its logits."""

from __future__ import annotations

from typing import Any

from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import nn

from robustvit.primitives.modules.class_names import classes_of_labels


def classes_of_timm(built: nn.Module) -> tuple[str, ...]:
    """Those of a pretrained model of timm: of its configuration (`label_names`), or the wnids of the ImageNet that has as many classes.

    Of weights that others put on the hub, only the number is known otherwise, and that is no proof.
    """
    config: Any = getattr(built, "pretrained_cfg", None) or {}
    named = classes_of_labels(config.get("label_names"))
    own = str(config.get("hf_hub_id") or "timm/").startswith("timm/")
    subset = infer_imagenet_subset(built) if own and not named else None
    return tuple(ImageNetInfo(subset).label_names()) if subset else named  # type: ignore[no-untyped-call]
