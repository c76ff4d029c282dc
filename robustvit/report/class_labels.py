"""Names of classes for readers: the words of WordNet for ImageNet's wnids."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from importlib import resources

_WNID = re.compile(r"n\d{8}")


def class_labels(names: Sequence[str]) -> list[str]:
    """Names with the first of WordNet's words in place of wnids of ImageNet-1k; of several names separated by commas the first.

    Names that come to the same words are told apart by what they were: `crane (n02012849)`. Wnids without words stay as they are.
    """
    first = [_words().get(name, name).split(",")[0] for name in names]
    counts = Counter(first)
    several = {text for text, count in counts.items() if count > 1}
    return [f"{text} ({name})" if text in several and _WNID.fullmatch(name) else text for text, name in zip(first, names, strict=True)]


@functools.cache
def _words() -> dict[str, str]:
    """WordNet's words for the wnids of ImageNet-1k, which ship with its classes."""
    lines = (resources.files("robustvit.data") / "imagenet_words.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines)  # type: ignore[misc]
