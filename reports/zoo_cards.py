"""What is measured of a model of the zoo, and its row, card and line on the page: everything that `zoo.py` writes beside weights."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import yaml

import robustvit as rv
from robustvit.results.leaderboard import build_leaderboard
from robustvit.results.two_stores.paired_headlines import NumberPair, paired_headlines

HELD_OUT, TRAINING, FIRST = 500, 1297, 40  # digits: of split test, of split train, and those whose predictions a row lists
PGD = {"pgd": {"norm": "linf", "eps": "8/255", "steps": 20}}
SUITE = {"name": "zoo", "title": "Clean, and under PGD", "version": 1, "data": "digits"}
_MARKS = "<!-- models: written by reports/zoo.py -->", "<!-- end of models -->"


def versions() -> dict[str, str]:
    """What weights may depend on besides the recipe."""
    found = {"robustvit": rv.__version__, "torch": torch.__version__, "timm": timm.__version__, "python": platform.python_version()}
    return found | {"machine": platform.machine()}


def measured(file: Path, claim: Mapping[str, Any], work: Path, weights: Path) -> dict[str, Any]:
    """Clean and robust accuracy of a checkpoint, what its defense claims beside another model, and its predictions on the first digits."""
    model = rv.load_model(f"file:{file}")
    board = _board(model, _suite(work, "zoo", [PGD], ["robust_accuracy"]), _store(work, file))
    data = rv.load_data("digits")
    images = torch.tensor(np.stack([data[place].image for place in range(FIRST)])).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        first = "".join(str(int(one)) for one in model(images).argmax(dim=1))
    found = {
        "parameters": sum(one.numel() for one in model.model.parameters()), "clean": _interval(board, "top1", "clean"),
        "pgd": _interval(board, "robust_accuracy", "pgd"), "first": first,
    }  # fmt: skip
    return found | ({"claim": _claimed(model, file, claim, work, weights)} if claim else {})


def _claimed(model: Any, file: Path, claim: Mapping[str, Any], work: Path, weights: Path) -> dict[str, Any]:
    """The number that a claim is about, of the model and of the one that it is compared with, and their paired difference."""
    own = "scenarios" in claim
    name = f"zoo-{file.stem}" if own else "zoo"
    suite = _suite(work, name, claim.get("scenarios", [PGD]), [claim["metric"] if own else "robust_accuracy"])
    against, plus, steps = str(claim["against"]).partition("+")
    other = weights / f"{against.replace('/', '-')}.safetensors"
    if plus:  # what a transformed model would be paired with is a model of its own, as the checkpoint that training started from
        transformed = work / f"{other.stem}-{hashlib.sha256(steps.encode()).hexdigest()[:12]}.safetensors"
        rv.save_checkpoint(rv.load_model(f"file:{other}{plus}{steps}"), transformed)
        other = transformed
    boards = [
        _board(rv.load_model(f"file:{other}"), suite, _store(work, other)),
        _board(model, suite, _store(work, file)),
    ]
    pair = _pair(boards, name, str(claim["number"]))
    if pair.a is None or pair.b is None or pair.difference is None:
        raise ValueError(f"{file.stem}: '{claim['number']}' of it and of {claim['against']} is not paired")
    value, other_value = ([round(one.facts[key], 4) for key in ("value", "low", "high")] for one in (pair.b, pair.a))
    change = [round(one, 4) for one in (pair.difference.value, pair.difference.low, pair.difference.high)]
    return {
        "text": claim["text"], "against": claim["against"], "unit": str(pair.a.rows["unit"].iloc[0]), "value": value,
        "other": other_value, "difference": change, "verdict": verdict(*change, higher_is_better=pair.a.higher_is_better),
    }  # fmt: skip


def verdict(value: float, low: float, high: float, *, higher_is_better: bool) -> str:
    """What a paired difference and its 95 % interval say: `better`, `worse`, or `no difference shown` where the interval holds 0."""
    if low <= 0 <= high:
        return "no difference shown"
    return "better" if (value > 0) == higher_is_better else "worse"


def _store(work: Path, file: Path) -> Path:
    """The store of a file's measurements: other weights have another."""
    content = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return work / f"{file.stem}-{content}.measured"


def _pair(boards: list[Any], suite: str, number: str) -> NumberPair:
    (group,) = [one for one in paired_headlines(*boards) if one.about["suite"] == suite]
    found = [one for one in group.numbers if one.title == number]
    if len(found) != 1:
        raise ValueError(f"'{number}' is not one of {', '.join(one.title for one in group.numbers)}")
    return found[0]


