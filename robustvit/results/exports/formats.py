"""The table of export formats: every module of this package but this one is one format, named as the module.

A module `lm_eval.py` holds one function under `@export_format`, and the format is called `lm-eval`: nothing else is edited for a new one.
The function takes a Leaderboard and returns the files of the export, by their paths below a folder.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from robustvit.errors import UsageError
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.table_formats import save_file
from robustvit.spec.given import check_path

ExportFiles = Mapping[str, str | bytes]
DATA_CARD = "<!-- robustvit: data card -->"  # in the README.md of an export, which a later export may replace


@dataclass(frozen=True)
class ExportFormat:
    """A format of other projects. folder: whether its files always go into a folder, also where there is one file alone."""

    name: str
    files: Callable[[Leaderboard], ExportFiles]
    folder: bool


def export_format(*, folder: bool = False) -> Callable[[Callable[[Leaderboard], ExportFiles]], ExportFormat]:
    """Makes a function the format of its module."""
    return lambda function: ExportFormat(format_name(function.__module__.rpartition(".")[2]), function, folder)


def format_name(module: str) -> str:
    """`lm-eval` for the module `lm_eval`."""
    return module.replace("_", "-")


@functools.cache
def format_names() -> tuple[str, ...]:
    """The formats that there are, by the modules of this package; none of them is imported."""
    modules = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return tuple(sorted(format_name(module) for module in modules if module not in ("__init__", Path(__file__).stem)))


def format_of(module: ModuleType) -> ExportFormat:
    """The one format of a module."""
    (found,) = (value for value in vars(module).values() if isinstance(value, ExportFormat))
    return found


def load_format(name: str) -> ExportFormat:
    """The format of a name in `format_names`."""
    return format_of(importlib.import_module(f"{__package__}.{name.replace('-', '_')}"))


def write_export(board: Leaderboard, name: str, path: Path | None) -> str:
    """The text of a leaderboard in a format of this package, written to `path` where one is given; "" for several files or binary ones.

    path: the file, where the format has one file; else, or where it is a folder, the folder that the files go into. Raises UsageError where
    the leaderboard lacks what the format needs, where several files have no folder to go into, StoreFull where nothing can be written.
    """
    chosen = load_format(name)
    files = chosen.files(board)
    one = None if chosen.folder or len(files) != 1 else next(iter(files.values()))
    if path is None:
        if isinstance(one, str):
            return one
        raise UsageError(f"{name} is {_counted(len(files))} here, which cannot be printed; name a folder with -o.")
    if one is not None and not check_path(path, "the file to write").is_dir():
        save_file(one, path)
    else:
        _save_folder(files, path)
    return one if isinstance(one, str) else ""


def _save_folder(files: ExportFiles, folder: Path) -> None:
    if check_path(folder, "the folder to write").exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; this export has {_counted(len(files))} and takes a folder with -o.")
    readme = folder / "README.md"
    if "README.md" in files and readme.is_file() and DATA_CARD.encode() not in readme.read_bytes():
        raise UsageError(f"{readme} is a text of your own, which this export would replace; give a folder without one.")
    for name, content in files.items():
        save_file(content, folder / name)


def _counted(files: int) -> str:
    return "a folder" if files == 1 else f"{files} files"


def file_of_label(label: str) -> str:
    """A model's label as the name of a file: letters, digits, `.`, `_`, `-` and `+`, at most 100 characters."""
    return re.sub(r"[^\w.+-]+", "_", label, flags=re.ASCII).strip("._")[:100] or "model"
