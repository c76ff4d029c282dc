"""Tiny folders in the real layout of every data set, one small image where the real one has thousands."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from robustvit.data.annotations.wnids import listed, wnids
from robustvit.data.imagenet_d import objects
from robustvit.data.imagenette import _IMAGENETTE, _IMAGEWOOF
from robustvit.data.laion_c import categories

SIZE = (48, 40)  # (width, height) of an image; those that are released cropped have 224 x 224
CUT = (224, 224)
VAL = tuple(f"{wnids()[label]}/ILSVRC2012_val_{number:08}.JPEG" for number, label in ((1, 207), (2, 1), (3, 999), (4, 207), (5, 30)))
IN9 = (
    "00_dog",
    "01_bird",
    "02_wheeled vehicle",
    "03_reptile",
    "04_carnivore",
    "05_insect",
    "06_musical instrument",
    "07_primate",
    "08_fish",
)


class Layout(NamedTuple):
    """A folder: its images, the other files beside them, and the data set that opening it gives."""

    address: str
    paths: Sequence[str]
    labels: Sequence[int]
    classes: int
    scenario: str = ""
    texts: Mapping[str, str] = {}
    size: tuple[int, int] = SIZE


def plant(root: Path, layout: Layout) -> Path:
    """Writes the layout below `root`, every image in another colour."""
    plant_images(root, layout.paths, layout.size)
    for path, text in layout.texts.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return root


def plant_images(root: Path, paths: Iterable[str], size: tuple[int, int] = SIZE) -> None:
    """Writes plain images of many colours."""
    for seed, path in enumerate(paths):
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(_encoded(seed % 4096, "PNG" if place.suffix == ".png" else "JPEG", size))


@functools.cache
def _encoded(seed: int, form: str, size: tuple[int, int]) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, (seed % 256, 16 * (seed // 256), 128)).save(sink, form)
    return sink.getvalue()


def _val(below: str, texts: Mapping[str, str] | None = None) -> Layout:
    return Layout("imagenet", [f"{below}/{path}" for path in VAL], [207, 1, 999, 207, 30], 1000, texts=texts or {})


def _flat(below: str, name: str, text: str) -> Layout:
    return _val(below, texts={name: text})._replace(paths=[f"{below}/{path.partition('/')[2]}" for path in VAL])


def _kaggle() -> Layout:
    sink = io.StringIO()
    csv.writer(sink).writerows([("ImageId", "PredictionString"), *((path[10:-5], f"{path[:9]} 1 2 3 4") for path in VAL)])
    return _flat("ILSVRC/Data/CLS-LOC/val", "LOC_val_solution.csv", sink.getvalue())


def _caffe() -> Layout:
    return _flat("val", "val.txt", "\n".join(f"{path[10:]} {wnids().index(path[:9])}" for path in VAL))


def _named() -> Layout:
    return _val("val")._replace(paths=[f"val/{path[10:-5]}_{path[:9]}.JPEG" for path in VAL])


def real_json(first: Sequence[object]) -> str:
    """A real.json whose first entries are given, the others empty."""
    return json.dumps([*first, *([[]] * (50_000 - len(first)))])


def _real() -> Layout:
    return _val("val", texts={"real.json": real_json([[207, 208], [], [998], [207], [30]])})._replace(address="imagenet?labels=real")


def _classes(
    address: str, below: str, folders: Sequence[str], classes: int, scenario: str, name: str = "x.jpg", size: tuple[int, int] = SIZE
) -> Layout:
    return Layout(address, [f"{below}/{folder}/{name}" for folder in folders], range(len(folders)), classes, scenario, size=size)


def _numbers() -> list[str]:
    return [str(label) for label in range(1000)]


def _hub() -> Layout:
    names = [f"test/{label}_{label}.png" for label in range(1000)]
    rows = "\n".join(json.dumps({"file_name": name, "labels": [label]}) for label, name in enumerate(names))
    return Layout("imagenet-hr", names, range(1000), 1000, "imagenet-hr", {"metadata.jsonl": rows})


def objectnet_mappings() -> dict[str, str]:
    """The four mapping files: object i of 113 is ImageNet's class i and, for the first twelve, class 200 + i; lines count backwards."""
    names = {label: f"thing {label}, thing" for label in range(1000)}
    groups = {i: [i, 200 + i] if i < 12 else [i] for i in range(113)}
    return {
        "folder_to_objectnet_label.json": json.dumps({f"object_{i:03}": f"Object {i}" for i in range(313)}),
        "objectnet_to_imagenet_1k.json": json.dumps(
            {f"Object {i}": "; ".join(names[label] for label in group) for i, group in groups.items()}
        ),
        "pytorch_to_imagenet_2012_id.json": json.dumps({str(label): 999 - label for label in range(1000)}),
        "imagenet_to_label_2012_v2": "\n".join(names[label] for label in reversed(range(1000))) + "\n",
    }


