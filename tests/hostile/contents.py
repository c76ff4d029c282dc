"""Calls on files whose contents are hostile: suites, stores, arrays, tars, images, tables."""

# ruff: noqa: E501  rows of a table are read better than folded
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from hostile import stores
from hostile.calls import BIG, LONG, Call

from robustvit.records.disk import read_json

_HEAD = "name: hostile\ntitle: t\ndata: digits\nmetrics: [top1]\n"
_SUITE = _HEAD + "scenarios: [clean]\n"
_AXIS = "[" + ", ".join(map(str, range(1, 101))) + "]"
SUITES = {
    "axes": _HEAD + f"scenarios: [{{pgd: {{steps: {_AXIS}, restarts: {_AXIS}, eps: {_AXIS}, step: {_AXIS}}}}}]\n",
    "axes-nested": _HEAD
    + "scenarios: [{transfer: {surrogate: demo, attack: {pgd: {steps: "
    + _AXIS
    + ", restarts: "
    + _AXIS
    + "}}}}]\n" * 1,
    "axes-metrics": f"name: h\ntitle: t\ndata: digits\nscenarios: [clean]\nmetrics: [{{robust_accuracy_at: {{eps: {_AXIS}, a: {_AXIS}, b: {_AXIS}, c: {_AXIS}}}}}]\n",
    "pipelines": _SUITE + "transforms: [[" + ", ".join([f"{{attention_temperature: {{temperature: {_AXIS}}}}}"] * 4) + "]]\n",
    "seeds": _SUITE + "seeds: [" + ", ".join(map(str, range(60_000))) + "]\n",
    "bomb": _HEAD
    + "x: &a [a, a, a, a, a, a, a, a, a, a]\n"
    + "".join(f"x{i}: &a{i} [{', '.join(['*a' + str(i - 1 or '')] * 10)}]\n" for i in range(1, 12)),
    "bomb-merge": "a: &a {x: 1}\n" + "".join(f"b{i}: &a {{<<: [*a, *a]}}\n" for i in range(40)),
    "deep-list": "name: " + "[" * 100_000,
    "deep-closed": "name: " + "[" * 3000 + "]" * 3000,
    "deep-map": "name: " + "{a: " * 5000,
    "deep-block": "".join(" " * i + "a:\n" for i in range(3000)),
    "self": "a: &a [*a]\n",
    "self-map": "a: &a {b: *a}\n",
    "twice": _SUITE + "title: again\n",
    "twice-inner": _HEAD + "scenarios: [{fog: {severity: 1, severity: 2}}]\n",
    "tab": "name:\thostile\n\ttitle: t\n",
    "nul": "name: a\0b\n",
    "bom-only": "\ufeff",
    "control": "name: \x1b[31m\n",
    "empty": "",
    "comment": "# nothing\n",
    "scalar": "5\n",
    "list": "[a, b]\n",
    "two": _SUITE + "---\n" + _SUITE,
    "anchor": "a: *b\n",
    "unclosed": 'name: "abc\n',
    "directive": "%YAML 9.9\n---\n" + _SUITE,
    "tag": "!!python/object/apply:os.getpid []\n",
    "tag-inner": _HEAD + "scenarios: [!!python/name:os.system clean]\n",
    "tag-binary": _HEAD + "scenarios: !!binary aGk=\n",
    "tag-set": _HEAD + "scenarios: !!set {clean}\n",
    "tag-int": _HEAD + "scenarios: [clean]\nversion: !!int abc\n",
    "tag-float": _HEAD + "scenarios: [clean]\nversion: !!float abc\n",
    "tag-bool": _SUITE + "fixed_data: !!bool maybe\n",
    "tag-null": _SUITE + "limit: !!null abc\n",
    "tag-date": _SUITE + "paper: !!timestamp 2001-01-01\n",
    "int-big": _SUITE + f"version: {BIG}\n",
    "float-big": _SUITE + f"version: 1{'0' * 5000}.5\n",
    "int-tag-big": _SUITE + f"version: !!int {BIG}\n",
    "seed-big": _SUITE + f"seeds: [{BIG}]\n",
    "seed-2p63": _SUITE + f"seeds: [{2**63}]\n",
    "seed-half": _SUITE + "seeds: [0.5]\n",
    "seed-negative": _SUITE + "seeds: [-1]\n",
    "seed-text": _SUITE + "seeds: ['0']\n",
    "seed-true": _SUITE + "seeds: [true]\n",
    "seed-twice": _SUITE + "seeds: [0, 0]\n",
    "seed-none": _SUITE + "seeds: []\n",
    "seed-map": _SUITE + "seeds: {a: 1}\n",
    "limit-zero": _SUITE + "limit: 0\n",
    "limit-half": _SUITE + "limit: 0.5\n",
    "limit-big": _SUITE + f"limit: {BIG}\n",
    "limit-text": _SUITE + "limit: many\n",
    "version-zero": _SUITE + "version: 0\n",
    "version-big": _SUITE + f"version: {10**30}\n",
    "view-text": _SUITE + "view: 5\n",
    "view-unknown": _SUITE + "view: {absurd: 5}\n",
    "view-negative": _SUITE + "view: {img_size: -5}\n",
    "view-huge": _SUITE + "view: {img_size: 1000000}\n",
    "view-half": _SUITE + "view: {img_size: 0.5}\n",
    "view-nan": _SUITE + "view: {crop_pct: nan}\n",
    "view-big": _SUITE + f"view: {{img_size: {BIG}}}\n",
    "view-true": _SUITE + "view: {img_size: true}\n",
    "view-list": _SUITE + "view: {img_size: [32, 32]}\n",
    "view-tiny-crop": _SUITE + "view: {crop_pct: 1e-300}\n",
    "view-interpolation": _SUITE + "view: {interpolation: 5}\n",
    "view-corrupt-at": _SUITE + "view: {corrupt_at: -5}\n",
    "view-corrupt-text": _SUITE + "view: {corrupt_at: big}\n",
    "view-corrupt-huge": _SUITE + "view: {corrupt_at: 1000000}\n",
    "view-crop": _SUITE + "view: {crop: [a]}\n",
    "view-crop-list": _SUITE + "view: {interpolation: [a]}\n",
    "storage-zero": _SUITE + "storage: jpeg0\n",
    "storage-big": _SUITE + "storage: jpeg999\n",
    "storage-text": _SUITE + "storage: png\n",
    "storage-number": _SUITE + "storage: 85\n",
    "name-long": _SUITE.replace("hostile", LONG),
    "name-path": _SUITE.replace("hostile", "../../x"),
    "name-number": _SUITE.replace("hostile", "5"),
    "name-empty": _SUITE.replace("hostile", "''"),
    "name-upper": _SUITE.replace("hostile", "Hostile"),
    "name-newline": _SUITE.replace("hostile", '"a\\nb"'),
    "name-dots": _SUITE.replace("hostile", ".."),
    "name-end-newline": _SUITE.replace("hostile", '"a\\n"'),
    "title-number": _SUITE.replace("title: t", "title: 5"),
    "title-list": _SUITE.replace("title: t", "title: [t]"),
    "key-number": _SUITE + "5: 5\n",
    "key-list": _SUITE + "? [a]\n: 5\n",
    "key-null": _SUITE + "~: 5\n",
    "key-unknown": _SUITE + "scenario: [clean]\n",
    "scenarios-empty": _HEAD + "scenarios: []\n",
    "scenarios-text": _HEAD + "scenarios: clean\n",
    "scenarios-map": _HEAD + "scenarios: {clean: {}}\n",
    "scenarios-null": _HEAD + "scenarios: [null]\n",
    "scenarios-number": _HEAD + "scenarios: [5]\n",
    "scenarios-list": _HEAD + "scenarios: [[clean]]\n",
    "scenarios-two": _HEAD + "scenarios: [{clean: {}, fog: {}}]\n",
    "scenarios-code": _HEAD + "scenarios: ['os:system']\n",
    "scenarios-twice": _HEAD + "scenarios: [clean, clean]\n",
    "scenarios-args-list": _HEAD + "scenarios: [{fog: [1]}]\n",
    "scenarios-args-number": _HEAD + "scenarios: [{fog: 5}]\n",
    "scenarios-empty-axis": _HEAD + "scenarios: [{fog: {severity: []}}]\n",
    "scenarios-key-number": _HEAD + "scenarios: [{fog: {5: 5}}]\n",
    "scenarios-slash": _HEAD + "scenarios: ['torchattacks/../x']\n",
    "scenarios-library": _HEAD + "scenarios: [torchattacks/Absurd]\n",
    "metrics-empty": "name: h\ntitle: t\ndata: digits\nscenarios: [clean]\nmetrics: []\n",
    "metrics-twice": "name: h\ntitle: t\ndata: digits\nscenarios: [clean]\nmetrics: [top1, top1]\n",
    "metrics-scenario": "name: h\ntitle: t\ndata: digits\nscenarios: [clean]\nmetrics: [fog]\n",
    "data-null": _SUITE.replace("digits", "null"),
    "data-empty": _SUITE.replace("digits", "[]"),
    "data-number": _SUITE.replace("digits", "5"),
    "data-twice": _SUITE.replace("digits", "[digits, digits]"),
    "data-query-twice": _SUITE.replace("digits", "'digits?split=train&split=test'"),
    "data-code": _SUITE.replace("digits", "'os:getcwd'"),
    "data-half-seed": _SUITE.replace("digits", "{imagenet-boxes: {seed: 0.5}}"),
    "transforms-text": _SUITE + "transforms: abc\n",
    "transforms-flat": _SUITE + "transforms: [attention_temperature]\n",
    "transforms-twice": _SUITE + "transforms: [[], []]\n",
    "transforms-number": _SUITE + "transforms: [[5]]\n",
    "parts-both": _SUITE + "parts: [{data: digits, scenarios: [clean]}]\n",
    "parts-empty": "name: h\ntitle: t\nmetrics: [top1]\nparts: []\n",
    "parts-text": "name: h\ntitle: t\nmetrics: [top1]\nparts: [abc]\n",
    "parts-unknown": "name: h\ntitle: t\nmetrics: [top1]\nparts: [{data: digits, absurd: 1}]\n",
    "parts-null": "name: h\ntitle: t\nmetrics: [top1]\nparts: null\n",
    "parts-missing": "name: h\ntitle: t\nmetrics: [top1]\nparts: [{data: digits}]\n",
    "fixed-text": _SUITE + "fixed_data: maybe\n",
    "unicode": _SUITE.replace("hostile", "ｈｏｓｔｉｌｅ"),
    "surrogate": 'name: "\\ud800"\n',
    "line-separator": "name: a\u2028b: c\n",
    "big": "# " + "x" * 20_000_000 + "\n" + _SUITE,
}
_RIGHT = {
    "comment-bom": "\ufeff" + _SUITE,
    "crlf": _SUITE.replace("\n", "\r\n"),
    "json": '{"name": "h", "title": "t", "data": "digits", "scenarios": ["clean"], "metrics": ["top1"]}',
}
_ARRAYS = [
    "labels-big",
    "labels-negative",
    "labels-float",
    "labels-short",
    "labels-bool",
    "labels-uint64",
    "no-labels",
    "nothing",
    "images-float",
    "images-int64",
    "no-images",
    "images-empty",
    "images-flat",
    "images-five",
    "four-channels",
    "ids-same",
    "ids-numbers",
    "classes-short",
    "classes-bytes",
    "ids-short",
    "objects",
    "scalar",
    "structured",
    "dates",
    "ids-control",
    "short",
    "one",
    "text",
    "lies",
    "bomb",
    "no-header",
    "code",
    "nested",
    "negative",
    "shape-big",
    "shape-2p70",
    "descr",
]
_TARS = [
    "big",
    "digits",
    "negative",
    "float",
    "text",
    "nan",
    "empty",
    "json-deep",
    "json-big",
    "json-list",
    "json-nan",
    "json-big-label",
    "tar-size",
    "tar-short",
    "tar-text",
]


