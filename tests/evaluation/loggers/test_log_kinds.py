"""Logs by their kinds: the table, what is refused, and the two kinds that need no account."""

import json
import sys
from pathlib import Path

import pytest

from robustvit.errors import BadParameter, MissingExtra
from robustvit.evaluation.loggers.log_kinds import LogFacts, check_log, find_log, log_names, log_path, open_log

PACKAGES = {"wandb": "wandb", "mlflow": "mlflow", "tensorboard": "tensorboard"}


@pytest.mark.parametrize("kind", log_names())
def test_every_module_is_one_kind_of_its_name(kind: str) -> None:
    found = find_log(kind)
    assert (found.name, found.package) == (kind, PACKAGES.get(kind, ""))
    assert bool(found.extra) == bool(found.package)
    assert found.open.__doc__
    assert log_path(kind, Path("a/b.safetensors")) == Path(f"a/b{found.ending}")


@pytest.mark.parametrize(("kind", "package"), sorted(PACKAGES.items()))
def test_a_package_that_is_missing_is_one_line(kind: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"^a log for {kind} needs {package}: python3 -m pip install 'robustvit\[{kind}\]'\.$"):
        open_log(kind, tmp_path / "a", 0)
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(BadParameter, match=r"^the log is 'mlfow'; it takes jsonl, mlflow, tensorboard or wandb\. Did you mean 'mlflow'"):
        check_log("mlfow")


def test_every_extra_is_in_pyproject() -> None:
    import tomllib

    page = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())
    extras = page["project"]["optional-dependencies"]
    for kind in log_names():
        found = find_log(kind)
        assert not found.extra or any(one.startswith((found.package, f"{found.package}-skinny")) for one in extras[found.extra])


def test_lines_of_json_go_on_after_the_first_steps(tmp_path: Path) -> None:
    for first, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = open_log("jsonl", tmp_path / "a.x", first, LogFacts("a", "b", {"c": 1}))
        for step in steps:
            log.write(step, {"loss": step / 2})
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "a.log.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, "loss": step / 2} for step in (1, 2, 3, 4)]
