"""ImageNet-Patch, as it was released: ten adversarial patches, each optimised for a target class of ImageNet-1k."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from robustvit.data.annotations.wnids import readings, wnids
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset
from robustvit.data.formats.listing import need
from robustvit.data.formats.plain_pickle import load_plain
from robustvit.errors import DataMissing, DataUnreadable
from robustvit.primitives.batch import Traits
from robustvit.primitives.pixels import to_uint8
from robustvit.spec.registry import dataset

_NAME = "imagenet-patch"
_FILE = "imagenet_patch.gz"
_LARGEST = 64 << 20  # bytes, packed and unpacked; the released file has 6 MB
_COUNT = 10


@dataset(
    name=_NAME,
    folders=("ImageNet-Patch",),
    source="Pintor et al. 2023, ImageNet-Patch: A Dataset for Benchmarking Machine Learning Robustness against Adversarial Patches",
    url="https://github.com/pralab/ImageNet-Patch",
    licence="CC BY 4.0 (the patches, assets/LICENSE); GPL-3.0 (the authors' code, none of which is used)",
    rules="Clone the repository or take assets/imagenet_patch.gz from it, then --data-dir FOLDER, the one that holds the file. The samples "
    "are the ten patches, labelled with their targets; the corruption imagenet_patch puts them on other images.",
    citation="""@article{pintor2023imagenet,
  title={{ImageNet-Patch}: A Dataset for Benchmarking Machine Learning Robustness against Adversarial Patches},
  author={Pintor, Maura and Angioni, Daniele and Sotgiu, Angelo and Demetrio, Luca and Demontis, Ambra and Biggio, Battista and
          Roli, Fabio},
  journal={Pattern Recognition},
  volume={134},
  pages={109064},
  year={2023}
}""",
)
def imagenet_patch(root: Path | None) -> PatchDataset:
    """The ten patches of ImageNet-Patch, in the middle of black images of 224 px; labels are their targets, of the thousand classes.

    root: `imagenet_patch.gz`, or a folder with the file in it or in `assets/`. Ids are `imagenet-patch/<row>`. The fingerprint covers every
    pixel, the targets and the size. Of the pickle in the file only arrays and tensors are read, and nothing that it asks for is run.
    Raises DataMissing, DataUnreadable.
    """
    path = _the_file(need(root, _NAME))
    read = _read(path)
    own = Traits(cut=read.pixels.shape[-1], fleeting=True, expected=_COUNT)
    marks = (f"{read.side} {hashlib.sha256(one.numpy().tobytes()).hexdigest()}" for one in read.pixels)
    return image_dataset(
        _NAME, read, ids=[f"{_NAME}/{row}" for row in range(len(read.pixels))], labels=read.targets, classes=wnids(),
        readings=readings(wnids()), marks=marks, source="released", traits=own,
    )  # fmt: skip


class PatchFile:
    """Reads the patches as images of 8 bits.

    pixels: (P, 3, H, W) float32 in [0, 1], each patch in the middle; side: of a patch, in pixels; targets: (P,) int64.
    """

    def __init__(self, pixels: Tensor, targets: np.ndarray, side: int) -> None:
        self.pixels, self.targets, self.side = pixels, targets, side

    def __call__(self, index: int) -> np.ndarray:
        """The image of a patch, (H, W, 3) uint8."""
        image: np.ndarray = to_uint8(self.pixels[index : index + 1])[0]
        return image


PatchDataset: TypeAlias = ImageDataset[PatchFile]


def _the_file(place: Path) -> Path:
    if not place.is_dir():
        return place
    for path in (place / _FILE, place / "assets" / _FILE):
        if path.is_file():
            return path
    raise DataMissing(f"data '{_NAME}': {place} holds neither {_FILE} nor assets/{_FILE}.")


def _read(path: Path) -> PatchFile:
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnreadable(f"{path} is no file packed by gzip: {error}.") from error
    if len(content) > _LARGEST:
        raise DataUnreadable(f"{path} unpacks to more than {_LARGEST >> 20} MiB; the released file has 6 MB.")
    try:
        pixels, targets, facts = load_plain(content, "a file of patches", _tensor_parts())
        return _checked(path, pixels, torch.as_tensor(targets), facts)
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RuntimeError,
    ) as error:  # fmt: skip
        raise DataUnreadable(f"{path} is no file of patches, targets and facts: {error}.") from error


def _tensor_parts() -> Mapping[tuple[str, str], Callable[..., Any]]:
    """What is called for the names in a pickle of tensors. Functions of their own for each pickle, which it cannot change for others."""

    def storage(content: bytes) -> Any:
        return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")

    def tensor(held: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
        made: Tensor = torch._utils._rebuild_tensor_v2(held, offset, size, stride, False, OrderedDict())  # type: ignore[no-untyped-call]
        return made

    return {
        ("torch.storage", "_load_from_bytes"): storage,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("collections", "OrderedDict"): OrderedDict,
    }


def _checked(path: Path, pixels: Any, targets: Tensor, facts: Any) -> PatchFile:
    pixels, side = torch.as_tensor(pixels), facts["patch_size"]
    shape = tuple(pixels.shape)
    if pixels.dtype != torch.float32 or len(shape) != 4 or shape[1] != 3 or 0 in shape or 4 * pixels.numel() > _LARGEST:
        raise DataUnreadable(f"{path}: its patches are {shape} {pixels.dtype}; they must be (P, 3, H, W) float32.")
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise DataUnreadable(f"{path}: a pixel of its patches is not in [0, 1].")
    whole = targets.double()
    if targets.shape != shape[:1] or not bool(((whole == whole.round()) & (whole >= 0) & (whole < len(wnids()))).all()):
        raise DataUnreadable(f"{path}: its targets must be {shape[0]} whole numbers from 0 to {len(wnids()) - 1}, one for each patch.")
    if facts.get("patch_type", "square") != "square" or tuple(facts.get("input_shape", shape[1:])) != shape[1:]:
        raise DataUnreadable(
            f"{path}: its patches are {facts.get('patch_type')} in {facts.get('input_shape')}; they must be square, in {shape[1:]}."
        )
    if type(side) is not int or side % 2 or not 0 < side <= min(shape[2:]):
        raise DataUnreadable(f"{path}: its patch_size is {side!r}; it must be an even number of pixels up to {min(shape[2:])}.")
    return PatchFile(pixels.contiguous(), whole.long().numpy(), side)
