"""What readers call plug-ins: their names in words."""

from __future__ import annotations

from robustvit.spec import registry

_SHORT = {
    "top1": "top-1", "top5": "top-5", "robust_accuracy": "accuracy", "corruption_error": "error", "nll": "NLL", "brier": "Brier",
    "ece": "ECE", "ce_alexnet": "CE", "mce_alexnet": "mCE", "relative_mce_alexnet": "relative mCE",
}  # fmt: skip


def with_spaces(name: str) -> str:
    """A plug-in's name with spaces: `gaussian_noise` gives `gaussian noise`."""
    return name.replace("_", " ")


def metric_name(label: str) -> str:
    """What readers call a metric: the title that it declares, or its name with spaces; `certified accuracy (patch=5)` with parameters.

    A label that names no metric is left as it is.
    """
    name, _, params = label.partition("(")
    entry = registry.entries("metric").get(name)
    if entry is None:
        return label
    return (entry.title or with_spaces(name)) + (f" ({params}" if params else "")


def metric_heading(label: str) -> str:
    """The name of a metric in a table: as `metric_name`, and as papers abbreviate it where they do."""
    return _SHORT.get(label) or metric_name(label)
