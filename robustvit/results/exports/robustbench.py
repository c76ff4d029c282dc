"""RobustBench's model_info files: one JSON object for each model and threat model, in the folders that its leaderboard reads.

Keys, texts and places are those of RobustBench/robustbench at 78fcc9e (MIT licence): `ModelInfo` and `update_json` in robustbench/utils.py,
robustbench/leaderboard/template.py and the files of model_info/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from robustvit.errors import UsageError, few
from robustvit.records.manifest import ModelFacts
from robustvit.results.exports.formats import ExportFiles, export_format, file_of_label
from robustvit.results.factors.weight_names import UNKNOWN, factors
from robustvit.results.gradient_masking import verdict_word
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.parameters import attack_name, parsed_parameters
from robustvit.results.published.agreement import tag_of

DATASETS = ("cifar10", "cifar100", "imagenet")
EPS = {("imagenet", "Linf"): "4/255", ("cifar10", "Linf"): "8/255", ("cifar100", "Linf"): "8/255", ("cifar10", "L2"): "0.5"}
SUITES = {"attacks": "autoattack", "imagenet": "imagenet-c", "cifar10": "cifar10-c", "cifar100": "cifar100-c"}  # what fills a file
_THREATS = {"linf": "Linf", "l2": "L2"}

# AlexNet's errors on 5,000 images in %, means over five severities, by which RobustBench divides: model_info/imagenet/corruptions/
# unaggregated_results.csv and unaggregated_results_3d.csv
ALEXNET = {
    "shot_noise": 88.832, "motion_blur": 78.724, "snow": 86.8, "pixelate": 71.856, "gaussian_noise": 88.16, "defocus_blur": 82.204,
    "brightness": 55.848, "fog": 82.364, "zoom_blur": 79.572, "frost": 83.148, "glass_blur": 83.08, "impulse_noise": 91.724,
    "contrast": 85.432, "jpeg_compression": 60.68, "elastic_transform": 64.804,
}  # fmt: skip
ALEXNET_3D = {
    "near_focus": 61.068, "far_focus": 65.152, "bit_error": 68.336, "color_quant": 59.62, "flash": 80.124, "fog_3d": 77.356,
    "h265_abr": 56.74, "h265_crf": 52.52, "iso_noise": 93.152, "low_light": 82.248, "xy_motion_blur": 82.484, "z_motion_blur": 79.588,
}  # fmt: skip


@export_format()
def model_info(board: Leaderboard) -> ExportFiles:
    """`DATASET/THREAT/MODEL.json`, the folders of RobustBench's model_info, for every model of the leaderboard.

    clean_acc, autoattack_acc and the corruptions' numbers are texts in %, rounded to two digits; the footnote says on how many images.
    corruptions_mce divides by AlexNet's errors as RobustBench has them (ALEXNET), so that it is not quite `mce_alexnet`. What no store
    knows is null, or N/A where RobustBench's reader needs text. Raises UsageError, naming the suite, for a model with neither a complete
    standard AutoAttack in linf or l2 nor all corruptions, and for data that RobustBench has no leaderboard of.
    """
    files: dict[str, str] = {}
    for (model, transforms, data), part in board.rows.groupby(["model", "transforms", "base"], sort=False):
        label = f"{model}+{transforms}" if transforms else str(model)
        found = dict(_threats(label, str(data), part))
        if not found:
            raise UsageError(_missing(label, str(data), part))
        for threat, numbers in found.items():
            page = _about(str(model), str(transforms), board.cards.get(str(model), ModelFacts())) | {"dataset": str(data)} | numbers
            ordered = {key: page[key] for key in _ORDER if key in page}
            files[f"{data}/{threat}/{file_of_label(label)}.json"] = json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"
    if not files:
        raise UsageError("robustbench: there is no model on this leaderboard; `robustvit run` evaluates one.")
    return files


_ORDER = (
    "link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture", "eps", "clean_acc",
    "reported", "corruptions_acc_3d", "corruptions_mce_3d", "corruptions_acc", "corruptions_mce", "autoattack_acc", "unreliable",
    "footnote",
)  # fmt: skip


def _threats(label: str, data: str, part: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    """The threat models of RobustBench that the rows of one model fill, with their numbers."""
    if data not in DATASETS:
        raise UsageError(f"robustbench: {label} was evaluated on {data}; RobustBench has leaderboards of {', '.join(DATASETS)}.")
    done = part[(part["status"] == "complete") & (part["cell"] != "")].drop_duplicates(["cell", "metric"])
    clean = _only(done[(done["scenario"] == "clean") & (done["metric"] == "top1")], f"{label}: the clean accuracy")
    if clean is None:
        return
    for threat in _THREATS.values():
        row = _attacked(label, data, threat, done)
        if row is not None:
            suspect = {"suspect": True, "honest": False}.get(verdict_word(row["gradients"]))
            doubt = "" if suspect is False or not row["gradients"] else f" Gradients {row['gradients']}."
            yield threat, {
                "eps": row["severity"], "clean_acc": _text(clean["value"]), "autoattack_acc": _text(row["value"]),
                "footnote": f"AutoAttack on {int(row['n'])} images, clean accuracy on {int(clean['n'])}.{doubt}",
                **({} if suspect is None else {"unreliable": suspect}),
            }  # fmt: skip
    numbers, n = _corrupted(data, done, ALEXNET, ""), _images(done, ALEXNET)
    if numbers:
        numbers |= _corrupted(data, done, ALEXNET_3D, "_3d")
        footnote = f"Each corruption on {n} images, {_sources(done)}, clean accuracy on {int(clean['n'])}."
        yield "corruptions", {"eps": None, "clean_acc": _text(clean["value"]), **numbers, "footnote": footnote}


def _attacked(label: str, data: str, threat: str, done: pd.DataFrame) -> pd.Series | None:
    """The row of standard AutoAttack in a norm: at RobustBench's eps, or at the only one there is."""
    rows = done[(done["scenario"] == "autoattack") & (done["metric"] == "robust_accuracy")]
    rows = rows[[_standard(text, threat) for text in rows["params"]]] if len(rows) else rows
    usual = rows[rows["severity"] == EPS.get((data, threat), "")]
    return _only(usual if len(usual) else rows, f"{label}: AutoAttack in {threat}")