def hostile_calls(root: Path) -> Iterator[Call]:
    """The calls on suites and data. root: the folder of hostile files, to which suites are added."""
    env = {"COLUMNS": "200"}
    (root / "contents").mkdir()
    for name, text in {**SUITES, **_RIGHT}.items():
        path = root / "contents" / f"{name}.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        yield Call(f"check suite {name}", ("check", str(path)), accepted="a way to write YAML" if name in _RIGHT else "", env=env)
    for name in _ARRAYS:
        yield Call(f"data arrays {name}", ("data", f"npz:{root}/{name}.npz", "--verify"), env=env)
    for name in _TARS:
        yield Call(f"data tar {name}", ("data", f"wds/{root}/wds-{name}" + "?label=label" * name.startswith("json"), "--verify"), env=env)
    for name in ("fifo", "zero", "loop", "bad-image"):
        yield Call(f"data folder {name}", ("data", f"folder:{root}/classes-{name}", "--verify"), env=env)


def calls_on_stores(root: Path, whole: Path) -> Iterator[Call]:
    """The calls on stores with odd manifests and tables. root: the folder that they are added to; whole: a good store."""
    env = {"COLUMNS": "200"}
    page = {**read_json(next((whole / "runs").glob("*.json")))}
    for name, text in stores.manifests(page):
        store = stores.replaced_manifest(whole, root / f"manifest-{name}", text)
        said = "" if name in _LENIENT else "all manifests of the store"
        yield Call(
            f"leaderboard manifest {name}", ("leaderboard", "--store", str(store)), accepted=_LENIENT.get(name, ""), said=said, env=env
        )
    file = sorted((whole / "cells").glob("*/0*.parquet"))[0]
    rows = pq.read_table(file)
    for number, (name, table) in enumerate(stores.tables(rows)):
        store = str(stores.replaced_table(whole, root / f"table-{name}", table, named=number % 2 == 1))
        read = not name.startswith(_UNREAD)
        words = ("leaderboard", "--store", store) if read else ("diff", store, str(whole))
        lacks = _LACKING if name.removeprefix("without-") in _OPTIONAL else ""
        accepted = lacks if read else ""
        yield Call(f"{words[0]} table {name}", words, accepted=accepted, said="" if lacks else ".parquet", env=env)
    for number, (name, content) in enumerate(stores.raw_files(file.read_bytes(), rows)):
        store = stores.replaced_file(whole, root / f"file-{name}", content, named=number % 2 == 1)
        yield Call(f"leaderboard file {name}", ("leaderboard", "--store", str(store)), said=".parquet", env=env)
    yield from _strangers(root, whole)


