"""LAION-C: sixteen categories under six distortions that photographs on the web do not have."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Literal

from robustvit.data.annotations.wnids import class_indices, wnids
from robustvit.data.formats.class_folders import class_folder_dataset
from robustvit.data.formats.files import FileDataset
from robustvit.data.formats.listing import need_first_folder, need_folder, some_subfolders
from robustvit.primitives.batch import Severity, Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import dataset

_NAME = "laion-c"


@dataset(
    name=_NAME,
    downloads=({"url": "https://zenodo.org/records/14051887"},),
    source="Li, Klein, Brendel, Geirhos and Zimmermann 2025, LAION-C: An Out-of-Distribution Benchmark for Web-Scale Vision Models",
    url="https://zenodo.org/records/14051887",
    licence="MIT (code and table of categories); the images' own terms",
    rules="Unpack the released files, then --data-dir FOLDER, the one with a folder for each distortion. A model of a thousand classes "
    "predicts the category with the largest mean probability over the category's classes, as in the authors' code. Each model has its own "
    "view; the authors' code squeezes every image to 224 × 224 pixels.",
    citation="""@inproceedings{li2025laionc,
  title={{LAION-C}: An Out-of-Distribution Benchmark for Web-Scale Vision Models},
  author={Li, Fanfei and Klein, Thomas and Brendel, Wieland and Geirhos, Robert and Zimmermann, Roland S.},
  booktitle={International Conference on Machine Learning},
  year={2025}
}""",
)
def laion_c(
    root: Path | None,
    *,
    distortion: Literal["glitched", "mosaic", "stickers", "vertical_lines", "geometric_shapes", "luminance_checkerboard"] = "glitched",
    severity: Severity = 1,
) -> FileDataset:
    """One distortion at one intensity of LAION-C.

    root: holds `<distortion>/intensity_level_<severity>/<category>/*` with all sixteen categories, the layout that run_evaluation of the
    authors' code reads. Ids are `laion-c/<category>/<file name without its ending>`: an image whose name is the same under all distortions
    has one id.
    """
    place = need_folder(root, _NAME)
    here = need_first_folder(
        [place / distortion / f"intensity_level_{severity}"],
        lambda: f"data '{_NAME}': {place} holds no {distortion}/intensity_level_{severity}/; it holds {some_subfolders(place)}.",
    )
    groups = tuple(categories().values())
    own = Traits(scenario=distortion, severity=str(severity), fleeting=True)
    reading = Reading("sixteen", len(groups), outputs=len(wnids()), groups=groups, pool="mean")
    names = tuple(categories())
    return class_folder_dataset(_NAME, here, names, prefix=_NAME, classes=names, readings=(reading,), traits=own)


@functools.cache
def categories() -> dict[str, tuple[int, ...]]:
    """The class indices of each of the sixteen categories, by the name of its folder (category_mapping.json of the authors' code)."""
    lines = (resources.files("robustvit.data") / "laion_c.txt").read_text(encoding="ascii").splitlines()
    return {words[0]: tuple(class_indices()[wnid] for wnid in words[1:]) for words in map(str.split, lines)}