def _standard(params: str, threat: str) -> bool:
    """Whether parameters are those of standard AutoAttack in a norm, on the model itself."""
    given = parsed_parameters(params)
    plain = attack_name("autoattack", params) == "autoattack" and given.get("version", "standard") == "standard"
    return plain and _THREATS.get(given.get("norm", "linf")) == threat


def _only(rows: pd.DataFrame, what: str) -> pd.Series | None:
    """The one row; None for none. Raises UsageError for several, saying in what they differ."""
    if len(rows) < 2:
        return rows.iloc[0] if len(rows) else None
    names = [name for name in ("severity", "params", "seed", "precision", "view", "storage", "source") if rows[name].nunique() > 1]
    values = few([", ".join(f"{name} {row[name]}" for name in names) for _, row in rows.iterrows()])
    raise UsageError(f"robustbench: {what} is there {len(rows)} times ({values}); choose one with --suite, or a store of its own.")


def _errors(done: pd.DataFrame, names: Mapping[str, float]) -> pd.DataFrame:
    """The top-1 errors in % by corruption and severity; rows of the corruptions alone."""
    rows = done[done["scenario"].isin(list(names)) & (done["metric"] == "top1")]
    return rows.assign(error=100 - rows["value"])


def _corrupted(data: str, done: pd.DataFrame, names: Mapping[str, float], ending: str) -> dict[str, str]:
    """The mean accuracy, and on ImageNet the mCE, of corruptions at five severities; empty where one of them is missing."""
    rows = _errors(done, names)
    for (name, severity), cells in rows.groupby(["scenario", "severity"]):
        _only(cells, f"{cells['model'].iloc[0]}: the top1 of {name} {severity}")
    table = rows.pivot_table(index="scenario", columns="severity", values="error", aggfunc="count")
    if table.shape != (len(names), 5) or table.isna().any(axis=None):
        return {}
    means = rows.groupby("scenario")["error"].mean()
    ratios = means / pd.Series(names)
    mce = {f"corruptions_mce{ending}": _text(100 * ratios.mean())} if data == "imagenet" else {}
    return {f"corruptions_acc{ending}": _text(100 - means.mean())} | mce


