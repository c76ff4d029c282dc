"""Makes reports/references/archives/*.parquet from checkouts of the repositories that published the numbers.

    python reports/archive_references.py CHECKOUTS

CHECKOUTS holds clones named OWNER+NAME. A source is read at the commit named here and refused where its bytes are not those of sha256; the
hundreds of files of RobustBench are named by their commit alone.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from robustvit.results.published.archives import write_archive
from robustvit.results.published.files import COLUMNS, folder, read_references

Row = dict[str, Any]

TIMM = ("huggingface/pytorch-image-models", "aa4b5850c1543fa488abf260f18390eda46cf85d")
ROBUSTBENCH = ("RobustBench/robustbench", "78fcc9e48a07a861268f295a777b975f25155964")
TESTBED = ("modestyachts/imagenet-testbed", "0170eec658d664289d9f61de8f90f967f49abca0")

# file, scenario, labels, n, tolerance; and the sha256 of each file
TIMM_FILES = (
    ("results-imagenet.csv", "clean", "1000-way", 50_000, 0.15),
    ("results-imagenet-real.csv", "clean", "1000-way, ReaL labels", 46_837, 0.15),
    ("results-imagenetv2-matched-frequency.csv", "imagenet-v2-matched-frequency", "1000-way", 10_000, 0.3),
    ("results-sketch.csv", "imagenet-sketch", "1000-way", 50_889, 0.15),
    ("results-imagenet-a.csv", "imagenet-a", "200-way", 7_500, 0.15),
    ("results-imagenet-a-clean.csv", "val-of-imagenet-a", "200-way", 10_000, 0.15),
    ("results-imagenet-r.csv", "imagenet-r", "200-way", 30_000, 0.15),
    ("results-imagenet-r-clean.csv", "val-of-imagenet-r", "200-way", 10_000, 0.15),
)
TIMM_SHA = (
    "30972bf7c7ab451bbd4480ec6116b13d0a84441c57bbc946896fd312264acfcd",
    "e94696aed665475e4d0235195733775c5e1b3f36d6f5f7de99f4386e7ed11630",
    "1d066d8897c40224b14f3cf1d02029c49ebdc56b761ba9a3841bd3bdd3bd0a8e",
    "f3176de38d4a26aa808b3d0cc1fee4261268d70b2be7c9d43e65cb03b3864f46",
    "89471dcea0cd98b56211e2b808cb6bbf7b3c8bb4fe691ba58fec1f198e3fcf91",
    "9146fe8f640dffec93fc7b0052aff2bc38f9de6627cab06117bdf9f43496c162",
    "2dcc1f3dea098ffc1080ad04309b11477646f6f25837b041ce6075610f863209",
    "ce531f6b5d2471f98a1029dae76f683b9ccf69d1d5b54ee09d78c4d530e2bb9c",
)

TESTBED_SHA = "6b32665be2eef1594d6d296fcb07d33fed0dd4ecacacff463841d7cb08e835f7"
TESTBED_SETS = {  # scenario, rules, n
    "val": ("clean", "1000-way", 50_000),
    "val-on-imagenet-a-classes": ("val-of-imagenet-a", "200-way", 10_000),
    "val-on-imagenet-r-classes": ("val-of-imagenet-r", "200-way", 10_000),
    "imagenet-a": ("imagenet-a", "200-way", 7_500),
    "imagenet-r": ("imagenet-r", "200-way", 30_000),
    "imagenet-sketch": ("imagenet-sketch", "1000-way", None),
    "stylized_imagenet": ("imagenet-stylized", "1000-way; the authors' own copy", 50_000),
    "imagenetv2-matched-frequency": ("imagenet-v2-matched-frequency", "1000-way; the released images", 10_000),
    "imagenetv2-threshold0.7": ("imagenet-v2-threshold-0.7", "1000-way; the released images", 10_000),
    "imagenetv2-topimages": ("imagenet-v2-top-images", "1000-way; the released images", 10_000),
    "imagenetv2-matched-frequency-format-val": ("imagenet-v2-matched-frequency", "1000-way; format-val", 10_000),
    "imagenetv2-threshold-0.7-format-val": ("imagenet-v2-threshold-0.7", "1000-way; format-val", 10_000),
    "imagenetv2-top-images-format-val": ("imagenet-v2-top-images", "1000-way; format-val", 10_000),
    "objectnet-1.0-beta": ("objectnet", "among the classes of its objects; border of 2 pixels cut", 18_514),
}
TESTBED_ATTACKS = {
    "pgd.linf.eps0.5": ("0.5/255", "linf"),
    "pgd.linf.eps2": ("2/255", "linf"),
    "pgd.l2.eps0.1": ("0.1", "l2"),
    "pgd.l2.eps0.5": ("0.5", "l2"),
}
SAME_WEIGHTS = 0.06  # points between the clean accuracies of one set of weights in timm's table and the testbed's


def main(checkouts: Path) -> None:
    """Writes the archives, and prints how many numbers each has."""
    timm = list(_timm(checkouts))
    accuracy = {row["model"]: row["value"] for row in timm if (row["scenario"], row["metric"]) == ("clean", "top1")}
    known = {_key(row) for row in read_references(folder() / "timm.csv").to_dict("records")}
    made = {
        "timm": [row for row in timm if _key(row) not in known],
        "robustbench": list(_robustbench(checkouts)),
        "imagenet-testbed": list(_testbed(checkouts, accuracy)),
    }
    for name, rows in made.items():
        path = folder() / "archives" / f"{name}.parquet"
        write_archive(pd.DataFrame(rows, columns=list(COLUMNS)), path)
        print(f"{path}: {len(rows)} numbers, {path.stat().st_size:,} bytes")


def _key(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("model", "img_size", "scenario", "metric"))


def _source(checkouts: Path, source: tuple[str, str], path: str, sha256: str = "") -> str:
    repository, commit = source
    place = checkouts / repository.replace("/", "+")
    content = subprocess.run(["git", "-C", place, "show", f"{commit}:{path}"], capture_output=True, check=True).stdout
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        sys.exit(f"{repository} {path} has sha256 {found}, not {sha256}.")
    return content.decode()


def _row(**given: Any) -> Row:
    base: Row = {"img_size": None, "crop_pct": None, "interpolation": "", "base": "imagenet", "severity": "", "params": "", "n": None}
    return {**base, "unit": "%", "evidence": "authors", **given}


def _timm(checkouts: Path) -> Iterator[Row]:
    for (name, scenario, rules, n, tolerance), sha256 in zip(TIMM_FILES, TIMM_SHA, strict=True):
        url = f"https://github.com/{TIMM[0]}/blob/main/results/{name}"
        for row in csv.DictReader(io.StringIO(_source(checkouts, TIMM, f"results/{name}", sha256))):
            share = float(row["crop_pct"])
            padded = "" if share <= 1 else f"; padded, crop_pct {share:g}"
            view = {"img_size": int(row["img_size"]), "crop_pct": None if padded else share, "interpolation": row["interpolation"]}
            metrics = {"top1": "top1_real"} if "real" in name else {"top1": "top1", "top5": "top5"}
            for column, metric in metrics.items():
                yield _row(
                    model=row["model"], **view, scenario=scenario, metric=metric, value=float(row[column]), tolerance=tolerance, n=n,
                    pictures="original", rules=rules + padded, source=f"timm {name}", url=url, licence="Apache-2.0",
                )  # fmt: skip


def _robustbench(checkouts: Path) -> Iterator[Row]:
    place = checkouts / ROBUSTBENCH[0].replace("/", "+")
    listing = subprocess.run(
        ["git", "-C", place, "ls-tree", "-r", "--name-only", ROBUSTBENCH[1], "model_info"], capture_output=True, check=True
    )
    for path in listing.stdout.decode().splitlines():
        _, data, threat, name = path.split("/")
        shared = {
            "base": data, "pictures": "", "source": f"RobustBench model_info/{data}/{threat}", "licence": "MIT",
            "url": f"https://github.com/{ROBUSTBENCH[0]}/blob/master/{path}", "n": 5_000 if data == "imagenet" else 10_000,
        }  # fmt: skip
        if name.endswith(".json"):
            page = json.loads(_source(checkouts, ROBUSTBENCH, path))
            yield from _of_file(_model(name.removesuffix(".json"), data), threat, page, shared)
        else:
            yield from _of_table(_source(checkouts, ROBUSTBENCH, path), data, shared)


def _model(name: str, data: str) -> str:
    """RobustBench's id; timm's name where the weights are torchvision's."""
    return "resnet50.tv_in1k" if (name, data) == ("Standard_R50", "imagenet") else f"{name} (RobustBench)"


