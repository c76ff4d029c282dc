"""Options from a file of the folder and from the environment: who wins, what is recorded, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from robustvit.cli.app import app
from robustvit.cli.configuration import with_configured
from robustvit.errors import UsageError

COMMANDS: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The words of a command in a folder with a file."""
    monkeypatch.chdir(tmp_path)

    def found(*typed: str, toml: str = "", project: str = "") -> list[str]:
        for name, text in (("robustvit.toml", toml), ("pyproject.toml", project)):
            if text:
                Path(name).write_text(text)
        return with_configured(typed, COMMANDS)

    return found


def test_without_a_file_a_command_is_as_typed(words: Callable[..., list[str]]) -> None:
    assert words("run", "--limit", "3") == ["run", "--limit", "3"]


def test_a_file_gives_what_was_not_typed(words: Callable[..., list[str]]) -> None:
    toml = 'limit = 6\nstore = "here"\n[run]\nmodel = ["demo", "vit_b16"]\nquiet = true\nlatency = false\n[leaderboard]\nper = "attack"'
    assert words("run", toml=toml) == ["run", "--model", "demo", "--model", "vit_b16", "--store", "here", "--limit", "6", "--quiet"]
    assert words("leaderboard") == ["leaderboard", "--store", "here", "--per", "attack"]
    assert words("list", "suites") == ["list", "suites"]


@pytest.mark.parametrize("typed", [("--limit", "3"), ("--limit=3",), ("-L", "3"), ("-L3",)])
def test_what_is_typed_comes_first(words: Callable[..., list[str]], typed: tuple[str, ...]) -> None:
    assert words("run", *typed, toml="limit = 6") == ["run", *typed]


def test_typed_models_replace_those_of_the_file(words: Callable[..., list[str]]) -> None:
    assert words("run", "-m", "demo", toml='[run]\nmodel = ["vit_b16", "deit_s16"]') == ["run", "-m", "demo"]


def test_underscores_are_hyphens(words: Callable[..., list[str]]) -> None:
    assert words("run", "--batch_size", "4", toml="[run]\nbatch_size = 8\ndata_dir = 'x'") == [
        "run",
        "--data-dir",
        "x",
        "--batch_size",
        "4",
    ]


