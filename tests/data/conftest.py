import io

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def encoded():
    """Encodes a small image made from a seed."""

    def encode(seed=0, form="PNG", size=(24, 20)):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, form)
        return sink.getvalue()

    return encode


@pytest.fixture
def plant(encoded):
    """Writes images at paths below a folder, each with its own seed; returns the folder."""

    def write(root, *paths):
        for seed, path in enumerate(paths):
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(encoded(seed, "JPEG" if place.suffix.lower() in (".jpeg", ".jpg") else "PNG"))
        return root

    return write
