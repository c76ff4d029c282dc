"""ImageNet-1k (ILSVRC 2012) as it lies on people's disks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from robustvit.data.annotations.real_labels import find_real
from robustvit.data.annotations.validation_labels import find_labels
from robustvit.data.annotations.wnids import listed, readings, wnids
from robustvit.data.folder import tree
from robustvit.data.formats.files import Files, Listing, files, listing, need_folder, subfolders, written
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, few, nearest
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

Split = Literal["val", "train"]
_COUNTS = {"val": 50_000, "train": 1_281_167}


@dataset(
    source="Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge",
    url="https://www.image-net.org/challenges/LSVRC/2012/",
    licence="ImageNet terms of access: non-commercial research and education",
    rules="Register at https://www.image-net.org, download ILSVRC2012_img_val.tar and sort it into val/<wnid>/, or leave it flat beside "
    "the development kit or Kaggle's LOC_val_solution.csv. Then --data-dir FOLDER. Scores are by tradition on all 50,000 images of val. For labels=real put real.json of "
    "https://github.com/google-research/reassessed-imagenet (Apache-2.0) beside them.",
    citation="""@article{russakovsky2015imagenet,
  title={{ImageNet} Large Scale Visual Recognition Challenge},
  author={Russakovsky, Olga and Deng, Jia and Su, Hao and Krause, Jonathan and Satheesh, Sanjeev and Ma, Sean and Huang, Zhiheng and
          Karpathy, Andrej and Khosla, Aditya and Bernstein, Michael and Berg, Alexander C. and Fei-Fei, Li},
  journal={International Journal of Computer Vision},
  volume={115},
  number={3},
  pages={211--252},
  year={2015}
}""",
)
def imagenet(
    root: Path | None,
    *,
    split: Literal["val", "train"] = "val",
    classes: Literal["all", "imagenet-a", "imagenet-r", "imagenet-o"] = "all",
    labels: Literal["original", "real"] = "original",
) -> Files:
    """ImageNet-1k, or any part of it; labels count the thousand wnids in sorted order whatever classes are present.

    root: holds `<split>/`, `ILSVRC/Data/CLS-LOC/<split>/` or the images themselves, as `<wnid>/*.JPEG` or, for val, flat
    (`ILSVRC2012_val_00000001.JPEG`, …) with one of the label files that `find_labels` knows, beside them or above.
    Ids are `imagenet/<split>/<file name without its ending>`: the same in every layout. classes: only the images of the 200 classes of a
    shifted set, read as that set is, so that the two can be compared. labels: `real` tells the reassessed labels of every image besides
    (Beyer et al. 2020, Are we done with ImageNet?), from the real.json that `find_real` finds, for the metric top1_real: `fact_real`, none, one
    or several classes. The samples, and their own labels, stay the same.
    """
    if labels == "real" and (split, classes) != ("val", "all"):
        raise BadParameter("data 'imagenet': labels=real are those of all classes of val; leave split and classes out.")
    place = _split_folder(need_folder(root, "imagenet"), split)
    present = _classes(place)
    found, known = _sorted_by_class(place, present) if present else _flat(place, split)
    if classes != "all":
        return _of_classes(place, found, known, split, classes)
    own = Traits(expected=_COUNTS[split]) if labels == "original" else _reassessed(place, found)
    return files("imagenet", place, found, ids=_ids(found, split), labels=known, classes=wnids(), readings=readings(wnids()), traits=own)


def _reassessed(place: Path, found: Listing) -> Traits:
    """The facts of ReaL."""
    real = find_real(place, [_stem(picture.path) for picture in found.pictures])
    return Traits(params=(("labels", "real"),), expected=_COUNTS["val"], facts={"fact_real": real})


def _ids(found: Listing, split: str) -> list[str]:
    return [f"imagenet/{split}/{written(_stem(picture.path))}" for picture in found.pictures]


def _of_classes(place: Path, found: Listing, labels: list[int], split: str, classes: str) -> Files:
    """The images whose classes a shifted set has, labelled as it labels them."""
    chosen = listed(classes.replace("-", "_"))
    index = {wnid: i for i, wnid in enumerate(chosen)}
    kept = [(picture, index[wnids()[label]]) for picture, label in zip(found.pictures, labels, strict=True) if wnids()[label] in index]
    part = Listing([picture for picture, _ in kept], found.ignored)
    own = Traits(base="imagenet", scenario=f"{split}-of-{classes}", expected=10_000 if split == "val" else None)
    return files(
        "imagenet", place, part, ids=_ids(part, split), labels=[label for _, label in kept], classes=chosen, readings=readings(chosen), traits=own,
    )  # fmt: skip


def _split_folder(root: Path, split: str) -> Path:
    inner = [root / split, root / "ILSVRC" / "Data" / "CLS-LOC" / split, root / "Data" / "CLS-LOC" / split]
    here = next((place for place in inner if place.is_dir()), None)
    if here is not None:
        return here
    if set(subfolders(root)) & set(wnids()) or listing(root, below=False).pictures:
        return root
    raise DataMissing(
        f"data 'imagenet': {root} holds neither {split}/ nor ILSVRC/Data/CLS-LOC/{split}/ nor folders named by wnid (n01440764, …); "
        f"it holds {few(subfolders(root)) or 'no folders'}."
    )


def _classes(place: Path) -> list[str]:
    """The class folders in `place`; none where images lie flat. Raises DataUnreadable for folders that are no ImageNet class."""
    names = subfolders(place)
    unknown = [name for name in names if name not in set(wnids())]
    if unknown and len(unknown) < len(names):
        raise DataUnreadable(
            f"data 'imagenet': {len(unknown)} of {len(names)} folders in {place} are not among ImageNet's thousand classes: {few(unknown)}."
            f"{nearest(unknown[0], wnids())} For other classes use --data folder:{place}."
        )
    return [] if unknown else names


def _sorted_by_class(place: Path, present: list[str]) -> tuple[Listing, list[int]]:
    index = {wnid: label for label, wnid in enumerate(wnids())}
    found, labels = tree(place, present)
    return found, [index[present[label]] for label in labels]


def _flat(place: Path, split: str) -> tuple[Listing, list[int]]:
    found = listing(place, below=False)
    if not found.pictures:
        raise DataMissing(
            f"data 'imagenet': {place} holds neither folders named by wnid (n01440764, …) nor images; "
            f"it holds {few(subfolders(place)) or 'no folders'} and {found.ignored} files."
        )
    if split != "val":
        raise DataMissing(f"data 'imagenet': the images of {split} must lie in folders named by wnid; those in {place} lie flat.")
    return found, find_labels(place, [_stem(picture.path) for picture in found.pictures])


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]
