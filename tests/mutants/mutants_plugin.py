"""A plug-in of pytest for the runner of mutants: the tests import the copy of the package, and failures are written down."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

_failures: list[dict[str, str]] = []


def pytest_sessionstart() -> None:
    import robustvit

    copy, found = Path(os.environ["MUTANTS_COPY"]), Path(robustvit.__file__)
    if not found.is_relative_to(copy):
        pytest.exit(f"the tests would import {found}, not the copy in {copy}", returncode=4)


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    expected = (pytest.skip.Exception, pytest.exit.Exception)
    if call.excinfo is not None and not call.excinfo.errisinstance(expected):
        _failures.append({"test": item.nodeid, "error": call.excinfo.type.__name__})


def pytest_sessionfinish() -> None:
    Path(os.environ["MUTANTS_REPORT"]).write_text(json.dumps(_failures), encoding="utf-8")
