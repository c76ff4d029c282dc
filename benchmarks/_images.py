"""Images without a download: smooth random scenes with edges, about as costly to process and to decode as photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def scene(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One scene, uint8 (height, width, 3)."""
    small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image, np.int16) + rng.integers(-12, 13, (height, width, 3)), 0, 255).astype(np.uint8)


def scenes(count: int, side: int) -> np.ndarray:
    """Square scenes, uint8 (N, side, side, 3); the first are the same whatever their number."""
    rng = np.random.default_rng(0)
    return np.stack([scene(rng, side, side) for _ in range(count)])


def photographs(folder: Path, count: int, side: int = 375, distinct: int | None = None) -> None:
    """Writes JPEGs into ten class folders. distinct: of how many scenes, default all; the other files are links to those."""
    rng, made = np.random.default_rng(0), list[Path]()
    for i in range(count):
        place = folder / f"class{i % 10}" / f"{i:05d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        if distinct is not None and i >= distinct:
            place.hardlink_to(made[i % distinct])
            continue
        Image.fromarray(scene(rng, side, int(side * 4 / 3))).save(place, quality=92)
        made.append(place)