def _images(done: pd.DataFrame, names: Mapping[str, float]) -> str:
    counts = sorted({int(n) for n in _errors(done, names)["n"]})
    return " to ".join(dict.fromkeys(str(n) for n in (*counts[:1], *counts[-1:])))


def _sources(done: pd.DataFrame) -> str:
    """Where the corrupted images are from: `released`, `on-the-fly`."""
    return " and ".join(sorted(set(_errors(done, ALEXNET)["source"])))


def _text(value: float) -> str:
    return str(round(float(value), 2))


def _missing(label: str, data: str, part: pd.DataFrame) -> str:
    """What a model lacks for every threat model, and which suites compute it."""
    if not ((part["scenario"] == "clean") & (part["metric"] == "top1") & (part["status"] == "complete")).any():
        return f"robustbench: {label} on {data} has no complete clean top1; `robustvit run --suite {SUITES['attacks']}` computes it."
    attacked = part[(part["scenario"] == "autoattack") & (part["metric"] == "robust_accuracy")]
    reasons = [f"its AutoAttack is {row['status']}: {row['reason']}" for _, row in attacked.iterrows() if row["status"] != "complete"]
    done = part[(part["status"] == "complete") & (part["cell"] != "")]
    cells = len(_errors(done, ALEXNET).drop_duplicates(["scenario", "severity"]))
    what = reasons[0] if reasons else "no standard AutoAttack in linf or l2"
    return (
        f"robustbench: {label} on {data} has {what}, and {cells} of the 75 corrupted cells' top1; "
        f"the suites {SUITES['attacks']} and {SUITES[data]} fill either file."
    )


def _about(model: str, transforms: str, card: ModelFacts) -> dict[str, Any]:
    """What a file says of the model itself."""
    paper = _paper(card)
    known = factors(tag_of(card)) if tag_of(card) else None
    seen = None if known is None or known.pretraining == UNKNOWN else {known.pretraining, *known.fine_tuned.split(" → ")} - {"none"}
    whole = f"{model} → {transforms}" if transforms else model
    return {
        "link": paper.get("url") or card.url or "N/A", "name": paper.get("title") or whole,
        "authors": paper.get("author", "N/A"), "venue": paper.get("venue", "N/A"),
        "additional_data": None if seen is None or UNKNOWN in seen else seen != {"in1k"},
        "number_forward_passes": None if transforms else 1,
        "architecture": whole if transforms else (tag_of(card) or model).partition(".")[0], "reported": None,
    }  # fmt: skip


def _paper(card: ModelFacts) -> dict[str, str]:
    """Title, author, venue and address of the first paper that a card cites; nothing where the citation is of a library of models."""
    if card.identity.partition("(")[0] in ("timm", "hf"):
        return {}
    first = "@".join(card.citation.split("@", 2)[:2])
    found = re.findall(r"(\w+)\s*=\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", first)
    fields = {key.lower(): re.sub(r"[{}]", "", value) for key, value in found}
    venue = fields.get("booktitle") or fields.get("journal") or ""
    names = [" ".join(reversed(name.split(", ", 1))) for name in fields.get("author", "N/A").split(" and ")]
    return fields | {"author": ", ".join(names), "venue": f"{venue} {fields.get('year', '')}".strip() if venue else "N/A"}