def _of_file(model: str, threat: str, page: Mapping[str, Any], shared: Row) -> Iterator[Row]:
    rules = _rules(shared["base"] if threat == "corruptions" else "")
    known = {"model": model, "tolerance": 0.005, "rules": rules, **shared}
    clean = {"pictures": "original", "rules": f"{rules}; as a {threat} model"}
    yield _row(**{**known, **clean}, scenario="clean", metric="top1", value=float(page["clean_acc"]))
    if threat == "corruptions":
        error = round(100 - float(page["corruptions_acc"]), 2)
        yield _row(**{**known, "pictures": "released", "img_size": _size(shared["base"])}, scenario="", metric="mean_err_15", value=error)
        return
    attack = {"tolerance": 0.1, "rules": f"{rules}; attacks draw at random"}
    params = f"norm={threat.lower()}, version=standard"
    number = {"metric": "robust_accuracy", "value": float(page["autoattack_acc"])}
    yield _row(**{**known, **attack}, scenario="autoattack", severity=page["eps"], params=params, **number)


def _rules(base: str) -> str:
    return "RobustBench's images; resized to 224 px" if base == "imagenet" else "RobustBench's images"


def _size(base: str) -> int:
    """The side of corrupted images."""
    return 224 if base == "imagenet" else 32


