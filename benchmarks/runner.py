"""Throughput of whole runs relative to the model's own forward pass, ours beside a conventional evaluation loop, in one process.

    python benchmarks/runner.py [--images 128] [--digits 500] [--repeats 3] [--threads 1] [--json] [--tiny]

Ours: `robustvit.run` of ImageNet-C's fifteen corruptions at severities 1, 3 and 5 into a fresh store, with decoding (a cold cache). The
conventional loop: a DataLoader whose data set decodes, resizes, corrupts image by image with the reference generator and normalises, and
a loop that runs the model; the reference is `imagecorruptions` 1.1.2. Both evaluate the same cells. The floor is the model's forward pass
on one batch that is already in memory. Images per second of CPU time (of the whole process, one thread by default): on a shared machine
wall time measures the neighbours. Figures are medians of ratios. `--tiny` runs a few images under two corruptions, to see that everything
works.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _images import photographs
from _reference import reference
from PIL import Image
from torchvision import transforms

import robustvit as rv

SUITE = rv.load_suite("imagenet-c")
CORRUPTIONS = [spec.name for spec in SUITE.scenarios if spec.get("severity") == 1]
SEVERITIES = (1, 3, 5)
SLOW = "glass_blur"  # in the reference


class Conventional(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Decodes, resizes, crops, corrupts and normalises one image at a time, as evaluation scripts do."""

    def __init__(self, data: rv.Data, model: rv.Classifier, corrupt: Callable[[np.ndarray], np.ndarray], count: int) -> None:
        self.data, self.corrupt, self.count = data, corrupt, count
        resize = transforms.Resize(model.view.resize or model.size[0], transforms.InterpolationMode(model.view.interpolation))
        self.before = transforms.Compose([resize, transforms.CenterCrop(model.size)])
        self.after = transforms.Compose([transforms.ToTensor(), transforms.Normalize(model.mean.flatten(), model.std.flatten())])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        sample = self.data[index]
        image = self.before(Image.fromarray(sample.image))
        return self.after(self.corrupt(np.asarray(image)).astype(np.uint8)), sample.label


def floor(model: rv.Classifier, seconds: float) -> float:
    """Images per second of the model's own forward pass on one batch, without checks and tiles."""
    batch = torch.rand(model.tile, 3, *model.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.model(batch)
        began, done = time.process_time(), 0
        while time.process_time() - began < seconds:
            model.model(batch)
            done += len(batch)
    return done / (time.process_time() - began)


def ours(model: rv.Classifier, data: rv.Data, names: list[str], severities: tuple[int, ...], count: int) -> float:
    """Images per second of `robustvit.run` with a cold cache and an empty store."""
    chosen = tuple(spec for spec in SUITE.scenarios if spec.name in names and spec.get("severity") in severities)
    suite = replace(SUITE, parts=(replace(SUITE.parts[0], scenarios=chosen),))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ROBUSTVIT_CACHE"] = f"{folder}/cache"
        began = time.process_time()
        done = rv.run(suite, [model], data, store=f"{folder}/store", limit=count)
        if done.failed or done.computed != len(chosen) * count:
            raise SystemExit(f"the run computed {done.computed} of {len(chosen) * count} rows; failed: {done.failed}")
        return done.computed / (time.process_time() - began)


def conventional(model: rv.Classifier, data: rv.Data, names: list[str], severities: tuple[int, ...], count: int) -> float:
    """Images per second of the conventional loop over the same cells, on fewer images where the reference is slow."""
    corrupt, spent, done = reference(), 0.0, 0
    for name in names:
        for severity in severities:
            rows = max(2, count // 16) if name == SLOW else count
            one = Conventional(data, model, lambda image, s=severity, n=name: corrupt(image, s, n), rows)
            began = time.process_time()
            with torch.no_grad():
                for images, _ in torch.utils.data.DataLoader(one, batch_size=model.tile):
                    model.model(images).argmax(dim=1)
            spent += (time.process_time() - began) * count / rows
            done += count
    return done / spent


def measure(label: str, model: rv.Classifier, data: rv.Data, count: int, chosen: argparse.Namespace) -> dict[str, float]:
    """The floor in images per second, and the share of it that either way keeps: medians over the repeats."""
    names, severities = (["brightness", "contrast"], (1,)) if chosen.tiny else (CORRUPTIONS, SEVERITIES)
    found: dict[str, list[float]] = {"floor": []}
    for _ in range(chosen.repeats):
        for key, some in (("", names), (" without glass blur", [name for name in names if name != SLOW])):
            before = floor(model, 0.1 if chosen.tiny else 3.0)
            mine = ours(model, data, some, severities, count)
            base = (before + floor(model, 0.1 if chosen.tiny else 3.0)) / 2
            theirs = conventional(model, data, some, severities, max(4, count // 8))
            found["floor"].append(base)
            found.setdefault("ours" + key, []).append(mine / base)
            found.setdefault("conventional" + key, []).append(theirs / base)
    medians = {key: statistics.median(values) for key, values in found.items()}
    shares = (f"{medians[key]:.0%}" for key in ("ours", "conventional", "ours without glass blur", "conventional without glass blur"))
    print(f"| {label} | {medians['floor']:.1f} | {' | '.join(shares)} |", flush=True)
    return medians


def main() -> None:
    """Prints the table of benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--digits", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON too")
    parser.add_argument("--tiny", action="store_true", help="a few images, two corruptions, once: seconds")
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.images, chosen.digits, chosen.repeats = 4, 8, 1
    torch.set_num_threads(chosen.threads)
    print("| | floor, images/s | ours | conventional | ours without glass blur | conventional without it |\n|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder), max(10, chosen.images))
        vit = rv.load_model("vit_tiny_patch16_224?weights=random&num_classes=10")
        large = measure("vit_tiny_patch16_224, 224 px photographs", vit, rv.load_data("folder", data_dir=folder), chosen.images, chosen)
        small = measure("demo, 32 px digits", rv.load_model("demo"), rv.load_data("digits"), chosen.digits, chosen)
    if chosen.json:
        machine = platform.processor() or platform.machine()
        print(json.dumps({"machine": machine, "threads": chosen.threads, "224 px": large, "32 px": small}, indent=1))


if __name__ == "__main__":
    main()
