"""`robustvit new`: a working plug-in or suite from a template, with the test of its contract."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import sys
from pathlib import Path
from string import Template
from typing import NamedTuple

from robustvit.errors import BadParameter, UnknownName, nearest
from robustvit.records.disk import write_output
from robustvit.spec import registry
from robustvit.spec.given import check_path
from robustvit.spec.plugin import KINDS

SCAFFOLDS = (*KINDS, "suite")
_TEMPLATES = Path(__file__).parent / "templates"
_USE = {
    "model": "Evaluate it: robustvit run --model $address",
    "data": "Evaluate on it: robustvit run --data $address --data-dir FOLDER",
    "transform": "Name it in a suite: transforms: [[{$address: {…}}]]",
    "defense": "Train with it: robustvit train --defense $address --out mine.safetensors",
    "metric": "Name it in a suite's metrics as `- $address`, or: robustvit leaderboard --metric $address",
    "suite": "Check it: robustvit check $name.yaml. Run it: robustvit run --suite $name.yaml",
}
_SCENARIO = "Name it in a suite's scenarios: - $address: {…}"
_LONGEST = 100  # characters of a name, of which files and columns are made
_ANNOUNCE = " Or announce its module in the entry-point group `robustvit`; then its name is `$name`."


class Written(NamedTuple):
    """The files written, and the commands that test and use them."""

    files: list[Path]
    next_step: str


def write(kind: str, name: str, folder: Path = Path()) -> Written:
    """Writes the plug-in `NAME.py` and its test `test_NAME.py`, for a suite `NAME.yaml`, into a folder; existing files are not overwritten.

    In a package the plug-in is imported by its full name, and its test goes to the same place below `tests/` where there is one:
    `robustvit/attacks/NAME.py` and `tests/attacks/test_NAME.py`. Raises UnknownName for a kind without a template, BadParameter for a
    name that Python or a suite cannot use, or that is taken, and for a file that exists or cannot be
    written.
    """
    if kind not in SCAFFOLDS:
        raise UnknownName(f"no scaffold for '{kind}'.{nearest(kind, SCAFFOLDS)} There is one for {', '.join(SCAFFOLDS)}.")
    package = _package(check_path(folder, "--folder"))
    _refuse_name(kind, name, package)
    words = {
        "name": name,
        "imported": f"from {'.'.join(package)} import {name} as plugin" if package else f"import {name} as plugin",
        "address": name if package[:1] == ("robustvit",) else f"{'.'.join((*package, name))}:{name}",
    }
    texts = {
        path: Template((_TEMPLATES / file).read_text(encoding="utf-8")).substitute(words)
        for file, path in _files(kind, name, folder, package).items()
    }
    for path in texts:
        if path.exists():
            raise BadParameter(f"{path} exists already; nothing was written.")
    for path, text in texts.items():
        try:
            write_output(path, text.encode())
        except OSError as error:
            raise BadParameter(f"cannot write {path}: {error.strerror or error}. Give another folder with --folder.") from error
    return Written(list(texts), _next_step(kind, list(texts), words))


def _refuse_name(kind: str, name: str, package: tuple[str, ...]) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise BadParameter(f"'{name}' cannot be used as a name; take lower-case letters, digits and underscores, a letter first.")
    if len(name) > _LONGEST:
        raise BadParameter(f"'{name[:20]}…' has {len(name)} characters; a name takes {_LONGEST}.")
    if kind != "suite" and (name in sys.stdlib_module_names or (not package and importlib.util.find_spec(name) is not None)):
        raise BadParameter(f"'{name}' is the name of an installed module, which one of them would hide; take another.")
    if kind != "suite" and name in registry.entries(kind):
        raise BadParameter(f"the name is taken: another {kind} is called '{name}'.")


def _package(folder: Path) -> tuple[str, ...]:
    """The names of the packages that a folder lies in, the outermost first: `("robustvit", "attacks")`; empty outside packages."""
    place = folder.resolve()
    return (*_package(place.parent), place.name) if (place / "__init__.py").is_file() else ()


def _files(kind: str, name: str, folder: Path, package: tuple[str, ...]) -> dict[str, Path]:
    """The template of each file to write."""
    if kind == "suite":
        return {"suite.yaml.txt": folder / f"{name}.yaml"}
    tests = Path(os.path.normpath(folder.joinpath(*[".."] * len(package), "tests")))
    place = tests.joinpath(*package[1:]) if package and tests.is_dir() else folder
    return {f"{kind}.py.txt": folder / f"{name}.py", f"test_{kind}.py.txt": place / f"test_{name}.py"}


def _next_step(kind: str, files: list[Path], words: dict[str, str]) -> str:
    use = Template(_USE.get(kind, _SCENARIO)).substitute(words)
    if kind == "suite":
        return use
    announce = "" if words["address"] == words["name"] else Template(_ANNOUNCE).substitute(words)
    return f"Test it: python3 -m pytest {files[1]}. {use}.{announce}"
