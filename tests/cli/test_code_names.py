"""Suites and stores come from others: the module that they name is imported by no command, unless its reader says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import robustvit as rv
from robustvit.errors import CodeRefused, RobustvitError
from robustvit.evaluation.images import kept_suite
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.spec import registry
from robustvit.spec.plugin import KINDS, SCENARIOS
from robustvit.spec.spec import digest
from robustvit.spec.suite_file import read_suite

Columns = Callable[..., dict[str, Any]]
TRAP = """
from pathlib import Path
import robustvit as rv
Path(__file__).with_name("ran").touch()

@rv.corruption()
def darker(images, draws): return images / 2

@rv.metric(over="cell")
def share(records): return (records["pred"] == 3).to_numpy(float)

@rv.dataset()
def data(root): raise SystemExit("data")

@rv.attack()
def push(model, images, labels, draws, *, eps: float = 0.1): return images

@rv.transform()
def same(model): return model

def factory(): return rv.load_model("demo")
"""
FUNCTIONS = {"corruption": "darker", "metric": "share", "data": "data", "attack": "push", "transform": "same", "model": "factory"}


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module `trap`, in which commands run; the file `ran` appears there once it is imported."""
    (tmp_path / "trap.py").write_text(TRAP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_LIVE", {})
    yield tmp_path
    sys.modules.pop("trap", None)


def suite(**fields: Any) -> str:
    """A suite file in which some fields are other ones. JSON is YAML."""
    return json.dumps({"name": "t", "title": "t", "data": "digits", "scenarios": ["clean"], "metrics": ["top1"], **fields})


def in_parts(data: Any, scenario: Any) -> str:
    """A suite file of one part."""
    return json.dumps({"name": "t", "title": "t", "parts": [{"data": data, "scenarios": [scenario]}], "metrics": ["top1"]})


def nested() -> Iterator[tuple[str, str, Any]]:
    """(kind, name, {name: {parameter: code}}) for every parameter of every plug-in that takes another plug-in."""
    for kind in KINDS:
        for name, entry in registry.entries(kind).items():
            for param in entry.params:
                if param.hint.plugin in FUNCTIONS:
                    code = f"trap:{FUNCTIONS[param.hint.plugin]}"
                    for value in [code, {code: {}}, *([{"factory": {"target": code}}, f"{code}?mean=0"] if "factory" in code else [])]:
                        required = {one.name: _some(one.hint.plugin) for one in entry.params if one.required}
                        yield kind, name, {name: {**required, param.name: [[value]] if param.hint.sequence else value}}


def _some(plugin: str) -> str:
    return {"attack": "pgd", "corruption": "fog", "data": "digits", "model": "demo", "transform": "attention_temperature"}.get(plugin, "1")


def suites() -> Iterator[str]:
    """A suite for every place of a suite file that takes a name, with code in it."""
    for kind in SCENARIOS:
        code = f"trap:{FUNCTIONS.get(kind, 'push')}"
        yield suite(scenarios=["clean", code])
        yield suite(scenarios=["clean", {code: {"eps": [1, 2]}}])
        yield suite(data=None, scenarios=None, parts=[{"data": "digits", "scenarios": [code]}]).replace(
            '"data": null, "scenarios": null, ', ""
        )
    for data in ("trap:data", "trap:data?split=test", {"trap:data": {"split": "test"}}, ["digits", "trap:data"]):
        yield suite(data=data)
        yield in_parts(data, "clean")
    yield suite(metrics=["top1", "trap:share"])
    yield suite(metrics=[{"trap:share": {"bins": 3}}])
    yield suite(transforms=[["trap:same"], [{"trap:same": {}}]])
    yield suite(storage="trap:darker")
    fields = {"metric": "metrics", "data": "data", **dict.fromkeys(SCENARIOS, "scenarios")}
    for kind, _, node in nested():
        if kind == "transform":
            yield suite(transforms=[[node]])
        elif kind in fields:
            yield suite(**{fields[kind]: node if kind == "data" else [node]})


def test_every_parameter_that_takes_a_plug_in_is_among_them() -> None:
    assert {kind for kind, _, _ in nested()} >= {"attack", "data"}
    assert len(list(suites())) > 40


def test_no_name_in_a_suite_imports_code(robustvit, trap: Path) -> None:  # type: ignore[no-untyped-def]
    """check, plan and run refuse it at the door, and name the flag: check every suite, the others every fourth."""
    for number, text in enumerate(suites()):
        path = trap / f"{number}.yaml"
        path.write_text(text)
        commands = [["check", path]]
        if number % 4 == 0:
            commands += [["plan", "--suite", path, "--limit", 1], ["run", "--suite", path, "--limit", 1, "--store", "s"]]
        for command in commands:
            result = robustvit(*command)
            assert (result.code, (trap / "ran").exists(), "trap" in sys.modules) == (2, False, False), text
            assert ("--allow-code" in result.err and f"{path.name}:1" in result.err) or "storage is" in result.err, (text, result.err)
    assert not (trap / "s").exists()


def test_a_suite_whose_reader_allows_code_runs_and_says_so(robustvit, trap: Path) -> None:  # type: ignore[no-untyped-def]
    (trap / "t.yaml").write_text(suite(scenarios=["clean", "trap:darker"], metrics=["top1", "trap:share"]))
    assert robustvit("check", "t.yaml", "--allow-code").code == 0
    assert robustvit("plan", "--suite", "t.yaml", "--allow-code", "--limit", 4).code == 0
    result = robustvit("run", "--suite", "t.yaml", "--allow-code", "--limit", 4, "--store", "s", "--quiet")
    assert result.code == 0
    (manifest,) = Store("s").manifests()
    assert manifest.suite.code == ["trap:darker", "trap:share"]
    assert "--allow-code" in manifest.command
    assert set(leaderboard("s")["metric"]) == {"top1", "share"}


def test_python_allows_code_by_an_argument_and_writes_the_flag_into_the_command(trap: Path) -> None:
    (trap / "t.yaml").write_text(suite(scenarios=["clean", "trap:darker"]))
    with pytest.raises(CodeRefused, match=r"t\.yaml:1: 'trap:darker' .* load_suite\(…, allow_code=True\)"):
        rv.load_suite("t.yaml")
    with pytest.raises(CodeRefused, match="allow-code"):
        rv.run("t.yaml", limit=2, store="s")
    rv.run(rv.load_suite("t.yaml", allow_code=True), limit=2, store="s")
    assert all(manifest.command.endswith("--allow-code") for manifest in Store("s").manifests())


def test_a_run_without_code_says_nothing_of_it(trap: Path) -> None:
    (trap / "t.yaml").write_text(suite())
    rv.run("t.yaml", limit=2, store="s")
    (path,) = (trap / "s" / "runs").iterdir()
    assert "code" not in json.loads(path.read_text())["suite"]


def test_the_command_line_names_code(robustvit, trap: Path) -> None:  # type: ignore[no-untyped-def]
    (trap / "t.yaml").write_text(suite())
    assert robustvit("run", "--suite", "t.yaml", "--model", "trap:factory", "--limit", 2, "--store", "s", "--quiet").code == 0
    assert "share" in robustvit("leaderboard", "--store", "s", "--metric", "trap:share", "--format", "csv").out


@pytest.fixture
def received(trap: Path, make_store: Callable[..., Store], answered: Columns) -> Store:
    """A store of two models."""
    cells = {(model, "fog", "1"): answered([True, False, True]) for model in ("a", "b")}
    return make_store({**cells, ("a", "pgd", "1/255"): answered([False, True, True], attacked=[True] * 3)}, name="received")


def poison(store: Store, change: Callable[[dict[str, Any]], None]) -> None:
    (path,) = (store.path / "runs").iterdir()
    page = json.loads(path.read_text())
    del page["checksum"]
    change(page)
    path.write_text(json.dumps(page))


CODE = {"name": "trap:share", "params": {}, "kind": "metric", "version": 1}
NAMES = ("scenario", "data", "base", "kind", "family", "transforms", "params", "storage", "attack", "source", "view", "model_view")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_cell_in_a_store_imports_code(robustvit, trap: Path, received: Store, name: str) -> None:  # type: ignore[no-untyped-def]
    poison(received, lambda page: [cell.update({name: "trap:push"}) for cell in page["cells"]])  # type: ignore[func-returns-value]
    for command in (["leaderboard"], ["report", "-o", trap / "r.html"], ["factors"], ["compare", "a", "b"]):
        robustvit(*command, "--store", received.path)
    assert (list(trap.glob("ran")), "trap" in sys.modules) == ([], False)


def test_no_metric_of_a_store_imports_code(robustvit, trap: Path, received: Store) -> None:  # type: ignore[no-untyped-def]
    suite = {"metrics": [CODE, {**CODE, "name": "top1"}], "data": [{**CODE, "kind": "data"}], "scenarios": [{**CODE, "kind": "attack"}]}
    poison(received, lambda page: page["suite"].update(suite))
    board = leaderboard(received)
    reason = board.loc[board["metric"] == "trap:share", "reason"].unique()
    assert set(board["metric"]) == {"top1", "trap:share"}
    assert len(reason) == 1
    assert "leaderboard --metric trap:share" in reason[0]
    for command in (["leaderboard"], ["report", "-o", trap / "r.html"], ["factors"], ["compare", "a", "b"]):
        assert robustvit(*command, "--store", received.path).code in (0, 2)
    assert robustvit("diff", received.path, received.path).code == 0
    assert (list(trap.glob("ran")), "trap" in sys.modules) == ([], False)


def test_no_description_in_a_store_imports_code(robustvit, trap: Path, received: Store) -> None:  # type: ignore[no-untyped-def]
    """A cell whose canonical question names code, under its right id."""
    for number, cell in enumerate(received.cells()):
        code = {**CODE, "kind": "attack", "params": {"n": number}}
        description = received.describe(cell) | {"scenario": code, "transforms": [code], "storage": code, "model": code}
        new = digest(description)
        received.declare(new, description)
        received.write(new, 0, 0, received.files(cell)[0].read(), {})
        (path,) = (received.path / "runs").iterdir()
        path.write_text(path.read_text().replace(cell, new).replace('"checksum"', '"was"'))
    for command in (["leaderboard"], ["report", "-o", trap / "r.html"], ["factors"], ["compare", "a", "b"]):
        robustvit(*command, "--store", received.path)
    assert (list(trap.glob("ran")), "trap" in sys.modules) == ([], False)


def test_kept_images_of_data_that_name_code_import_none(trap: Path, received: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(received, lambda page: [cell.update(data="trap:data") for cell in page["cells"]])  # type: ignore[func-returns-value]
    monkeypatch.setattr(kept_suite, "kept_questions", lambda store: store.questions())
    with pytest.raises(CodeRefused, match="--data"):
        kept_suite.named_suite(f"kept:{received.path}?model=b")
    assert not (trap / "ran").exists()


def test_published_numbers_import_no_code(robustvit, trap: Path, received: Store) -> None:  # type: ignore[no-untyped-def]
    row = {"model": "a", "base": "digits", "metric": "top1", "value": "50", "source": "s", "unit": "%", "scenario": "fog", "severity": "1"}
    for name in row:
        named = row | {name: "trap:share"}
        (trap / "p.csv").write_text(",".join(named) + "\n" + ",".join(named.values()) + "\n")
        robustvit("leaderboard", "--store", received.path, "--references", "p.csv")
    assert not (trap / "ran").exists()


def test_what_code_is_allowed_ends_with_its_file(trap: Path) -> None:
    """A suite that may name code does not open the door for the next one."""
    (trap / "own.yaml").write_text(suite(scenarios=["clean", "trap:darker"]))
    (trap / "other.py").write_text("import pathlib; pathlib.Path('ran').unlink(); raise SystemExit")
    (trap / "other.yaml").write_text(suite(scenarios=["clean", "other:darker"]))
    assert read_suite(trap / "own.yaml", allow_code=True).code == ("trap:darker",)
    with pytest.raises(RobustvitError, match="'other:darker' is the name of code"):
        read_suite(trap / "other.yaml")
    assert (trap / "ran").exists()
