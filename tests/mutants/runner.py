"""Applies one mutant at a time to a copy of the package and runs the tests that must notice: `python tests/mutants/runner.py [NAME…]`.

A mutant is killed where one of its tests fails. A test that cannot be collected or imported notices nothing of the mutant's meaning:
that is `broken`, and counts as little as `survived`, `hung`, or tests that fail without the mutant. The exit code is 1 unless all are
killed.
"""

from __future__ import annotations

import ast
import compileall
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

import yaml

ROOT = Path(__file__).resolve().parents[2]
_FIELDS = {"name", "file", "was", "becomes", "tests"}
PROCESSES = 2
COPIED = ("robustvit", "tests", "suites", "reports/references", "docs", "examples", "pyproject.toml", "README.md", "CHANGELOG.md")
SHIPPED = {"suites": "suites", "published": "reports/references"}
_PATIENCE = 300.0  # seconds for the tests of one mutant, which take a few; a mutant that hangs is told as such
_LONG_PATIENCE = 1800.0  # for those of all mutants together
_BROKEN = ("ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "NameError", "UnboundLocalError")


@dataclass(frozen=True)
class Mutant:
    """`was` occurs exactly once in `file` and is replaced by `becomes`; `tests`, files or node ids, pass without and fail with it."""

    name: str
    file: str
    was: str
    becomes: str
    tests: tuple[str, ...]

    def applied(self, source: str) -> str:
        """The source with the change made. Raises ValueError where `was` does not occur exactly once, or Python cannot parse the result."""
        found = source.count(self.was)
        if found != 1:
            raise ValueError(f"mutant '{self.name}': its `was` occurs {found} times in {self.file}; once is needed")
        changed = source.replace(self.was, self.becomes)
        try:
            if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source)):
                raise ValueError(f"mutant '{self.name}' changes nothing that runs in {self.file}")
        except SyntaxError as error:
            raise ValueError(f"mutant '{self.name}': {self.file} cannot be parsed with it: {error}") from error
        return changed


