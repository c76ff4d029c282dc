"""How a model was trained, from the name of its weights: explicit tables, and `unknown` where the name does not say."""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass, replace

from robustvit.results.published.files import folder

UNKNOWN = "unknown"
NONE = "none"  # where nothing was fine-tuned

_TRANSFORMERS = (
    "vit", "deit", "deit3", "beit", "beitv2", "eva", "eva02", "cait", "xcit", "convit", "pit", "swin", "swinv2", "twins", "davit", "gcvit",
    "mvitv2", "hiera", "coat", "crossvit", "flexivit", "naflexvit", "volo",
)  # fmt: skip
_HYBRIDS = (
    "tiny_vit",
    "efficientformer",
    "efficientformerv2",
    "mobilevit",
    "mobilevitv2",
    "levit",
    "coatnet",
    "maxvit",
    "fastvit",
    "nextvit",
)
_CONVOLUTIONS = (
    "resnet", "resnetv2", "resnext", "wide_resnet50", "wide_resnet101", "convnext", "convnextv2", "dm_nfnet", "nfnet", "efficientnet",
    "tf_efficientnet", "tf_efficientnetv2", "efficientnetv2", "gc_efficientnetv2", "regnety", "regnetx", "densenet121", "vgg", "repvgg",
    "mobilenetv2", "mobilenetv3", "mobilenetv4",
)  # fmt: skip
_KINDS = {
    **dict.fromkeys(_TRANSFORMERS, "transformer"), **dict.fromkeys(_HYBRIDS, "hybrid"), **dict.fromkeys(_CONVOLUTIONS, "convolution"),
    "mixer": "mlp", "gmixer": "mlp", "resmlp": "mlp",
}  # fmt: skip

_SETS = {
    "in1k": "in1k", "in12k": "in12k", "in21k": "in21k", "in22k": "in22k", "laion2b": "laion2b", "laiona": "laion-aesthetic",
    "laion400m": "laion400m", "openai": "wit400m", "webli": "webli", "lvd142m": "lvd142m", "lvd1689m": "lvd1689m", "merged2b": "merged2b",
    "m30m": "merged30m", "m38m": "merged38m", "dfn2b": "dfn2b", "dfn5b": "dfn5b", "swsl": "ig1b", "ssl": "yfcc100m",
}  # fmt: skip
_RECIPES = {
    "augreg": "augreg", "augreg2": "augreg2", "sam": "sam", "mae": "mae", "mim": "mim", "dino": "dino", "dist": "distilled", "a1": "a1",
    "a1h": "a1h", "a2": "a2", "a3": "a3", "tv": "tv", "tv2": "tv2", "laion2b": "clip", "laiona": "clip", "laion400m": "clip",
    "openai": "clip", "merged2b": "clip", "dfn2b": "clip", "dfn5b": "clip", "webli": "siglip", "fcmae": "fcmae",
}  # fmt: skip
_BY_ARCHITECTURE = (  # the first that fits; it goes before the tag's words, except where the tag names a recipe of its own
    ("dinov3", "dinov3"), ("dinov2", "dinov2"), ("siglip", "siglip"), ("clip", "clip"), ("deit3", "deit3"), ("beit", "beit"),
)  # fmt: skip
_ALONE = {"mae": "in1k", "dino": "in1k", "fcmae": "in1k"}  # the pretraining data of weights whose tag is only their recipe

_AUGREG = re.compile(
    r"(?P<architecture>\w+)-(?P<data>i1k|i21k)-(?P<epochs>\d+)ep-lr_(?P<learning_rate>[\d.]+)-aug_(?P<augmentation>\w+)-wd_(?P<weight_decay>[\d.]+)"
    r"-do_(?P<dropout>[\d.]+)-sd_(?P<stochastic_depth>[\d.]+)(--imagenet2012-steps_\w+-lr_[\d.]+-res_(?P<img_size>\d+))?(\.npz)?"
)


