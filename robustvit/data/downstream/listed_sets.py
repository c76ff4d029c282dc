"""Food-101, DTD, Oxford-IIIT Pets, FGVC-Aircraft and CUB-200: image files beside lists of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Le

from robustvit.data.formats.files import FileDataset
from robustvit.data.formats.listed_files import Listed, checked_classes, fields_of, folder_with, listed_dataset
from robustvit.data.formats.listing import read_text
from robustvit.errors import DataUnreadable
from robustvit.spec.registry import dataset

Split: TypeAlias = Literal["test", "train"]


@dataset(
    source="Bossard, Guillaumin and Van Gool 2014, Food-101", url="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    licence="the images' own (Foodspotting); for research", folders=("food-101",),
    rules="Unpack food-101.tar.gz, then --data-dir FOLDER, the one that holds food-101/. The training images are noisy, as released.",
)  # fmt: skip
def food101(root: Path | None, *, split: Split = "test") -> FileDataset:
    """Food-101: 101 dishes, 250 test and 750 training images each.

    root: holds `meta/<split>.json` and `images/<class>/<number>.jpg`, itself or in `food-101/`. Labels follow the names of classes.
    """
    place = folder_with("food101", root, f"meta/{split}.json", "food-101")
    try:
        written = json.loads(read_text(place / "meta" / f"{split}.json"))
        names = checked_classes("food101", sorted(written), 101)
        listed = [Listed(f"images/{path}.jpg", label) for label, name in enumerate(names) for path in written[name]]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataUnreadable(f"{place / 'meta' / f'{split}.json'} is not the list of Food-101: {error!r}.") from error
    return listed_dataset(
        "food101", split, place, listed, [name.replace("_", " ") for name in names], 25_250 if split == "test" else 75_750
    )


@dataset(
    source="Cimpoi et al. 2014, Describing Textures in the Wild", url="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    licence="for research; the images' own",
    rules="Unpack dtd-r1.0.1.tar.gz, then --data-dir FOLDER, the one that holds dtd/. Scores are of one partition of ten; papers use the "
    "first.",
)  # fmt: skip
def dtd(
    root: Path | None, *, split: Literal["test", "val", "train"] = "test", partition: Annotated[int, Ge(1), Le(10)] = 1
) -> FileDataset:  # fmt: skip
    """Describable Textures: 47 textures, 40 images of each in every split of a partition.

    root: holds `labels/<split><partition>.txt` and `images/<class>/*.jpg`, itself or in `dtd/` or `dtd/dtd/`.
    """
    place = folder_with("dtd", root, f"labels/{split}{partition}.txt", "dtd", "dtd/dtd")
    paths = [words[0] for words in fields_of(place / "labels" / f"{split}{partition}.txt", 1)]
    names = checked_classes("dtd", sorted({path.partition("/")[0] for path in paths}), 47)
    listed = [Listed(f"images/{path}", names.index(path.partition("/")[0])) for path in paths]
    return listed_dataset("dtd", split, place, listed, names, 1_880)


@dataset(
    name="oxford-pets", source="Parkhi et al. 2012, Cats and Dogs", url="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    licence="CC BY-SA 4.0", folders=("oxford-iiit-pet",),
    rules="Unpack images.tar.gz and annotations.tar.gz into one folder, then --data-dir FOLDER, or the one that holds oxford-iiit-pet/. "
    "`train` is the released trainval.",
)  # fmt: skip
def oxford_pets(root: Path | None, *, split: Split = "test") -> FileDataset:
    """Oxford-IIIT Pets: 37 breeds of cats and dogs.

    root: holds `annotations/test.txt` and `annotations/trainval.txt` and `images/*.jpg`, itself or in `oxford-iiit-pet/`.
    """
    file = f"annotations/{'test' if split == 'test' else 'trainval'}.txt"
    place = folder_with("oxford-pets", root, file, "oxford-iiit-pet")
    rows = [(name, _number(place / file, label)) for name, label, *_ in fields_of(place / file, 2)]
    names = dict(sorted((label, name.rpartition("_")[0].replace("_", " ")) for name, label in rows))
    classes = checked_classes("oxford-pets", list(names.values()), 37)
    listed = [Listed(f"images/{name}.jpg", label - 1) for name, label in rows]
    return listed_dataset("oxford-pets", split, place, listed, classes, 3_669 if split == "test" else 3_680)


@dataset(
    name="fgvc-aircraft", source="Maji et al. 2013, Fine-Grained Visual Classification of Aircraft",
    url="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/", licence="for non-commercial research", folders=("fgvc-aircraft-2013b",),
    rules="Unpack fgvc-aircraft-2013b.tar.gz, then --data-dir FOLDER, the one that holds fgvc-aircraft-2013b/. Classes are the hundred "
    "variants; `train` is the released trainval. The strip with the copyright below each image stays.",
)  # fmt: skip
def fgvc_aircraft(root: Path | None, *, split: Split = "test") -> FileDataset:
    """FGVC-Aircraft: a hundred variants of aircraft.

    root: holds `data/variants.txt`, `data/images_variant_<split>.txt` and `data/images/*.jpg`, itself or in `fgvc-aircraft-2013b/`.
    """
    place = folder_with("fgvc-aircraft", root, "data/variants.txt", "fgvc-aircraft-2013b")
    names = checked_classes(
        "fgvc-aircraft", [line.strip() for line in read_text(place / "data/variants.txt").splitlines() if line.strip()], 100
    )
    file = place / "data" / f"images_variant_{'test' if split == 'test' else 'trainval'}.txt"
    rows = list(fields_of(file, 2))
    unknown = [variant for _, variant in rows if variant.strip() not in names]
    if unknown:
        raise DataUnreadable(f"{file} names the variant '{unknown[0]}', which variants.txt has not.")
    listed = [Listed(f"data/images/{image}.jpg", names.index(variant.strip())) for image, variant in rows]
    return listed_dataset("fgvc-aircraft", split, place, listed, names, 3_333 if split == "test" else 6_667)


@dataset(
    name="cub200", source="Wah et al. 2011, Caltech-UCSD Birds-200-2011", url="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    licence="for non-commercial research", folders=("CUB_200_2011",),
    rules="Unpack CUB_200_2011.tgz, then --data-dir FOLDER, the one that holds CUB_200_2011/. Some images are also in ImageNet.",
)  # fmt: skip
def cub200(root: Path | None, *, split: Split = "test") -> FileDataset:
    """CUB-200-2011: two hundred species of birds.

    root: holds `images.txt`, `image_class_labels.txt`, `train_test_split.txt`, `classes.txt` and `images/`, itself or in `CUB_200_2011/`.
    """
    place = folder_with("cub200", root, "images.txt", "CUB_200_2011")
    paths, labels, training = (
        dict(fields_of(place / file, 2)) for file in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    names = [name for _, name in fields_of(place / "classes.txt", 2)]
    classes = [name.strip().partition(".")[2].replace("_", " ") for name in checked_classes("cub200", names, 200)]
    if paths.keys() != labels.keys() or paths.keys() != training.keys():
        raise DataUnreadable(f"data 'cub200': the lists in {place} are not of the same images.")
    wanted = "1" if split == "train" else "0"
    listed = [
        Listed(f"images/{path.strip()}", _number(place / "image_class_labels.txt", labels[key]) - 1)
        for key, path in paths.items()
        if training[key].strip() == wanted
    ]
    return listed_dataset("cub200", split, place, listed, classes, 5_794 if split == "test" else 5_994)


def _number(path: Path, text: str) -> int:
    """The number of a class. Raises DataUnreadable where it is none."""
    words = text.split()
    if not words or not words[0].isdecimal():
        raise DataUnreadable(f"{path} has '{text[:20]}' for the number of a class.")
    return int(words[0])
