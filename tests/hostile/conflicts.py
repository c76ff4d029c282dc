"""Pairs of options that contradict each other, on every command: refused, or it is written down which of them counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hostile.calls import Call
from hostile.files import encoded

VIT = "vit_tiny_patch16_224?weights=random"
_PLAN = ("plan", "--suite", "{f}/tiny.yaml", "--store", "s")
CONFLICTS: dict[str, tuple[str, ...]] = {
    "checkpoint-two-models": (*_PLAN, "-m", "demo", "-m", VIT, "--checkpoint", "{f}/good.pth"),
    "checkpoint-twice": (*_PLAN, "-m", "file:{f}/good.pth?arch=vit_tiny_patch16_224", "--checkpoint", "{f}/good.pth"),
    "checkpoint-random": (*_PLAN, "-m", VIT, "--checkpoint", "{f}/good.pth"),
    "classes-twice": (*_PLAN, "-m", f"{VIT}&num_classes=10", "--num-classes", "20"),
    "kwargs-twice": (*_PLAN, "-m", f"{VIT}&kwargs=depth=1", "--model-kwargs", "depth=2"),
    "kwargs-same-key": (*_PLAN, "-m", VIT, "--model-kwargs", "depth=1", "--model-kwargs", "depth=2"),
    "kwargs-and-classes": (*_PLAN, "-m", VIT, "--model-kwargs", "num_classes=5", "--num-classes", "10"),
    "model-twice": (*_PLAN, "-m", "demo", "-m", "demo"),
    "keep-twice": (*_PLAN, "--keep", "logits", "--keep", "logits"),
    "data-and-place": (*_PLAN, "--data", "npz:{f}/good.npz", "--data-dir", "{f}"),
    "kept-and-data": ("plan", "--suite", "kept:{f}/store", "--data", "digits", "--store", "s"),
    "kept-own-store": ("plan", "--suite", "kept:{f}/store", "--store", "{f}/store"),
    "suite-twice": (*_PLAN, "--suite", "{f}/tiny.yaml"),
    "limit-twice": (*_PLAN, "--limit", "2", "--limit", "3"),
    "references-and-robustbench": ("leaderboard", "--store", "{f}/store", "--published", "--format", "robustbench"),
    "metric-twice": ("leaderboard", "--store", "{f}/store", "--metric", "top1", "--metric", "top1"),
    "output-is-store": ("leaderboard", "--store", "{f}/store", "-o", "{f}/store"),
    "output-is-marker": ("leaderboard", "--store", "{f}/store", "--format", "csv", "-o", "{f}/store/store.json"),
    "output-in-cells": ("report", "--store", "{f}/store", "-o", "{f}/store/runs/x.html"),
    "published-and-store": ("factors", "--published", "--store", "{f}/store"),
    "published-and-suite": ("factors", "--published", "--suite", "quick"),
    "factor-without-fit": ("factors", "--published", "--factor", "kind"),
    "line-without-fit": ("factors", "--published", "--line", "published"),
    "line-own-of-published": ("factors", "--published", "--fit", "effective", "--line", "published"),
    "plot-is-output": ("factors", "--published", "--plot", "x.svg", "--output", "x.svg"),
    "same-model": ("compare", "a", "a", "--store", "{f}/store"),
    "same-store": ("diff", "{f}/store", "{f}/store"),
    "against-itself": ("report", "--store", "{f}/store", "--against", "{f}/store"),
    "verify-nothing": ("data", "--verify"),
    "verify-and-clear": ("data", "digits", "--verify", "--clear-cache"),
    "clear-a-name": ("data", "digits", "--clear-cache"),
    "store-without-verify": ("data", "digits", "--store", "{f}/store"),
    "place-twice": ("data", "npz:{f}/good.npz", "--data-dir", "{f}", "--verify"),
    "place-of-nothing": ("data", "--data-dir", "{f}/tree"),
    "imagenet-and-size": ("corrupt", "{f}/good.png", "out", "--imagenet", "--size", "8"),
    "resize-alone": ("corrupt", "{f}/good.png", "out", "--resize", "8"),
    "resize-below-size": ("corrupt", "{f}/good.png", "out", "--resize", "4", "--size", "8", "-c", "fog", "--severity", "1"),
    "corruption-twice": ("corrupt", "{f}/good.png", "out", "-c", "fog", "-c", "fog", "--severity", "1"),
    "severity-twice": ("corrupt", "{f}/good.png", "out", "-c", "fog", "--severity", "1", "--severity", "1"),
    "severity-in-name": ("corrupt", "{f}/good.png", "out", "-c", "fog?severity=3", "--severity", "1"),
    "onto-itself": ("corrupt", "{f}/tree", "{f}/tree", "-c", "fog", "--severity", "1"),
    "into-itself": ("corrupt", "{f}/tree", "{f}/tree/cat", "-c", "fog", "--severity", "1"),
    "train-data-and-place": ("train", "--out", "x.safetensors", "--data", "npz:{f}/good.npz", "--data-dir", "{f}"),
    "train-onto-its-start": ("train", "--out", "{f}/integers.safetensors", "--model", "file:{f}/integers.safetensors"),
}
_SAME = "twice the same is the same request"
_LAST = "of one option given twice the last counts, as in every command line"
WINS = {  # what is taken, and why
    "keep-twice": _SAME,
    "metric-twice": _SAME,
    "corruption-twice": _SAME,
    "severity-twice": _SAME,
    "suite-twice": _LAST,
    "limit-twice": _LAST,
    "published-and-store": "the published models take the place of a store, as the help of --published says",
    "line-own-of-published": "the models are the published ones either way",
    "same-store": "a store does not differ from itself, which is what it says",
    "place-of-nothing": "the folder is searched for every data set",
}


def hostile_calls(root: Path) -> Iterator[Call]:
    """The calls. root: the folder of hostile files."""
    for label in ("cat", "dog"):
        (root / "tree" / label).mkdir(parents=True)
        (root / "tree" / label / "a.png").write_bytes(encoded("PNG"))
    for name, words in CONFLICTS.items():
        line = tuple(word.format(f=root) for word in words)
        yield Call(f"{words[0]} {name}", line, accepted=WINS.get(name, ""), env={"COLUMNS": "200"})
