"""Errors under common corruptions, plain and relative to AlexNet's.

At least five numbers are called mCE. Here each has a name of its own: `mce_alexnet` divides by AlexNet's errors, `mean_err_15` does not,
`relative_mce_alexnet` subtracts the clean errors first. All but `mean_err_19` use the fifteen test corruptions, without the four extra
ones. Where a suite has one of them only by the definition of imagecorruptions (`frost_imagecorruptions`), that stands in, and the row
says so.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.cell_means import CellMeans

SEVERITIES = ("1", "2", "3", "4", "5")
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
PORT = "_imagecorruptions"  # ends the name of a corruption by another definition than the released one


@metric(source="Hendrycks and Dietterich 2019, section 4.2", unit="%", higher_is_better=False, over="corruption", needs=("label", "pred"))
def corruption_error(errors: CellMeans, corruption: str) -> np.ndarray:
    """Top-1 error under one corruption, averaged over the severities of the suite.

    Denominator: all samples, the same n at every severity; the severities weigh equally. Undivided: no reference table. Bootstrap
    interval over samples, shared by the severities.
    """
    return errors.of(corruption)


@metric(source="Hendrycks and Dietterich 2019, section 4.2", unit="%", higher_is_better=False, over="model", needs=("label", "pred"))
def mean_corruption_error(errors: CellMeans) -> np.ndarray:
    """`corruption_error` averaged over every corruption of the suite; comparable only within one suite.

    Denominator: all samples, the same n in every cell; corruptions weigh equally, whatever their number of severities. No reference table.
    """
    if not errors.graded():
        raise NotApplicable(f"suite '{errors.suite}' has no corruption with severities")
    return errors.mean(errors.graded())


@metric(
    title="corruption error relative to AlexNet",
    source="Hendrycks and Dietterich 2019, section 4.2",
    unit="%",
    higher_is_better=False,
    over="corruption",
    needs=("label", "pred"),
    marks="stand_ins",
)
def ce_alexnet(errors: CellMeans, corruption: str) -> np.ndarray:
    """CE: top-1 error under one corruption, averaged over severities 1 to 5, divided by AlexNet's average over the same five.

    Denominator: all samples, n; reference table `alexnet.json`, ce_mean (50,000 images of the released ImageNet-C). Defined on ImageNet's
    thousand classes and for the fifteen corruptions of the table. The quotient is taken after averaging, not at each severity.
    """
    require_imagenet(errors)
    reference, name = alexnet()["ce_mean"], corruption.removesuffix(PORT)
    if name not in reference:
        raise NotApplicable(f"AlexNet's table has no '{corruption}'")
    return errors.of(corruption, SEVERITIES) / float(reference[name])


@metric(
    title="mean corruption error relative to AlexNet",
    source="Hendrycks and Dietterich 2019, section 4.2",
    unit="%",
    higher_is_better=False,
    over="model",
    needs=("label", "pred"),
    marks="stand_ins",
)
def mce_alexnet(errors: CellMeans) -> np.ndarray:
    """mCE: the mean over the fifteen corruptions of their error, averaged over five severities, divided by AlexNet's. AlexNet has 100.

    Denominator: all samples, the same n in all 75 cells; reference table `alexnet.json`, ce_mean. Defined on ImageNet's thousand classes.
    The published numbers are from 50,000 images of the released files; compare n and source first.
    """
    require_imagenet(errors)
    reference = alexnet()["ce_mean"]
    return errors.relative({own: reference[name] for name, own in in_suite(errors, reference).items()}, SEVERITIES)


@metric(
    title="relative mean corruption error, against AlexNet",
    source="Hendrycks and Dietterich 2019, section 4.2",
    unit="%",
    higher_is_better=False,
    over="model",
    needs=("label", "pred"),
    marks="stand_ins",
)
def relative_mce_alexnet(errors: CellMeans) -> np.ndarray:
    """Relative mCE: as mce_alexnet, of the errors above the clean error, for the model and for AlexNet alike. AlexNet has 100.

    Denominator: all samples, the same n in the 75 cells and the clean one; reference tables `alexnet.json`, ce_mean and clean. Near 0 a
    model loses nothing under corruption, which is easy with a low clean accuracy: read it beside mce_alexnet.
    """
    require_imagenet(errors)
    reference = alexnet()["ce_mean"]
    rise = errors.each(list(in_suite(errors, reference).values()), SEVERITIES) - errors.of("clean", [""])
    expected = np.array(list(reference.values())) - float(alexnet()["clean"])
    return np.asarray((rise / expected[:, None]).mean(axis=0))


@metric(
    title="mean error over 15 corruptions",
    source="Hendrycks and Dietterich 2019, section 4.2",
    unit="%",
    higher_is_better=False,
    over="model",
    needs=("label", "pred"),
    marks="stand_ins",
)
def mean_err_15(errors: CellMeans) -> np.ndarray:
    """Top-1 error averaged over five severities and over the fifteen test corruptions, not divided by anything.

    Denominator: all samples, the same n in all 75 cells, which weigh equally. On any data. No reference table (AlexNet's own is 78.90 on
    the released ImageNet-C).
    """
    return errors.mean(list(in_suite(errors, alexnet()["ce_mean"]).values()), SEVERITIES)


@metric(
    title="mean error over 19 corruptions",
    source="Paul and Chen 2022, Vision Transformers are Robust Learners (imagenet_c/test.py of its code)",
    url="https://github.com/sayakpaul/robustness-vit",
    unit="%",
    higher_is_better=False,
    over="model",
    needs=("label", "pred"),
    marks="stand_ins",
)
def mean_err_19(errors: CellMeans) -> np.ndarray:
    """Top-1 error averaged over five severities and over nineteen corruptions, the four extra ones among them, not divided by anything.

    Denominator: all samples, the same n in all 95 cells, which weigh equally. On any data. That script prints it under the name of mCE,
    which it is not: see mce_alexnet. No reference table.
    """
    return errors.mean(list(in_suite(errors, [*alexnet()["ce_mean"], *EXTRA]).values()), SEVERITIES)


def stand_ins(errors: CellMeans, corruption: str = "") -> str:
    """Why a value is marked: which corruptions of the suite stand in for which of the fifteen, "" where none does."""
    own = {corruption.removesuffix(PORT): corruption} if corruption else in_suite(errors, alexnet()["ce_mean"])
    pairs = [f"{other} for {name}" for name, other in own.items() if other != name]
    return f"stand-ins, by another definition than that of the released files: {', '.join(pairs)}" if pairs else ""


def in_suite(errors: CellMeans, names: Iterable[str]) -> dict[str, str]:
    """The corruption of the suite that each name stands for: itself, or, only where the suite lacks it, that of imagecorruptions."""
    present = {name for name, _ in errors.cells}
    return {name: name if name in present or name + PORT not in present else name + PORT for name in names}


@functools.cache
def alexnet() -> dict[str, Any]:
    """AlexNet's errors on ImageNet and the released ImageNet-C, as fractions, and where each was published."""
    text = importlib.resources.files("robustvit.metrics").joinpath("alexnet.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def require_imagenet(errors: CellMeans) -> None:
    """Raises NotApplicable off ImageNet's thousand classes, of which AlexNet's table is."""
    if errors.data != "imagenet" or errors.classes != 1000:
        raise NotApplicable(f"AlexNet's table is for ImageNet's 1000 classes; this is '{errors.data}' with {errors.classes}")