def _strangers(root: Path, whole: Path) -> Iterator[Call]:
    """Calls of every command that reads a store, with a pipe or a device where a file of it should be."""
    for name, pattern in {"records": "cells/*/0*.parquet", "cell": "cells/*/cell.json", "manifest": "runs/*.json"}.items():
        for kind in ("fifo", "zero", "folder", "loop"):
            store = str(stores.stranger(whole, root / f"stranger-{name}-{kind}", pattern, kind))
            for command, words in READERS.items():
                line = tuple(word.format(store=store, whole=whole) for word in words)
                yield Call(f"{command} {name} {kind}", line, said=SAID[name], env={"COLUMNS": "200"})


READERS = {  # a call of every command that reads a store
    "leaderboard": ("leaderboard", "--store", "{store}"),
    "report": ("report", "--store", "{store}", "-o", "x.html"),
    "against": ("report", "--store", "{store}", "--against", "{whole}", "-o", "x.html"),
    "factors": ("factors", "--store", "{store}"),
    "compare": ("compare", "a", "b", "--store", "{store}"),
    "diff": ("diff", "{store}", "{whole}"),
    "export": ("leaderboard", "--store", "{store}", "--format", "csv"),
}
SAID = {"records": ".parquet", "cell": "cell.json", "manifest": "all manifests of the store"}
_UNREAD = ("margin", "rank", "top5")  # columns that no metric of the store reads; `diff` reads all
_OPTIONAL = ("confidence", "nll", "margin", "brier", "rank", "top5")
_LACKING = "a metric that needs the column says so, and the others have their values"
_NOT_NEEDED = "odd, and nothing that a table shows depends on it"
_LENIENT = dict.fromkeys(
    (
        "without-limit",
        "limit-null",
        "limit-number",
        "without-started",
        "without-finished",
        "without-environment",
        "suite-without-title",
        "suite-without-citation",
        "suite-without-data",
        "suite-without-licence",
        "suite-without-paper",
        "suite-without-rules",
        "suite-without-scenarios",
        "suite-without-url",
        "cell-without-attack",
        "cell-without-family",
        "cell-without-link",
        "cell-without-links",
        "id-text",
        "command-text",
        "started-text",
        "finished-text",
        "environment-text",
    ),
    _NOT_NEEDED,
) | {
    "suite-metrics-unknown": "a metric that is not installed here is named as undefined",
    "models-gone": "a model without its card is shown",
    "cells-gone": "a run that requested nothing",
}