def _of_table(text: str, data: str, shared: Row) -> Iterator[Row]:
    """The accuracies of a table of unaggregated results, for every model, corruption and severity."""
    names, severities, *rows = csv.reader(io.StringIO(text))
    known = {**shared, "pictures": "released", "metric": "top1", "tolerance": 0.005, "rules": _rules(data), "img_size": _size(data)}
    for row in rows:
        for name, severity, value in zip(names[1:], severities[1:], row[1:], strict=True):
            if row[0] and value:
                number = round(100 * float(value), 4)
                yield _row(**known, model=_model(row[0], data), scenario=name, severity=str(int(float(severity))), value=number)


def _testbed(checkouts: Path, accuracy: Mapping[str, float]) -> Iterator[Row]:
    shared = {
        "metric": "top1", "source": "Taori et al. 2020, ImageNet testbed: robustness_top1s.csv", "licence": "MIT",
        "url": f"https://github.com/{TESTBED[0]}/blob/master/robustness_top1s.csv", "tolerance": 0.15,
    }  # fmt: skip
    for row in csv.DictReader(io.StringIO(_source(checkouts, TESTBED, "robustness_top1s.csv", TESTBED_SHA))):
        tag = _same_weights(row["model"], float(row["val"]) if row["val"] else -1.0, accuracy)
        model, view = (tag, _view(row["model"])) if tag else (f"{row['model']} (ImageNet testbed)", {})
        for setting, text in row.items():
            found = _setting(setting) if setting != "model" and text else None
            if found is not None:
                yield _row(model=model, **view, value=round(float(text), 3), **{**shared, **found})


def _setting(setting: str) -> Row | None:
    """What a column of the testbed's table is here; None for what has no scenario here (videos, subsets of classes, greyscale)."""
    if setting in TESTBED_SETS:
        scenario, rules, n = TESTBED_SETS[setting]
        return {"scenario": scenario, "rules": rules, "n": n, "pictures": "original"}
    if setting in TESTBED_ATTACKS:
        severity, norm = TESTBED_ATTACKS[setting]
        rules = "PGD of cleverhans, 100 steps; all images or a tenth" + (
            "; radius for 224 px, scaled with the side" if norm == "l2" else ""
        )
        return {
            "scenario": "pgd", "severity": severity, "params": f"norm={norm}, steps=100", "metric": "robust_accuracy", "rules": rules,
            "pictures": "",
        }  # fmt: skip
    if not setting.startswith("imagenet-c."):
        return None
    name, _, place = setting.removeprefix("imagenet-c.").rpartition("_")
    corruption, severity = name.rsplit(".", 1)
    released = place == "on-disk"
    rules = "released JPEGs, preprocessed as any image" if released else "generated after resize and crop; all images or a tenth"
    return {
        "scenario": corruption, "severity": severity, "rules": rules, "pictures": "released" if released else "on-the-fly",
        "n": 50_000 if released else None,
    }  # fmt: skip


def _same_weights(name: str, value: float, accuracy: Mapping[str, float]) -> str:
    """timm's name of the weights, where both name one architecture and source, and the clean accuracies agree; "" elsewhere."""
    for mark, tag in (("_swsl", "fb_swsl_ig1b_ft_in1k"), ("_ssl", "fb_ssl_yfcc100m_ft_in1k")):
        if name.endswith(mark):
            found = f"{name.removesuffix(mark)}.{tag}"
            break
    else:
        if name.startswith("instagram-"):
            found = f"{name.removeprefix('instagram-')}.fb_wsl_ig1b_ft_in1k"
        else:
            found = f"{name}.{'orig_in21k_ft_in1k' if name.startswith('vit_') else 'tv_in1k'}"
    return found if abs(accuracy.get(found, -1e9) - value) <= SAME_WEIGHTS else ""


def _view(name: str) -> Row:
    """How the testbed shows images to a model: src/models/vit.py; 224 of 256 px, torchvision's bilinear, for the others named here."""
    if name.startswith("vit_"):
        size = int(name.rpartition("_")[2])
        return {"img_size": size, "crop_pct": 0.9 if size == 224 else 1.0, "interpolation": "bicubic"}
    return {"img_size": 224, "crop_pct": 0.875, "interpolation": "bilinear"}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