def test_the_environment_comes_before_the_file(words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTVIT_RUN_LIMIT", "9")
    monkeypatch.setenv("ROBUSTVIT_RUN_MODEL", "demo vit_b16")
    monkeypatch.setenv("ROBUSTVIT_RUN_QUIET", "no")
    monkeypatch.setenv("ROBUSTVIT_STORE", "there")
    assert words("run", toml="limit = 6\n[run]\nquiet = true") == [
        "run", "--model", "demo", "--model", "vit_b16", "--store", "there", "--limit", "9",
    ]  # fmt: skip


def test_plan_describes_the_run_that_is_configured(words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    toml = 'limit = 9\n[run]\nmodel = "vit_b16"\nlimit = 6\nseed = 3\nquiet = true\noutput = "r.json"\n[plan]\nseed = 5'
    assert words("plan", toml=toml) == ["plan", "--model", "vit_b16", "--limit", "6", "--seed", "5"]
    assert words("plan", "-L", "2", "-m", "demo") == ["plan", "--seed", "5", "-L", "2", "-m", "demo"]
    monkeypatch.setenv("ROBUSTVIT_RUN_SEED", "7")
    monkeypatch.setenv("ROBUSTVIT_RUN_JSON", "1")
    assert words("plan", "-m", "demo", "-L", "2") == ["plan", "--seed", "7", "-m", "demo", "-L", "2"]
    monkeypatch.setenv("ROBUSTVIT_PLAN_SEED", "8")
    assert words("plan", "-m", "demo", "-L", "2") == ["plan", "--seed", "8", "-m", "demo", "-L", "2"]
    assert words("run", "-m", "demo", "-L", "2", "-o", "x", "-q", "--json") == [
        "run", "--seed", "7", "-m", "demo", "-L", "2", "-o", "x", "-q", "--json",
    ]  # fmt: skip


def test_a_table_of_a_project_counts_where_there_is_no_file_of_its_own(words: Callable[..., list[str]]) -> None:
    project = "[project]\nname = 'x'\n[tool.robustvit]\nlimit = 4\n[tool.other]\nlimit = 5"
    assert words("run", project=project) == ["run", "--limit", "4"]
    assert words("run", project=project, toml="limit = 6") == ["run", "--limit", "6"]
    assert words("run", project="this is no toml", toml="limit = 6") == ["run", "--limit", "6"]


def test_a_project_without_a_table_and_one_that_cannot_be_read_say_nothing(words: Callable[..., list[str]]) -> None:
    assert words("run", project="[project]\nname = 'x'") == ["run"]
    assert words("run", project="this is no toml") == ["run"]


@pytest.mark.parametrize("typed", [("--help",), ("run", "--help"), ("--version",), (), ("unknown",)])
def test_a_wrong_file_does_not_keep_one_from_help(words: Callable[..., list[str]], typed: tuple[str, ...]) -> None:
    assert words(*typed, toml="wrong = ") == list(typed)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("wrong = ", r"robustvit\.toml cannot be read: "),
        ("limits = 3", "no option is called 'limits'. Did you mean 'limit'"),
        ("[runs]\nlimit = 3", "no command is called 'runs'. Did you mean 'run'"),
        ("[run]\nlimits = 3", "run has no option 'limits'. Did you mean 'limit'"),
        ("[list]\nlimit = 3", "list has no option 'limit'"),
        ("limit = [1, 2]", "limit is a list of 2; --limit takes one value"),
        ("limit = true", "limit is True; it takes a text, a number, or a list of them"),
        ("limit = 2020-01-01", "limit is .*; it takes a text, a number"),
        ("quiet = 1", "quiet is 1; it takes true or false"),
        ("[run]\nmodel = [['demo']]", "run.model is .*; it takes a text"),
        ("allow-code = true", "a file that lies in a folder cannot allow code to run; type --allow-code"),
        ("[run]\nallow_code = false", "cannot allow code to run"),
        ("[run]\nmodel = 'mine.vit:make'", "'mine.vit:make' is the name of code, which nothing but you may have run; type --model"),
        ("[run]\nmodel = ['demo', 'mine:make?mean=0.5']", "is the name of code"),
        ("[run]\nmodel = 'mine:make+tome(r=2)'", "is the name of code"),
        ("[leaderboard]\nmetric = 'mine:metric(k=1)'", "is the name of code"),
        (
            "limit = 'many'",
            r"limit: --limit is 'many'; it takes a number of samples \(200\), or",
        ),
        ("[run]\nbatch-size = 1.5", "run.batch-size: --batch-size is '1.5'; it takes a number of rows, or auto"),
        ("[run]\nworkers = 'two'", "run.workers is 'two', which --workers does not take: .*integer"),
        ("store = 5", "store is 5; it takes a text, in quotes"),
        ("[run]\nmodel = ['demo', 5]", r"run.model is \['demo', 5\]; it takes a text, in quotes"),
        ("[runn]\nlimit = 3", r"no command is called 'runn'\. Did you mean 'run'\?$"),
        ("stor = 'x'", r"no option is called 'stor'\. Did you mean 'store' or 'storage'\?$"),
        ("epoch = 3", r"no option is called 'epoch'\. Did you mean 'epochs'\?$"),
    ],
)
def test_what_a_file_cannot_say_is_refused_with_its_place(words: Callable[..., list[str]], toml: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        _ = words("run", toml=toml), words("leaderboard")
    assert str(caught.value).startswith("robustvit.toml")


def test_addresses_of_files_are_no_code(words: Callable[..., list[str]]) -> None:
    toml = "[run]\nmodel = 'file:x.safetensors?arch=vit_tiny_patch16_224'\ndata = 'folder:mine'\nsuite = 'kept:results'"
    assert words("run", toml=toml)[1:3] == ["--model", "file:x.safetensors?arch=vit_tiny_patch16_224"]


def test_a_run_records_what_the_file_said(robustvit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text("{name: s, title: s, data: digits, scenarios: [clean], metrics: [top1]}")
    Path("robustvit.toml").write_text('[run]\nlimit = 4\nsuite = "s.yaml"\nstore = "mine"\nquiet = true')
    assert robustvit("run").code == 0
    (manifest,) = Path("mine/runs").glob("*.json")
    assert json.loads(manifest.read_text())["command"] == "robustvit run --suite s.yaml --store mine --limit 4"


def test_help_tells_the_variable_of_every_option(robustvit: Callable[..., Any]) -> None:
    text = " ".join(robustvit("plan", "--help").out.split())
    for name in ("LIMIT", "DEVICE", "MODEL", "DATA_DIR"):
        assert f"env var: ROBUSTVIT_PLAN_{name}" in text


def test_what_an_option_does_not_take_is_told_with_the_variable_by_name(robustvit: Callable[..., Any]) -> None:
    assert "'--processes' (env var: 'ROBUSTVIT_RUN_PROCESSES')" in " ".join(robustvit("run", "--processes", "two").err.split())


def test_a_variable_that_an_option_does_not_take_is_named(words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTVIT_RUN_SEED", "seven")
    with pytest.raises(UsageError, match=r"^ROBUSTVIT_RUN_SEED is 'seven', which --seed does not take: .*integer"):
        words("run")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("-b", "many"), "--batch-size is 'many'; it takes a number of rows, or auto."),
        (("-L", "many"), "--limit is 'many'; it takes a number"),
    ],
)
def test_what_a_number_takes_is_told(robustvit: Callable[..., Any], typed: tuple[str, ...], message: str) -> None:
    found = robustvit("run", *typed)
    assert (found.code, found.out) == (2, "")
    assert message in found.err
    assert "Value error" not in found.err


def test_variables_have_the_names_of_options() -> None:
    for name, made in COMMANDS.items():
        for one in made.params:
            if one.param_type_name == "option":
                long = next(word for word in one.opts if word.startswith("--"))
                assert one.envvar[0] == f"ROBUSTVIT_{name}_{long[2:]}".replace("-", "_").upper()


def test_variables_of_options_count(robustvit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTVIT_LIST_JSON", "1")
    assert json.loads(robustvit("list", "suites").out)
    monkeypatch.delenv("ROBUSTVIT_LIST_JSON")
    monkeypatch.setenv("ROBUSTVIT_LIST_AS_JSON", "1")
    assert not robustvit("list", "suites").out.startswith("[")


@pytest.mark.parametrize("name", ["VERSION", "INSTALL_COMPLETION", "SHOW_COMPLETION"])
def test_what_ends_robustvit_has_no_variable(robustvit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"ROBUSTVIT_{name}", "1")
    assert "quick" in robustvit("list", "suites").out
    assert f"ROBUSTVIT_{name}" not in robustvit("--help").out
