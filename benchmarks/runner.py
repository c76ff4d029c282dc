"""End-to-end images per second over the model's own forward images per second, ours beside the usual way, in one process.

    python benchmarks/runner.py [--images 128] [--repeats 3] [--threads 1]

Ours: `robustvit.run` of ImageNet-C's fifteen corruptions at severities 1, 3 and 5 into a fresh store, decoding included (a cold cache).
The usual way: a DataLoader whose data set decodes, resizes, corrupts image by image with the reference generator and normalises, and a loop
that runs the model; the reference is `imagecorruptions` 1.1.2 under three shims that let it import on a current stack. Both do the
same cells. The floor is the model's own forward pass on one batch that is already in memory. Images per second of CPU time (of the whole
process, one thread by default): on a shared machine the wall clock measures the neighbours. Figures are medians of ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import robustvit as rv
from robustvit.spec.spec import Spec
from robustvit.spec.suite_file import load_suite

CORRUPTIONS = [spec.name for spec in load_suite("imagenet-c").scenarios if spec.get("severity") == 1]
SEVERITIES = (1, 3, 5)
NO_GLASS = [name for name in CORRUPTIONS if name != "glass_blur"]


def reference() -> Callable[..., np.ndarray]:
    """`imagecorruptions.corrupt`, importable: a stub of pkg_resources, numpy.float_, and gaussian's renamed argument."""
    import importlib.util

    import skimage.filters

    stub = types.ModuleType("pkg_resources")
    stub.resource_filename = lambda package, name: str(Path(importlib.util.find_spec(package).origin).parent / name)  # type: ignore[attr-defined, union-attr, arg-type]
    sys.modules.setdefault("pkg_resources", stub)
    np.float_ = np.float64  # type: ignore[attr-defined]
    plain = skimage.filters.gaussian

    def gaussian(image: np.ndarray, *args: object, multichannel: bool | None = None, **words: object) -> np.ndarray:
        return plain(image, *args, **({"channel_axis": -1} if multichannel else {}), **words)

    skimage.filters.gaussian = gaussian
    from imagecorruptions import corrupt

    return corrupt  # type: ignore[no-any-return]


def photographs(folder: Path, count: int, side: int) -> None:
    """JPEGs in an image folder: smooth random scenes with edges, about as costly to decode as photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((int(side * 4 / 3), side), Image.Resampling.BICUBIC)
        pixels = np.clip(np.asarray(image, np.int16) + rng.integers(-12, 13, (side, int(side * 4 / 3), 3)), 0, 255).astype(np.uint8)
        place = folder / f"class{i % 10}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{i:05d}.jpg", quality=92)


class Usual(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Decode, resize, crop, corrupt, normalise: one image at a time, as evaluation scripts do it."""

    def __init__(
        self, data: rv.Data, model: rv.Classifier, corrupt: Callable[..., np.ndarray], name: str, severity: int, count: int
    ) -> None:
        self.data, self.model, self.corrupt, self.name, self.severity, self.count = data, model, corrupt, name, severity, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        sample = self.data[index]
        view = np.asarray(self.model.view.apply(Image.fromarray(sample.image)))
        image = self.corrupt(view, corruption_name=self.name, severity=self.severity)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255.0)
        return (tensor - self.model.mean[0]) / self.model.std[0], sample.label  # type: ignore[index]


def floor(model: rv.Classifier, seconds: float = 3.0) -> float:
    """The model's own images per second: forward passes on one batch, no checks and no tiles."""
    batch = torch.rand(model.tile, 3, *model.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.model(batch)
        began, done = time.process_time(), 0
        while time.process_time() - began < seconds:
            model.model(batch)
            done += len(batch)
    return done / (time.process_time() - began)


def ours(model: rv.Classifier, data: rv.Data, names: list[str], count: int) -> float:
    """Images per second of `robustvit.run`, cold cache and store included."""
    import os

    chosen = [spec for spec in load_suite("imagenet-c").scenarios if spec.name in names and spec.get("severity") in SEVERITIES]
    suite = load_suite("imagenet-c")
    part = type(suite)(
        **{**{name: getattr(suite, name) for name in suite.__dataclass_fields__}, "scenarios": tuple(chosen), "data": (Spec("folder"),)}
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ROBUSTVIT_CACHE"] = f"{folder}/cache"
        began = time.process_time()
        done = rv.run(part, [model], data, store=f"{folder}/store", limit=count)
        return done.computed / (time.process_time() - began)


def usual(model: rv.Classifier, data: rv.Data, corrupt: Callable[..., np.ndarray], names: list[str], count: int) -> float:
    """Images per second of the usual loop over the same cells, on fewer images where the reference is slow."""
    began, done = time.process_time(), 0
    for name in names:
        for severity in SEVERITIES:
            rows = max(4, count // 16) if name == "glass_blur" else count
            began_cell = time.process_time()
            loader = torch.utils.data.DataLoader(Usual(data, model, corrupt, name, severity, rows), batch_size=model.tile)
            with torch.no_grad():
                for images, _ in loader:
                    model.model(images).argmax(dim=1)
            began -= (time.process_time() - began_cell) * (count / rows - 1)  # the rest of a slow cell, at the same pace
            done += count
    return done / (time.process_time() - began)


def measure(label: str, model: rv.Classifier, data: rv.Data, count: int, repeats: int) -> dict[str, float]:
    corrupt = reference()
    ratios: dict[str, list[float]] = {"ours": [], "usual": [], "ours without glass": [], "usual without glass": []}
    floors = []
    for _ in range(repeats):
        for key, names in (("", CORRUPTIONS), (" without glass", NO_GLASS)):
            before = floor(model)
            mine = ours(model, data, names, count)
            after = floor(model)
            base = (before + after) / 2
            floors.append(base)
            ratios["ours" + key].append(mine / base)
            ratios["usual" + key].append(usual(model, data, corrupt, names, max(8, count // 8)) / base)
    found = {key: statistics.median(values) for key, values in ratios.items()}
    print(
        f"{label}: floor {statistics.median(floors):.1f} images/s; " + "; ".join(f"{key} {value:.0%}" for key, value in found.items()),
        flush=True,
    )
    return {"floor": statistics.median(floors), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder), chosen.images, 375)
        pictures = rv.load_data("folder", data_dir=folder)
        results = {
            "machine": platform.processor() or platform.machine(), "threads": chosen.threads,
            "demo at 32 px": measure("demo at 32 px, digits", rv.load_model("demo"), rv.load_data("digits"), 500, chosen.repeats),
            "vit_tiny at 224 px": measure(
                "vit_tiny_patch16_224 at 224 px, random weights",
                rv.load_model("vit_tiny_patch16_224?weights=random&num_classes=10"), pictures, chosen.images, chosen.repeats,
            ),
        }  # fmt: skip
    if chosen.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
