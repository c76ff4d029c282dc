"""Corrupted copies of ImageNet's validation images, as they were released: one folder for each corruption and severity."""

from __future__ import annotations

from pathlib import Path
from sys import intern
from typing import Literal

from robustvit.data.annotations.wnids import class_indices, readings, wnids
from robustvit.data.formats.class_folders import list_classes, refuse_empty, refuse_unknown_wnids
from robustvit.data.formats.files import FileDataset, file_dataset
from robustvit.data.formats.listing import ImageFile, Listing, need_first_folder, need_folder, some_subfolders, subfolders
from robustvit.data.imagenet_c_source import CITATION, SOURCE
from robustvit.errors import DataMissing, nearest
from robustvit.primitives.batch import Severity, Traits
from robustvit.spec.registry import dataset

_SIDE = 224  # pixels of every released image
_GROUPS = ("", "noise", "blur", "weather", "digital", "extra", "cbar_download")  # folders that the released archives unpack to
_LICENCE = "images under the terms of ImageNet: non-commercial research and education"
_ZENODO = "the md5 and sizes that Zenodo lists for record 2235448"
_FILES_C = (
    {
        "url": "https://zenodo.org/records/2235448/files/noise.tar", "size": 22_565_673_785, "source": _ZENODO,
        "md5": "e80562d7f6c3f8834afb1ecf27252745",
        "only": {"corruption": ("gaussian_noise", "shot_noise", "impulse_noise")},
    },
    {
        "url": "https://zenodo.org/records/2235448/files/blur.tar", "size": 7_112_704_951, "source": _ZENODO,
        "md5": "2d8e81fdd8e07fef67b9334fa635e45c",
        "only": {"corruption": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")},
    },
    {
        "url": "https://zenodo.org/records/2235448/files/weather.tar", "size": 12_797_438_995, "source": _ZENODO,
        "md5": "33ffea4db4d93fe4a428c40a6ce0c25d",
        "only": {"corruption": ("snow", "frost", "fog", "brightness")},
    },
    {
        "url": "https://zenodo.org/records/2235448/files/digital.tar", "size": 7_757_510_705, "source": _ZENODO,
        "md5": "89157860d7b10d5797849337ca2e5c03",
        "only": {"corruption": ("contrast", "elastic_transform", "pixelate", "jpeg_compression")},
    },
    {
        "url": "https://zenodo.org/records/2235448/files/extra.tar", "size": 15_789_490_144, "source": _ZENODO,
        "md5": "d492dfba5fc162d8ec2c3cd8ee672984",
        "only": {"corruption": ("speckle_noise", "gaussian_blur", "spatter", "saturate")},
    },
)  # fmt: skip


@dataset(
    name="imagenet-c",
    downloads=_FILES_C,
    source=SOURCE,
    url="https://zenodo.org/records/2235448",
    licence=_LICENCE,
    rules="Unpack blur.tar, digital.tar, extra.tar, noise.tar and weather.tar of the released files into one folder, then --data-dir "
    "FOLDER. 50,000 JPEGs of 224 px for each corruption and severity: cropped, not resized, for models of 224 px.",
    citation=CITATION,
)
def imagenet_c(
    root: Path | None,
    *,
    corruption: Literal[
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "frost", "fog",
        "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression", "speckle_noise", "gaussian_blur", "spatter",
        "saturate",
    ] = "gaussian_noise",
    severity: Severity = 1,
) -> FileDataset:  # fmt: skip
    """One corruption at one severity of the released ImageNet-C.

    root: holds `<corruption>/<severity>/<wnid>/*.JPEG`, or the archives' folders noise, blur, weather, digital and extra with those. Any
    part of the classes may be present. Ids are those of the validation images, with which these are compared.
    """
    return _released("imagenet-c", root, corruption, severity)


@dataset(
    name="imagenet-cbar",
    downloads=({"url": "https://dl.fbaipublicfiles.com/inc_bar/imagenet_c_bar.tar.gz"},),
    source="Mintun, Kirillov and Xie 2021, On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness",
    url="https://github.com/facebookresearch/augmentation-corruption",
    licence=_LICENCE,
    rules="Unpack the authors' imagenet_c_bar.tar.gz, then --data-dir FOLDER. 50,000 JPEGs of 224 px for each corruption and severity.",
    citation="""@inproceedings{mintun2021interaction,
  title={On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness},
  author={Mintun, Eric and Kirillov, Alexander and Xie, Saining},
  booktitle={Advances in Neural Information Processing Systems},
  year={2021}
}""",
)
def imagenet_cbar(
    root: Path | None,
    *,
    corruption: Literal[
        "blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout", "cocentric_sine_waves", "inverse_sparkles",
        "perlin_noise", "plasma_noise", "single_frequency_greyscale", "sparkles",
    ] = "blue_noise_sample",
    severity: Severity = 1,
) -> FileDataset:  # fmt: skip
    """One corruption at one severity of the released ImageNet-C̄.

    root: holds `<corruption>/<severity>/<wnid>/*.JPEG`. Ids are those of the validation images.
    """
    return _released("imagenet-cbar", root, corruption, severity)


@dataset(
    name="imagenet-3dcc",
    downloads=({"url": "https://datasets.epfl.ch/3dcc/imagenet_3dcc/{corruption}.tar.gz"},),
    source="Kar, Yeo, Atanov and Zamir 2022, 3D Common Corruptions and Data Augmentation",
    url="https://datasets.epfl.ch/3dcc/index.html",
    licence=_LICENCE,
    rules="Unpack the twelve archives imagenet_3dcc/<corruption>.tar.gz of the released data into one folder, then --data-dir FOLDER.",
    citation="""@inproceedings{kar20223d,
  title={{3D} Common Corruptions and Data Augmentation},
  author={Kar, O{\\u{g}}uzhan Fatih and Yeo, Teresa and Atanov, Andrei and Zamir, Amir},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2022}
}""",
)
def imagenet_3dcc(
    root: Path | None,
    *,
    corruption: Literal[
        "near_focus", "far_focus", "fog_3d", "flash", "color_quant", "low_light", "xy_motion_blur", "z_motion_blur", "iso_noise",
        "bit_error", "h265_abr", "h265_crf",
    ] = "near_focus",
    severity: Severity = 1,
) -> FileDataset:  # fmt: skip
    """One corruption at one severity of the released ImageNet-3DCC.

    root: holds `<corruption>/<severity>/<wnid>/*.JPEG`. Ids are those of the validation images.
    """
    return _released("imagenet-3dcc", root, corruption, severity)


def _released(name: str, root: Path | None, corruption: str, severity: int) -> FileDataset:
    place = _place(name, need_folder(root, name), corruption, severity)
    refuse_unknown_wnids(name, place)
    present = subfolders(place)
    found = list_classes(place, present)
    refuse_empty(name, place, present, found.labels)
    # 95 of these are opened together, with the same paths and ids
    listing = Listing([ImageFile(intern(file.path), file.size) for file in found.listing.files], found.listing.ignored)
    return file_dataset(
        name, place, listing, ids=[intern(f"imagenet/val/{file.stem}") for file in listing.files],
        labels=[class_indices()[present[i]] for i in found.labels], classes=wnids(), readings=readings(wnids()), source="released",
        traits=Traits(base="imagenet", scenario=corruption, severity=str(severity), cut=_SIDE, fleeting=True, expected=50_000),
    )  # fmt: skip


def _place(name: str, root: Path, corruption: str, severity: int) -> Path:
    """The folder of one severity, in any of the folders that the archives unpack to."""
    here = need_first_folder(
        (root / group / corruption for group in _GROUPS),
        lambda: (
            f"data '{name}': {root} holds no folder '{corruption}', nor does any of {', '.join(filter(None, _GROUPS))} in it."
            f"{nearest(corruption, subfolders(root))} It holds {some_subfolders(root)}."
        ),
    )
    if not (here / str(severity)).is_dir():
        raise DataMissing(f"data '{name}': {here} has no folder '{severity}' for that severity; it holds {some_subfolders(here)}.")
    return here / str(severity)
