"""ImageNet-D: objects that a diffusion model drew before other backgrounds, with other textures and of other materials."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Literal

from robustvit.data.annotations.wnids import reading_with_rest, wnids
from robustvit.data.formats.class_folders import list_classes, refuse_empty
from robustvit.data.formats.files import FileDataset, file_dataset
from robustvit.data.formats.listing import need_first_folder, need_folder, some_subfolders, subfolders
from robustvit.errors import DataMissing, DataUnreadable, few, nearest
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

_NAME = "imagenet-d"
_OUTER = ("ImageNet-D", "imagenet-d")


@dataset(
    name=_NAME,
    source="Zhang, Pan, Kim, Kweon and Mao 2024, ImageNet-D: Benchmarking Neural Network Robustness on Diffusion Synthetic Object",
    url="https://github.com/chenshuang-zhang/imagenet_d",
    licence="MIT",
    rules="Unpack ImageNet-D.tar, or clone zcs15/ImageNet-D from the Hugging Face hub (4,835 images in background/, texture/ and "
    "material/), then --data-dir FOLDER. A prediction is right where the best of all thousand classes is one of those of the object (the "
    "authors' rule); the best among the 113 objects alone is scored too (`mask`). The images were chosen because several models get them "
    "wrong.",
    citation="""@inproceedings{zhang2024imagenetd,
  title={{ImageNet-D}: Benchmarking Neural Network Robustness on Diffusion Synthetic Object},
  author={Zhang, Chenshuang and Pan, Fei and Kim, Junmo and Kweon, In So and Mao, Chengzhi},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2024}
}""",
)
def imagenet_d(root: Path | None, *, nuisance: Literal["background", "texture", "material"] = "background") -> FileDataset:
    """One of the three parts of ImageNet-D.

    root: holds `<nuisance>/<object>/*`, itself or in `ImageNet-D/`; any of the 113 objects may be absent from a part. Labels index the 113
    objects, each of one to three of ImageNet's classes, by the table imgnet_d2imgnet_id.txt of the authors' code. Two readings, from
    a thousand logits, as for ObjectNet: `1000way` scores, `mask` compares the objects alone.
    """
    place = _place(need_folder(root, _NAME), nuisance)
    names, groups = tuple(objects()), tuple(objects().values())
    present = _known(place, names)
    found = list_classes(place, present)
    refuse_empty(_NAME, place, present, found.labels)
    index = {name: i for i, name in enumerate(names)}
    ids = [f"{_NAME}/{nuisance}/{file.without_ending}" for file in found.listing.files]
    masked = Reading("mask", len(groups), outputs=len(wnids()), groups=groups)
    return file_dataset(
        _NAME, place, found.listing, ids=ids, labels=[index[present[label]] for label in found.labels], classes=names,
        readings=(reading_with_rest("1000way", groups), masked), traits=Traits(base="imagenet", scenario=f"{_NAME}-{nuisance}"),
    )  # fmt: skip


@functools.cache
def objects() -> dict[str, tuple[int, ...]]:
    """The class indices of each of the 113 objects, by the name of its folder."""
    lines = (resources.files("robustvit.data") / "imagenet_d.txt").read_text(encoding="ascii").splitlines()
    return {words[0]: tuple(int(word) for word in words[1:]) for words in map(str.split, lines)}


def _place(root: Path, nuisance: str) -> Path:
    return need_first_folder(
        (root / inner / nuisance for inner in ("", *_OUTER)),
        lambda: f"data '{_NAME}': neither {root} nor {_OUTER[0]}/ in it holds {nuisance}/; it holds {some_subfolders(root)}.",
    )


def _known(place: Path, names: tuple[str, ...]) -> list[str]:
    """The folders of objects. Raises DataMissing where there are none, DataUnreadable for others."""
    present = subfolders(place)
    unknown = [name for name in present if name not in names]
    if not present:
        raise DataMissing(f"data '{_NAME}': {place} holds no folders of objects ({few(names)}).")
    if unknown:
        raise DataUnreadable(
            f"data '{_NAME}': {len(unknown)} of {len(present)} folders in {place} are none of its 113 objects: {few(unknown)}."
            f"{nearest(unknown[0], names)}"
        )
    return present
