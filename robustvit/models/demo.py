"""The demo model: a small ViT for 32-pixel digits whose weights ship with robustvit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from robustvit.classifier import Classifier
from robustvit.models.checkpoint import checkpoint_model, read_about
from robustvit.registry import model

WEIGHTS = Path(__file__).parent / "weights" / "demo.safetensors"


@model(source="robustvit train on the training split of digits; weights/demo.md is its card", licence="Apache-2.0")
def demo() -> Classifier:
    """A ViT of 0.5 million parameters that tells coloured handwritten digits apart, for trying things on a CPU.

    Four blocks of width 96 on patches of 8 pixels, undefended. What it shows of a corruption or an attack is real, and says nothing of
    models for natural images: at 32 pixels the same severity or eps does more harm than at 224.
    """
    loaded, about = checkpoint_model(path=str(WEIGHTS)), read_about(WEIGHTS)
    notes = {**loaded.card.notes, "accuracy": about.accuracy, "command": about.command}
    source = "robustvit train on the training split of digits"
    loaded.card = replace(loaded.card, label="demo", weights="bundled", source=source, licence="Apache-2.0", notes=notes)
    return loaded
