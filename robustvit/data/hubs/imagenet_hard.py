"""ImageNet-Hard: images of several test sets that most models get wrong however they are zoomed, each with all labels that are right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustvit.data.annotations.wnids import readings, wnids
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset
from robustvit.data.formats.listing import need_folder
from robustvit.data.hubs.hub import HubRows, open_split, split_rows
from robustvit.errors import DataUnreadable, few
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_NAME = "imagenet-hard"


@dataset(
    name=_NAME,
    folders=("imagenet-hard-4K",),
    source="Taesiri, Nguyen, Habchi, Bezemer and Nguyen 2023, ImageNet-Hard: The Hardest Images Remaining from a Study of the Power of "
    "Zoom and Spatial Biases in Image Classification",
    url="https://huggingface.co/datasets/taesiri/imagenet-hard",
    licence="MIT (as its card says); the images' own terms",
    rules="Clone taesiri/imagenet-hard from the Hugging Face hub (10,980 images in its later revisions, more in earlier ones), or its "
    "version of 4K, then --data-dir FOLDER. A prediction is right where it is one of the labels of the image: the metric top1_real. The "
    "images were chosen because models get them wrong.",
    citation="""@inproceedings{taesiri2023imagenethard,
  title={{ImageNet-Hard}: The Hardest Images Remaining from a Study of the Power of Zoom and Spatial Biases in Image Classification},
  author={Taesiri, Mohammad Reza and Nguyen, Giang and Habchi, Sarra and Bezemer, Cor-Paul and Nguyen, Anh},
  booktitle={Advances in Neural Information Processing Systems, Datasets and Benchmarks Track},
  year={2023}
}""",
)
def imagenet_hard(root: Path | None) -> ImageDataset[HubRows]:
    """ImageNet-Hard, whose images have one or several of ImageNet's thousand classes.

    root: holds the parquet files of the split `validation`, as the repository has them; the columns `image` and `label`, a list of class
    indices, are read. `fact_real` has all labels of an image, as for `imagenet?labels=real`: top1_real is the accuracy of the authors. Its
    one label, that other metrics and attacks go by, is the first of the list, so that top1 is a lower bound. Ids are
    `imagenet-hard/validation/<row>`. The revisions of the repository differ in their number of images (13,925, 13,630, 11,350, 10,980 by
    their cards), so that no number is expected. Raises MissingExtra without the package datasets, DataMissing, and DataUnreadable for rows
    without a label.
    """
    place = need_folder(root, _NAME)
    reader = open_split(_NAME, str(place), "validation", "image", "label")
    rows = split_rows(reader.dataset, "image", "label", f"data '{_NAME}' ({place})")
    _refuse_other_labels(rows.labels, place)
    ids = tuple(f"{_NAME}/validation/{row:08d}" for row in range(len(rows.labels)))
    own = Traits(scenario=_NAME, filtered=True, facts={"fact_real": rows.labels})
    marks = zip(rows.sizes, map(tuple, rows.labels), strict=True)
    return image_dataset(
        _NAME, HubRows(reader, ids), ids=ids, labels=[labels[0] for labels in rows.labels], classes=wnids(), readings=readings(wnids()),
        marks=marks, traits=own,
    )  # fmt: skip


def _refuse_other_labels(labels: Sequence[Any], place: Path) -> None:
    wrong = [row for row, found in enumerate(labels) if not _is_list_of_classes(found)]
    if wrong:
        raise DataUnreadable(
            f"data '{_NAME}': column 'label' in {place} must hold lists of one or more of the classes 0 to {len(wnids()) - 1}; "
            f"{len(wrong)} rows hold others: {few([f'{row} ({labels[row]!r})' for row in wrong])}."
        )


def _is_list_of_classes(found: object) -> bool:
    return isinstance(found, list) and bool(found) and all(type(one) is int and 0 <= one < len(wnids()) for one in found)
