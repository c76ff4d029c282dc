"""The text of a model card (README.md): one section of it, and the results in its front matter, replaced; the rest kept as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from robustvit.errors import UsageError, with_article
from robustvit.results.exports.model_index import evaluated_here
from robustvit.spec.given import check_path, why_not_small

BEGIN, END = "<!-- robustvit: begin -->", "<!-- robustvit: end -->"
_FRONT = re.compile(r"\A---[ \t]*\r?\n(?P<yaml>.*?)(?:^|\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_INDEX = re.compile(r"^model-index[ \t]*:[^\n]*(?:\n(?:[ \t\-#][^\n]*|(?=\n)))*\n?", re.MULTILINE)
_LARGEST = 16 << 20  # bytes of a card


def read_card(path: Path) -> str:
    """The text of a card; "" where there is none yet. Raises UsageError for what is no text of at most 16 MiB."""
    if not check_path(path, "the model card").exists():
        return ""
    if why := why_not_small(path, _LARGEST):
        raise UsageError(f"{path} {why}; a model card is a text in Markdown.")
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a model card: {error}.") from error


def with_section(card: str, section: str, name: str) -> str:
    """The card with a section between BEGIN and END: in place of the one there is, else at its end. name: of the card, for messages.

    Raises UsageError where the marks are not one pair in this order.
    """
    begins, ends = card.count(BEGIN), card.count(END)
    block = f"{BEGIN}\n{section.strip()}\n{END}"
    if begins == ends == 0:
        return f"{card.rstrip()}\n\n{block}\n".lstrip("\n")
    start, stop = card.find(BEGIN), card.find(END)
    if begins != 1 or ends != 1 or stop < start:
        raise UsageError(f"{name} has {begins} times '{BEGIN}' and {ends} times '{END}'; a card has one pair, in this order, or none.")
    return card[:start] + block + card[stop + len(END) :]


def with_results(card: str, entry: Mapping[str, Any], name: str) -> str:
    """The card with the results of one entry of a model-index, {"name", "results"}, in its front matter.

    Results that this package made earlier are replaced, those of others stay, as do all other lines of the front matter. Raises UsageError
    where the front matter is no YAML of `key: value` lines, or its model-index has another form than huggingface_hub's.
    """
    found = _FRONT.match(card)
    front, body = (found["yaml"], card[found.end() :]) if found else ("", card)
    before = _mapping(front, name)
    index = [*_others(before.get("model-index"), name)] or [{"name": entry["name"], "results": []}]
    index[0]["results"] = [*index[0]["results"], *entry["results"]]
    kept = _INDEX.sub("", front.replace("\r\n", "\n") + "\n").strip("\n")
    block = yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True, width=10_000)
    made = f"{kept}\n{block}" if kept else block
    if _loaded(made) != {**{key: value for key, value in before.items() if key != "model-index"}, "model-index": index}:
        raise UsageError(f"{name}: the front matter is not written as lines of `key: value`; a model-index cannot be put into it.")
    return f"---\n{made}---\n{body}"


def _loaded(front: str) -> Any:
    """What YAML holds; None where it is none."""
    try:
        return yaml.safe_load(front)
    except yaml.YAMLError:
        return None


def _mapping(front: str, name: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(front)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{name}: the front matter is no YAML: {' '.join(str(error).split())[:200]}.") from error
    if not isinstance(found, dict | None):
        raise UsageError(f"{name}: the front matter is {with_article(type(found).__name__)}; it takes lines of `key: value`.")
    return found or {}


def _others(index: Any, name: str) -> list[dict[str, Any]]:
    """The entries of a model-index without the results that this package made."""
    if index is None:
        return []
    if not isinstance(index, list) or not all(isinstance(one, dict) and isinstance(one.get("results"), list) for one in index):
        raise UsageError(f"{name}: 'model-index' takes a list of entries with 'name' and 'results'.")
    results = [one for entry in index for one in entry["results"]]
    if not all(isinstance(one, dict) for one in results):
        raise UsageError(f"{name}: a result in 'model-index' takes 'task', 'dataset' and 'metrics'.")
    return [{**entry, "results": [one for one in entry["results"] if not evaluated_here(one)]} for entry in index]
