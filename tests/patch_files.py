"""Small files in the layout of ImageNet-Patch's imagenet_patch.gz."""

import gzip
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SIZE, SIDE = (40, 44), 12


def patch_tensor(count: int = 3) -> Tensor:
    """(count, 3, H, W): random patches in the middle of black images."""
    pixels = torch.zeros(count, 3, *SIZE)
    top, left = (size // 2 - SIDE // 2 for size in SIZE)
    drawn = 0.1 + 0.9 * torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    pixels[:, :, top : top + SIDE, left : left + SIDE] = drawn
    return pixels


def facts(**others: Any) -> dict[str, Any]:
    return {"patch_size": SIDE, "target_names": {804: "soap dispenser"}, "patch_type": "square", "input_shape": (3, *SIZE), **others}


def write_patches(path: Path, content: Any = None) -> Path:
    """The gzip pickle of (patches, targets, facts), or of other content; the targets are float32, as in the released file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = (patch_tensor(), torch.tensor([804.0, 513.0, 9.0]), facts()) if content is None else content
    path.write_bytes(gzip.compress(pickle.dumps(whole, protocol=4)))
    return path
