"""The demo models: a small ViT for 32-pixel digits, undefended and defended, whose weights ship with robustvit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from robustvit.models.checkpoint import checkpoint_model, read_about
from robustvit.primitives.classifier import Classifier
from robustvit.spec.registry import model

WEIGHTS = Path(__file__).parent / "weights"


@model(source="robustvit train on the training split of digits; weights/demo.md is its card", licence="Apache-2.0")
def demo() -> Classifier:
    """A ViT of 0.5 million parameters that classifies coloured handwritten digits, for trying things on a CPU.

    Four blocks of width 96 on patches of 8 pixels, undefended. Its results under corruptions and attacks are real, but do not carry over
    to models of natural images: at 32 pixels the same severity or eps does more harm than at 224.
    """
    return _bundled("demo", "demo.safetensors")


@model(
    name="demo/ablations",
    source="robustvit train --defense 'ablations(width=4)' from demo; weights/demo-ablations.md is its card",
    licence="Apache-2.0",
)
def demo_ablations() -> Classifier:
    """The demo trained further on ablations of four columns, for certificates: `columns: {width: 4}`.

    Tokens outside the columns were dropped in training. On whole images it is worse than the demo, since it was never trained on one: its
    prediction is the vote over ablations.
    """
    return _bundled("demo/ablations", "demo-ablations.safetensors")


def _bundled(name: str, file: str) -> Classifier:
    """A model that ships with robustvit, with the notes in its file."""
    path = WEIGHTS / file
    loaded, about = checkpoint_model(path=str(path)), read_about(path)
    notes = {**loaded.card.notes, "accuracy": about.accuracy, "command": about.command}
    source = "robustvit train on the training split of digits"
    loaded.card = replace(loaded.card, label=name, weights="bundled", source=source, licence="Apache-2.0", notes=notes)
    return loaded
