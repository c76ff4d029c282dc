"""ImageNet-1k (ILSVRC 2012), in the usual layouts on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from robustvit.data.annotations.imagenet_x import find_factors
from robustvit.data.annotations.names_with_wnids import labels_in_names, refuse_misplaced, without_wnid
from robustvit.data.annotations.real_labels import find_real
from robustvit.data.annotations.validation_labels import find_labels
from robustvit.data.annotations.wnids import class_indices, listed, readings, wnids
from robustvit.data.formats.class_folders import Labelled, list_classes, refuse_unknown_wnids
from robustvit.data.formats.files import FileDataset, file_dataset
from robustvit.data.formats.listing import Listing, first_folder, list_files, need_folder, some_subfolders, subfolders
from robustvit.errors import BadParameter, DataMissing
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_BESIDE = (".csv", ".txt", ".mat", ".json")  # endings of files with labels
COUNTS = {"val": 50_000, "train": 1_281_167}


@dataset(
    source="Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge",
    url="https://www.image-net.org/challenges/LSVRC/2012/",
    licence="ImageNet terms of access: non-commercial research and education",
    rules="Register at https://www.image-net.org, download ILSVRC2012_img_val.tar and sort it into val/<wnid>/, or leave it flat beside "
    "the development kit, Kaggle's LOC_val_solution.csv or Caffe's val.txt (names that end in their wnid need "
    "none of them). Then --data-dir FOLDER. Scores are by tradition on all 50,000 images of val. "
    "For labels=real put real.json of https://github.com/google-research/reassessed-imagenet (Apache-2.0) beside them.",
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
    factors: Literal["none", "top", "multi"] = "none",
) -> FileDataset:
    """ImageNet-1k, or any part of it; labels index the thousand sorted wnids whatever classes are present.

    root: holds `<split>/`, `ILSVRC/Data/CLS-LOC/<split>/` or the images themselves, as `<wnid>/*.JPEG`, or flat with names that carry
    their label (`ILSVRC2012_val_00000001_n01751748.JPEG`) or, for val, with one of the label files that `find_labels` knows, beside them or
    above. Ids are `imagenet/<split>/<file name without its ending and label>`: the same in every layout. classes: only the images of the
    200 classes of a shifted set, read as that set is, so that the two can be compared. labels: `real` adds the reassessed labels of every
    image (Beyer et al. 2020, Are we done with ImageNet?), from the real.json that `find_real` finds, for the metric top1_real:
    `fact_real`, none, one or several classes. factors: what sets each image apart from others of its class, as `find_factors` finds it
    (ImageNet-X, Idrissi et al. 2023), for the metric factor_error_ratio: `fact_pose`, `fact_background`, … The samples, and their own
    labels, stay the same.
    """
    if (labels, factors) != ("original", "none") and (split, classes) != ("val", "all"):
        raise BadParameter("data 'imagenet': labels=real and factors are those of all classes of val; leave split and classes out.")
    place = _split_folder(need_folder(root, "imagenet"), split)
    found = _in_class_folders(place) if set(subfolders(place)) & set(wnids()) else _flat(place, split)
    if classes != "all":
        return _of_classes(place, found, split, classes)
    return _opened(place, found, split, wnids(), _annotated(place, found, split, labels, factors))


def _opened(place: Path, found: Labelled, split: str, classes: Sequence[str], traits: Traits) -> FileDataset:
    ids = [f"imagenet/{split}/{without_wnid(file.stem)}" for file in found.listing.files]
    return file_dataset(
        "imagenet", place, found.listing, ids=ids, labels=found.labels, classes=classes, readings=readings(classes), traits=traits
    )


def _annotated(place: Path, found: Labelled, split: str, labels: str, factors: str) -> Traits:
    """The traits of the images of a split, with reassessed labels and factors as facts where they are wanted."""
    stems = [file.stem for file in found.listing.files]
    real = {"fact_real": find_real(place, stems)} if labels == "real" else {}
    varied = find_factors(place, stems, found.labels, factors) if factors != "none" else {}
    params = tuple((key, value) for key, value in (("labels", labels), ("factors", factors)) if value not in ("original", "none"))
    return Traits(params=params, expected=COUNTS[split], facts={**real, **varied})


def _of_classes(place: Path, found: Labelled, split: str, classes: str) -> FileDataset:
    """The images whose classes a shifted set has, with that set's labels."""
    chosen = listed(classes.replace("-", "_"))
    index = {wnid: i for i, wnid in enumerate(chosen)}
    labelled = ((file, index.get(wnids()[label])) for file, label in zip(found.listing.files, found.labels, strict=True))
    kept = [(file, label) for file, label in labelled if label is not None]
    part = Labelled(Listing([file for file, _ in kept], found.listing.ignored), [label for _, label in kept])
    own = Traits(base="imagenet", scenario=f"{split}-of-{classes}", expected=10_000 if split == "val" else None)
    return _opened(place, part, split, chosen, own)


def _split_folder(root: Path, split: str) -> Path:
    here = first_folder((root / split, root / "ILSVRC" / "Data" / "CLS-LOC" / split, root / "Data" / "CLS-LOC" / split))
    if here is not None:
        return here
    if set(subfolders(root)) & set(wnids()) or list_files(root, below=False).files:
        return root
    raise DataMissing(
        f"data 'imagenet': {root} holds neither {split}/ nor ILSVRC/Data/CLS-LOC/{split}/ nor folders named by wnid (n01440764, …); "
        f"it holds {some_subfolders(root)}."
    )


def _in_class_folders(place: Path) -> Labelled:
    refuse_unknown_wnids("imagenet", place, f" For other classes use --data folder:{place}.")
    present = subfolders(place)
    found = list_classes(place, present)
    refuse_misplaced(place, [file.without_ending for file in found.listing.files])
    return Labelled(found.listing, [class_indices()[present[label]] for label in found.labels])


def _flat(place: Path, split: str) -> Labelled:
    found = list_files(place, below=False)
    if not found.files:
        raise DataMissing(
            f"data 'imagenet': {place} holds neither folders named by wnid (n01440764, …) nor images; "
            f"it holds {some_subfolders(place)} and {found.ignored or 'no files'}."
        )
    stems = [file.stem for file in found.files]
    labels = find_labels(place, stems) if split == "val" else labels_in_names(place, stems)
    if labels is None:
        raise DataMissing(
            f"data 'imagenet': the images of {split} must lie in folders named by wnid, or carry their wnid at the end of their names "
            f"(…_n01440764.JPEG); those in {place} lie flat."
        )
    return Labelled(Listing(found.files, found.ignored.without(*_BESIDE)), labels)