@dataclass(frozen=True)
class Factors:
    """How a model was trained, as far as a name says: text is `unknown` and a number None where it does not.

    kind: transformer; hybrid, where whole stages are convolutions; convolution; mlp. pretraining: the first set of images; fine_tuned: the
    sets after it, or `none`. augmentation and what follows: of AugReg's weights, of their pretraining.
    """

    family: str = UNKNOWN
    kind: str = UNKNOWN
    patch: int | None = None
    pretraining: str = UNKNOWN
    fine_tuned: str = UNKNOWN
    recipe: str = UNKNOWN
    augmentation: str = UNKNOWN
    weight_decay: float | None = None
    dropout: float | None = None
    stochastic_depth: float | None = None
    learning_rate: float | None = None


def factors(name: str) -> Factors:
    """The factors in a name: timm's with its tag, or that of one of AugReg's files (`B_16-i21k-300ep-…-sd_0.0`)."""
    return _of_file(name) or _of_file(augreg_files().get(name, "")) or _of_tag(name)


def size_in(name: str) -> int | None:
    """The image side that a name ends in: 224 of `deit_tiny_patch16_224.fb_in1k`."""
    file = _AUGREG.fullmatch(name)
    found = file.group("img_size") if file else None
    words = [] if name.startswith("mobilevit") else name.partition(".")[0].split("_")[::-1]  # whose numbers are widths
    sides = [word for word in words if re.fullmatch(r"\d{3,4}", word)]
    return int(found or sides[0]) if found or sides else None


@functools.cache
def augreg_files() -> dict[str, str]:
    """The name of AugReg's file by timm's name of its weights."""
    with (folder() / "models" / "augreg.csv").open(newline="", encoding="utf-8") as lines:
        return {row["model"]: row["file"] for row in csv.DictReader(lines)}


def _of_tag(name: str) -> Factors:
    architecture, _, tag = name.partition(".")
    family = max((known for known in _KINDS if architecture == known or architecture.startswith(f"{known}_")), key=len, default="")
    family = family or next((known for known in sorted(_KINDS, key=len, reverse=True) if re.match(rf"{known}\d", architecture)), UNKNOWN)
    patch = re.search(r"patch(\d+)", architecture)
    kind = "hybrid" if family == "vit" and re.search(r"_r\d*_", architecture) else _KINDS.get(family, UNKNOWN)
    known = Factors(family, kind, int(patch.group(1)) if patch else None)
    if not tag:
        return known
    before, ft, after = f"_{tag}_".partition("_ft_")
    words, later = before.strip("_").split("_"), after.strip("_").split("_")
    first = [_SETS[word] for word in words if word in _SETS] or [_ALONE[word] for word in words if word in _ALONE]
    rest = first[1:] + [_SETS[word] for word in later if word in _SETS]
    return replace(
        known,
        pretraining=first[0] if first else UNKNOWN,
        fine_tuned=" → ".join(rest) or (UNKNOWN if ft or not first else NONE),
        recipe=_recipe(architecture, family, words),
    )


def _recipe(architecture: str, family: str, words: list[str]) -> str:
    named = next((_RECIPES[word] for word in words if word in _RECIPES), "")
    if named and named != "clip":
        return named
    by_name = next((recipe for part, recipe in _BY_ARCHITECTURE if part in architecture), "")
    if family == "deit":
        return "deit distilled" if "distilled" in architecture else "deit"
    return named or by_name or UNKNOWN


def _of_file(name: str) -> Factors | None:
    """The factors in the name of one of AugReg's files; None for other names."""
    found = _AUGREG.fullmatch(name)
    if found is None:
        return None
    hybrid = found["architecture"].startswith("R")
    patch = found["architecture"].rpartition("_")[2]
    return Factors(
        family="vit",
        kind="hybrid" if hybrid else "transformer",
        patch=int(patch) if patch.isdecimal() and not hybrid else None,
        pretraining="in1k" if found["data"] == "i1k" else "in21k",
        fine_tuned="in1k" if found["img_size"] else NONE,
        recipe="augreg",
        augmentation=found["augmentation"],
        weight_decay=float(found["weight_decay"]),
        dropout=float(found["dropout"]),
        stochastic_depth=float(found["stochastic_depth"]),
        learning_rate=float(found["learning_rate"]),
    )
