"""Names of classes for readers: the words of WordNet for ImageNet's wnids."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources

from robustvit.records.manifest import DataFacts, Manifest

_WNID = re.compile(r"n\d{8}")


def class_labels(names: Sequence[str]) -> list[str]:
    """Names with the first of WordNet's words in place of wnids of ImageNet-1k; of several names separated by commas the first.

    Names that come to the same words are told apart by what they were: `crane (n02012849)`. Wnids without words stay as they are.
    """
    first = [_words().get(name, name).split(",")[0] for name in names]
    counts = Counter(first)
    several = {text for text, count in counts.items() if count > 1}
    return [f"{text} ({name})" if text in several and _WNID.fullmatch(name) else text for text, name in zip(first, names, strict=True)]


def data_facts(suite: str, base: str, runs: Iterable[Manifest]) -> DataFacts | None:
    """The recorded facts about the data set that a suite's results are grouped by (`base`), or else about the last of its variants."""
    alike = [facts for run in runs if run.suite.name == suite for facts in run.data.values() if facts.base == base]
    return next((facts for facts in reversed(alike) if facts.label == base), alike[-1] if alike else None)


def class_names_of(base: DataFacts | None, runs: Iterable[Manifest]) -> dict[str, list[str]]:
    """The class names of every cell: those of its data, or of the base data set where that has as many classes."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for cell in run.cells:
            data = run.data[cell.data_fingerprint]
            alike = base is not None and (data.base, data.classes) == (base.base, base.classes)
            found[cell.cell] = class_labels(data.class_names or (base.class_names if alike and base is not None else []))
    return found


@functools.cache
def _words() -> dict[str, str]:
    """WordNet's words for the wnids of ImageNet-1k, which ship with its classes."""
    lines = (resources.files("robustvit.data") / "imagenet_words.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines)  # type: ignore[misc]