def _suite(work: Path, name: str, scenarios: Iterable[Any], metrics: Iterable[Any]) -> Path:
    path = work / f"{name}.suite.yaml"
    listed = {**SUITE, "name": name, "scenarios": ["clean", *scenarios], "metrics": ["top1", *metrics]}
    path.write_text(yaml.safe_dump(listed, sort_keys=False), encoding="utf-8")
    return path


def _board(model: Any, suite: Path, store: Path) -> Any:
    """The leaderboard of a model under the name that all have here, so that two of them are paired."""
    done = rv.run(str(suite), models=[model.relabel("model")], data="digits", store=store, progress=False)
    if done.failed:
        raise ValueError(f"{suite.name}: {done.failed} cells failed")
    return build_leaderboard(store, suite=suite.name.partition(".")[0])


def _interval(board: Any, metric: str, scenario: str) -> list[float]:
    (row,) = board.rows[(board.rows["metric"] == metric) & (board.rows["scenario"] == scenario)].to_dict("records")
    return [round(float(row[key]), 4) for key in ("value", "low", "high")]


def table_text(rows: Mapping[str, Any], order: Iterable[str]) -> str:
    """The table as its file has it: what no recipe makes first, then the models in an order."""
    known = [*order]
    names = [*(name for name in rows if name not in known), *(name for name in known if name in rows)]
    return json.dumps({name: rows[name] for name in names}, indent=1, ensure_ascii=False) + "\n"


def _percent(found: list[float]) -> str:
    return f"{found[0]:.1f} [{found[1]:.1f}, {found[2]:.1f}] %"


def claim_text(claim: Mapping[str, Any]) -> str:
    """A claim as measured: both values, their difference and the verdict."""
    unit = f" {claim['unit']}" if claim["unit"] else ""
    digits = 1 if claim["unit"] == "%" else 3
    value, other, change = ([f"{one:.{digits}f}" for one in claim[key]] for key in ("value", "other", "difference"))
    sign = "+" if claim["difference"][0] >= 0 else ""
    return (
        f"{value[0]}{unit}, and of `{claim['against']}` {other[0]}{unit}: {sign}{change[0]} [{change[1]}, {change[2]}], {claim['verdict']}"
    )


def card(name: str, row: Mapping[str, Any]) -> str:
    """The card of a model, in Markdown."""
    tries = max(row["tries"])
    least = "at least " if tries > 1 else ""
    facts = {
        "what": row["doc"],
        "file": f"`{row['file']}`, {row['bytes']:,} bytes, float16 weights, read back as float32; {row['parameters']:,} parameters",
        "sha256": f"`{row['sha256']}`",
        "input, licence": "those of [demo](demo.md)",
        "data": f"`digits`, split `train`, {TRAINING:,} digits; all numbers are of the stored weights on the {HELD_OUT} of split `test`",
        "clean accuracy": _percent(row["clean"]),
        "accuracy under PGD, 8/255, 20 steps": _percent(row["pgd"]),
        **({f"claim: {row['claim']['text']}": claim_text(row["claim"])} if "claim" in row else {}),
        "seed": str(row["seed"]),
        "training": f"{least}{row['seconds']:,} seconds of CPU on one thread" + (f", in {tries} tries" if tries > 1 else ""),
        "versions": ", ".join(f"{key} {value}" for key, value in row["versions"].items()),
        f"first {FIRST} digits": f"`{row['first']}`",
        "recipe": f"`{row['recipe']}`",
    }
    lines = [f"| {key} | {value} |" for key, value in facts.items()]
    commands = "\n".join(f"    {text}" for text in row["commands"])
    return "\n".join([f"# {name}", "", "| | |", "|---|---|", *lines, "", "## Made by", "", commands, ""])


def page(text: str, rows: Mapping[str, Any]) -> str:
    """A page with the table of the models between its two marks, as the rows give it."""
    lines = ["| model | clean | PGD, 8/255 | CPU, s | claim | measured |", "|---|---|---|--:|---|---|"]
    for name, row in rows.items():
        if "recipe" in row:
            claim = row.get("claim")
            told = f"{claim['text']} | {claim_text(claim)}" if claim else " | "
            lines.append(f"| `{name}` | {_percent(row['clean'])} | {_percent(row['pgd'])} | {row['seconds']} | {told} |")
    start, end = map(re.escape, _MARKS)
    made = "\n".join([_MARKS[0], "", *lines, "", _MARKS[1]])
    return re.sub(f"{start}.*{end}", lambda _: made, text, flags=re.DOTALL)