def mutants(folder: Path = Path(__file__).parent) -> list[Mutant]:
    """Those of all lists in a folder. Raises ValueError for an entry with other fields than those of a Mutant."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")) or [], 1):
            if not isinstance(entry, dict) or set(entry) != _FIELDS or not isinstance(entry["tests"], list) or not entry["tests"]:
                raise ValueError(f"{path.name}, entry {number}: write exactly {', '.join(sorted(_FIELDS))}; tests is a list")
            texts = {key: str(entry[key]) for key in ("name", "file", "was", "becomes")}
            found.append(Mutant(**texts, tests=tuple(map(str, entry["tests"]))))
    return found


def missing_tests(mutant: Mutant, root: Path = ROOT) -> list[str]:
    """Which tests that a mutant names are not there."""
    return [test for test in mutant.tests if not _is_there(test, root)]


def _is_there(test: str, root: Path) -> bool:
    file, *names = test.split("::")
    path = root / file
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8")
    return all(re.search(rf"^\s*(?:def|class) {re.escape(name.partition('[')[0])}\b", text, re.MULTILINE) for name in names)


@dataclass(frozen=True)
class Result:
    """What became of some tests: passed, failed, broken (nothing collected, or an import failed) or hung. detail: the first failure.

    failed: the node ids of those that failed.
    """

    outcome: str
    seconds: float
    detail: str = ""
    failed: tuple[str, ...] = ()


class Copy:
    """A copy of the package and its tests, in which one file at a time is changed."""

    def __init__(self, root: Path, place: Path) -> None:
        self.place = place
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, place / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            elif (root / name).is_file():
                shutil.copy(root / name, place / name)
        for name, source in SHIPPED.items():  # where an installed package has them: an editable one would lead to those of its checkout
            if (root / source).is_dir():
                shutil.copytree(root / source, place / "robustvit" / name, dirs_exist_ok=True)
                (place / "robustvit" / name / "__init__.py").touch()
        # Python then notices a changed file by its content: the time and size of a mutant's may be those of the original
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(place / "robustvit", quiet=2, invalidation_mode=mode)

    def unchanged(self, tests: Sequence[str]) -> Result:
        """Runs tests, all of them, without a mutant."""
        return self._pytest(tests, self.place / "loops", ())

    def changed(self, mutant: Mutant) -> Result:
        """Runs the tests of a mutant with it, up to the first that fails."""
        path = self.place / mutant.file
        whole = path.read_text(encoding="utf-8")
        path.write_text(mutant.applied(whole), encoding="utf-8")
        # numba's cache does not see that a loop of another file, which it has compiled in, has changed
        loops = self.place / ("loops" if "@loop" not in whole else f"loops-{mutant.name}")
        try:
            return self._pytest(mutant.tests, loops, ("-x",))
        finally:
            path.write_text(whole, encoding="utf-8")

    def _pytest(self, tests: Sequence[str], loops: Path, options: Sequence[str]) -> Result:
        report = self.place / "report.json"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", *options, "-p", "no:cacheprovider", "-p", "mutants_plugin", *tests]
        own, patience = self._environment(report, loops), _PATIENCE if options else _LONG_PATIENCE
        try:
            done = subprocess.run(command, cwd=self.place, env=own, capture_output=True, text=True, timeout=patience, check=False)
        except subprocess.TimeoutExpired:
            return Result("hung", time.monotonic() - began)
        seconds = time.monotonic() - began
        if done.returncode not in (0, 1) or not report.is_file():
            return Result("broken", seconds, "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:]))
        failures = json.loads(report.read_text(encoding="utf-8"))
        if not failures:
            return Result("passed" if done.returncode == 0 else "broken", seconds)
        outcome = "broken" if failures[0]["error"] in _BROKEN else "failed"
        failed = tuple(failure["test"] for failure in failures)
        return Result(outcome, seconds, f"{failures[0]['test']}: {failures[0]['error']}", failed)

    def _environment(self, report: Path, loops: Path) -> dict[str, str]:
        own = {
            "PYTHONPATH": os.pathsep.join((str(self.place), str(self.place / "tests" / "mutants"))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "NUMBA_CACHE_DIR": str(loops),
            "MUTANTS_COPY": str(self.place),
            "MUTANTS_REPORT": str(report),
        }
        return {**os.environ, **own}


def verdicts(chosen: Sequence[Mutant], root: Path = ROOT, processes: int = PROCESSES) -> dict[str, Result]:
    """What became of each mutant, by name: killed, survived, broken, hung, or `fails unchanged`. Prints each as it is known."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(processes) as pool:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(processes):
            copies.put(Copy(root, Path(folder).resolve() / str(number)))

        def on_a_copy(work: Callable[[Copy], Result]) -> Result:
            copy = copies.get()
            try:
                return work(copy)
            finally:
                copies.put(copy)

        named = sorted({test for mutant in chosen for test in mutant.tests})
        parts = [part for number in range(processes) if (part := named[number::processes])]
        unchanged = {tuple(part): pool.submit(on_a_copy, lambda copy, part=part: copy.unchanged(part)) for part in parts}
        changed = {mutant: pool.submit(on_a_copy, lambda copy, mutant=mutant: copy.changed(mutant)) for mutant in chosen}
        found = {}
        for mutant, future in changed.items():
            found[mutant.name] = _verdict(
                mutant, [one.result() for part, one in unchanged.items() if {*part} & {*mutant.tests}], future.result()
            )
            print(row(mutant, found[mutant.name]), flush=True)
        return found


def _verdict(mutant: Mutant, unchanged: Sequence[Result], changed: Result) -> Result:
    for result in unchanged:
        own = [
            failed for failed in result.failed for test in mutant.tests if failed == test or failed.startswith((f"{test}::", f"{test}["))
        ]
        if own or result.outcome in ("broken", "hung"):
            return Result("fails unchanged", result.seconds, own[0] if own else result.detail)
    return replace(changed, outcome={"passed": "survived", "failed": "killed"}.get(changed.outcome, changed.outcome))


def row(mutant: Mutant, result: Result) -> str:
    """A line of the table."""
    return f"{result.outcome:15} {result.seconds:6.1f} s  {mutant.name:44} {mutant.file:44} {result.detail}"


def main(names: Iterable[str]) -> int:
    """Runs all mutants, or those of these names; the exit code."""
    known = {mutant.name: mutant for mutant in mutants()}
    wanted = list(names) or list(known)
    if unknown := [name for name in wanted if name not in known]:
        print(f"no mutant is called {', '.join(unknown)}; there are {', '.join(known)}")
        return 2
    began = time.monotonic()
    found = verdicts([known[name] for name in wanted])
    killed = sum(result.outcome == "killed" for result in found.values())
    print(f"{killed} of {len(found)} mutants killed in {time.monotonic() - began:.0f} s")
    return 0 if killed == len(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