def _objectnet(below: str) -> Layout:
    names = [f"{below}images/object_{i:03}/{i:015x}.png" for i in range(313)]
    texts = {f"{below}mappings/{name}": text for name, text in objectnet_mappings().items()}
    return Layout("objectnet", names, range(113), 113, "objectnet", texts)


def _in9(variant: str) -> Layout:
    return _classes(f"imagenet-9?variant={variant}", f"bg_challenge/{variant}/val", IN9, 9, variant, "fg_x.JPEG", size=CUT)


def _imagenet_d() -> Layout:
    return _classes("imagenet-d?nuisance=material", "ImageNet-D/material", list(objects()), 113, "imagenet-d-material", "x.png")


def _corrupted(address: str, below: str) -> Layout:
    names = [f"{below}/{wnid}/ILSVRC2012_val_{i + 1:08}.JPEG" for i, wnid in enumerate(wnids())]
    scenario = address.partition("corruption=")[2].partition("&")[0]
    return Layout(address, names, range(1000), 1000, scenario, size=CUT)


LAYOUTS: dict[str, Callable[[], Layout]] = {
    "imagenet, sorted": lambda: _val("val"),
    "imagenet, the classes alone": lambda: _val("."),
    "imagenet, flat beside a line each": lambda: _flat("val", "val_labels.txt", "\n".join(path[:9] for path in VAL)),
    "imagenet, as Kaggle unpacks it": _kaggle,
    "imagenet, flat beside Caffe's list": _caffe,
    "imagenet, flat with wnids in the names": _named,
    "imagenet with reassessed labels": _real,
    "imagenet-a": lambda: _classes("imagenet-a", ".", listed("imagenet_a"), 200, "imagenet-a"),
    "imagenet-a, its folder": lambda: _classes("imagenet-a", "imagenet-a", listed("imagenet_a"), 200, "imagenet-a"),
    "imagenet-r": lambda: _classes("imagenet-r", "imagenet-r", listed("imagenet_r"), 200, "imagenet-r"),
    "imagenet-o": lambda: _classes("imagenet-o", "imagenet-o", listed("imagenet_o"), 200, "imagenet-o"),
    "imagenet-sketch": lambda: _classes("imagenet-sketch", "sketch", wnids(), 1000, "imagenet-sketch", "sketch_1.JPEG"),
    "imagenet-v2": lambda: _classes(
        "imagenet-v2?split=top-images", "imagenetv2-top-images-format-val", _numbers(), 1000, "imagenet-v2-top-images", "x.jpeg"
    ),
    "imagenet-v2, its plain name": lambda: _classes(
        "imagenet-v2", "imagenetv2-matched-frequency", _numbers(), 1000, "imagenet-v2-matched-frequency", "x.jpeg"
    ),
    "imagenet-v2, by wnid": lambda: _classes(
        "imagenet-v2", "imagenetv2-matched-frequency-format-val", wnids(), 1000, "imagenet-v2-matched-frequency", "x.jpeg"
    ),
    "imagenet-hr, as on the hub": _hub,
    "imagenet-hr, by wnid": lambda: _classes("imagenet-hr", "test", wnids(), 1000, "imagenet-hr", "1.png"),
    "imagenet-hr, by number": lambda: _classes("imagenet-hr", "ImageNet-HR", _numbers(), 1000, "imagenet-hr", "1.png"),
    "imagenet-stylized": lambda: _classes("imagenet-stylized", "val", wnids(), 1000, "imagenet-stylized", "1.png", size=CUT),
    "imagenet-d": _imagenet_d,
    "laion-c": lambda: _classes(
        "laion-c?distortion=stickers&severity=2", "stickers/intensity_level_2", list(categories()), 16, "stickers", "1.png"
    ),
    "objectnet": lambda: _objectnet(""),
    "objectnet, unpacked": lambda: _objectnet("objectnet-1.0/"),
    **{f"imagenet-9, {variant}": functools.partial(_in9, variant) for variant in ("original", "only_bg_t")},
    "imagenette": lambda: _classes("imagenette", "imagenette2-320/val", _IMAGENETTE, 10, "", "x.JPEG"),
    "imagewoof": lambda: _classes("imagewoof", "imagewoof2/val", _IMAGEWOOF, 10, "", "x.JPEG"),
    "imagenet-c": lambda: _corrupted("imagenet-c?corruption=fog&severity=3", "weather/fog/3"),
    "imagenet-cbar": lambda: _corrupted("imagenet-cbar?corruption=sparkles&severity=2", "sparkles/2"),
    "imagenet-3dcc": lambda: _corrupted("imagenet-3dcc?corruption=flash&severity=1", "flash/1"),
    "folder": lambda: Layout("folder", [f"{name:03}/1.png" for name in range(1000)], range(1000), 1000),
}
