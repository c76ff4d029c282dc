"""One of the two parts of HiLo attention taken away."""

from __future__ import annotations

from typing import Literal

from torch import nn

from robustvit.errors import HostRefused
from robustvit.primitives.architectures.hilo_attention import hilo_layers
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="structure", source="definition; of the attention of Pan et al. 2022 (LITv2)", url="https://arxiv.org/abs/2205.13213",
    licence="a published idea; no code is used", hosts="hilo", no_op="part=none",
    rules="Whether a part carries the frequencies that it is named for is for the suite frequency to say, with and without it.",
)  # fmt: skip
def lesion_hilo(model: Classifier, *, part: Literal["none", "hi", "lo"] = "hi") -> Classifier:
    """Sets the output of one part of HiLo attention to zero in every block: the heads within windows, or those to averages of windows.

    part: hi, lo, or none, which changes nothing. Raises HostRefused for a model without such attention, or without such heads.
    """

    def change(module: nn.Module) -> nn.Module:
        for layer in hilo_layers(module):
            if part != "none" and not (layer.high_heads if part == "hi" else layer.low_heads):
                raise HostRefused(f"'lesion_hilo' takes models with heads of both parts, and '{model.card.label}' has no {part} heads.")
            layer.lesion = "" if part == "none" else part
        return module

    return changed(model, change)
