"""What it takes to make a compressed model: seconds, and memory at its peak and afterwards, for every transform.

    python benchmarks/compressors.py [--arch vit_small_patch16_224] [--only tome quantize] [--tiny]

Every registered transform at its defaults (those of `SETTINGS` here, where they do nothing, or take hours) on a transformer with random
weights; one that learns does so of 32 images of noise, in the seconds. learn, apply: seconds of CPU time, one thread. peak: MiB of the
process above what it had before, sampled every 2 ms. kept: MiB of tensors that the compressed model does not share with its host.
`--tiny` takes a small transformer and few images.
"""

from __future__ import annotations

import argparse
import ctypes
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import robustvit as rv
from robustvit.errors import HostRefused
from robustvit.primitives.draws import Draws
from robustvit.primitives.scenario import parameters
from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.spec.binding import bind
from robustvit.spec.registry import entries, lookup
from robustvit.spec.spec import Spec, parse

TINY = "vit_tiny_patch16_224?kwargs=img_size=32,patch_size=8,embed_dim=24,depth=6,num_heads=2&weights=random&num_classes=10"
_FEW = {"steps": 8}  # of gradient descent, of 200
SETTINGS: dict[str, dict[str, Any]] = {
    "attention_temperature": {"temperature": 2}, "ltmp": _FEW, "learned_mixed_scale": _FEW, "learned_sparse_attention": _FEW, "stvit": _FEW,
    "new_head": {"classes": 10}, "image_size": {"scale": 2},
}  # fmt: skip
_PAGE = 4096


class Noise:
    """Images of noise with labels, which transforms learn of."""

    name = "noise"

    def __init__(self, images: int, classes: int) -> None:
        self.ids, self.labels = tuple(map(str, range(images))), np.arange(images) % classes
        self.classes = tuple(map(str, range(classes)))

    def __len__(self) -> int:
        return len(self.ids)


class Peak:
    """Context that samples the memory of the process; `mib` is the most above what it had at first."""

    def __enter__(self) -> Peak:
        _give_back()
        self.first = self.most = _resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mib(self) -> float:
        """The peak."""
        return (self.most - self.first) / 2**20

    def _sample(self) -> None:
        while not self._over.wait(0.002):
            self.most = max(self.most, _resident())


def _give_back() -> None:
    """Returns memory that was freed to the system, where the C library can: what is kept for later would hide a peak."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="vit_small_patch16_224")
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--tiny", action="store_true", help="a small transformer, few images: seconds")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    host = rv.load_model(TINY if chosen.tiny else f"{chosen.arch}?weights=random")
    data = Noise(8 if chosen.tiny else 32, host.outputs)
    print(f"{host.card.label}, {len(data)} images where it learns\n\n| transform | learn, s | apply, s | peak, MiB | kept, MiB |")
    print("|---|--:|--:|--:|--:|")
    for name in chosen.only or list(entries("transform")):
        try:
            learned, applied, peak, kept = measured(host, name, data)
        except HostRefused as refusal:
            print(f"| {name} | {refusal} | | | |")
            continue
        print(f"| {name} | {'' if learned is None else f'{learned:.2f}'} | {applied:.2f} | {peak:.0f} | {kept:.1f} |", flush=True)


def measured(host: rv.Classifier, name: str, data: Noise) -> tuple[float | None, float, float, float]:
    """Seconds of learning (None where it learns nothing) and of applying, the peak and what is kept, in MiB."""
    entry = lookup("transform", name)
    given: dict[str, Any] = {"digits": data, "demo": host}
    names = {"data": "digits", "model": "demo"}
    nested = {param.name: names[param.hint.plugin] for param in entry.params if param.hint.plugin in names}
    spec: Spec = bind(entry, parse({name: {**nested, **SETTINGS.get(name, {})}})[0])
    plugins = {key: given[name] for key, name in nested.items()}
    artifact, learned = None, None
    with Peak() as peak:
        began = time.process_time()
        if entry.fit:
            draws = Draws(0, "transform/learn", ["learn"], host.device)
            artifact = entry.load_beside(entry.fit)(host, lambda of, at: _batch(host, of, at), draws, **parameters(spec, plugins))
            learned = time.process_time() - began
            began = time.process_time()
        made = apply_transform(host, spec, plugins, artifact)
        applied = time.process_time() - began
    return learned, applied, peak.mib, _unshared(made, host)


def _batch(host: rv.Classifier, data: Noise, positions: np.ndarray) -> rv.Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(len(data), 3, *host.size, generator=generator)
    return rv.Batch(images[positions], torch.from_numpy(data.labels[positions]), tuple(data.ids[i] for i in positions))


def _unshared(made: rv.Classifier, host: rv.Classifier) -> float:
    own = {one.untyped_storage().data_ptr() for one in (*host.model.parameters(), *host.model.buffers())}
    fresh = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in (*made.model.parameters(), *made.model.buffers())}
    return sum(size for pointer, size in fresh.items() if pointer not in own) / 2**20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


if __name__ == "__main__":
    main()
