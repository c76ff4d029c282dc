"""Who may import whom: the table of rooms, held to the code."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "robustvit"  # the checkout: what is installed is a copy of it

PLUGINS = {"models", "data", "corruptions", "attacks", "certificates", "analyses", "transforms", "defenses"}
ASKED = {"errors", "version", "spec"}
ALLOWED = {  # a row for each room: what it may import besides itself. Plug-ins are reached through the registry alone.
    "errors": set(),
    "version": set(),
    "spec": {"errors"},
    "records": ASKED,
    "statistics": ASKED,
    "primitives": ASKED,
    **dict.fromkeys(PLUGINS, ASKED | {"primitives"}),
    "metrics": ASKED | {"records", "statistics"},
    "evaluation": ASKED | {"primitives", "records"},
    "training": ASKED | {"primitives", "records", "evaluation"},
    "results": ASKED | {"records", "statistics", "metrics"},
    "report": ASKED | {"records", "statistics", "results"},
}
DOORS = {"cli", "__main__", "__init__"}  # these may import every room
NO_TORCH = {"errors", "version", "spec", "records", "statistics", "metrics", "results", "report"}
FILES = sorted(ROOT.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Full names imported at run time: what stands under `if TYPE_CHECKING` is only for readers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_package_holds_exactly_these_rooms() -> None:
    present = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert present == set(ALLOWED) | DOORS


def test_the_table_has_no_circle() -> None:
    done: set[str] = set()
    while left := set(ALLOWED) - done:
        ready = {name for name in left if ALLOWED[name] <= done}
        assert ready, f"a circle among {sorted(left)}"
        done |= ready


@pytest.mark.parametrize("path", [path for path in FILES if room(path) not in DOORS], ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table_of_rooms(path: Path) -> None:
    here = room(path)
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("robustvit.")} - {here}
    assert inner <= ALLOWED[here], f"{path.relative_to(ROOT)} may not import {sorted(inner - ALLOWED[here])}"


@pytest.mark.parametrize("path", [path for path in FILES if room(path) in NO_TORCH], ids=lambda path: str(path.relative_to(ROOT)))
def test_description_and_judgement_never_import_torch(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in ("torch", "timm", "torchvision")}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_relative_imports(path: Path) -> None:
    assert not [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom) and node.level]


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_begins_with_one_docstring_line(path: Path) -> None:
    if path.parent in (ROOT, ROOT / "corruptions"):  # the façade, and the drop-in for `imagecorruptions`
        return
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert ast.get_docstring(ast.parse(line))


@pytest.mark.parametrize("folder", ["corruptions/kernels", "data/formats", "data/annotations"])
def test_folders_of_tools_hold_no_plug_in(folder: str) -> None:
    from robustvit.spec.plugin import KINDS
    from robustvit.spec.registry import entries

    place = "robustvit." + folder.replace("/", ".") + "."
    assert not [entry.name for kind in KINDS for entry in entries(kind).values() if entry.module.startswith(place)]


def test_every_package_is_listed_for_the_wheel() -> None:
    listed = set(tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {".".join(("robustvit", *path.parent.relative_to(ROOT).parts)) for path in ROOT.rglob("__init__.py")}
    assert listed == present | {"robustvit.published", "robustvit.suites"}


def test_what_an_extra_installs_is_read_by_the_type_checker_the_same_with_and_without_it() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    required = {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for line in project["project"]["dependencies"]}
    required |= {"PIL", "yaml", "sklearn", "markupsafe"}  # of Pillow, PyYAML, scikit-learn and jinja2
    imported = {name.split(".")[0] for path in FILES for name in imports(path)} - required - set(sys.stdlib_module_names) - {"robustvit"}
    told = {name.removesuffix(".*") for rule in project["tool"]["mypy"]["overrides"] for name in rule["module"]}
    assert imported - told == set()


# one idea in a module, rooms that can be taken in at a glance, one word for one thing

LONGEST, FULLEST = 250, 22  # lines of a module, modules of a folder
LONGER = {"records/store.py": 286}  # excuses: numbers that only fall
PLUGIN_ROOMS = PLUGINS | {"metrics", "cli"}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_module_holds_one_idea(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGER.get(name, LONGEST), f"{name} has {lines} lines; split it along its ideas"
    assert name not in LONGER or lines > LONGEST, f"{name} needs no excuse any more"


def test_excuses_are_of_files_that_exist() -> None:
    assert set(LONGER) <= set(NAMES)


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_can_be_taken_in_at_a_glance(folder: Path) -> None:
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= FULLEST, f"{folder.relative_to(ROOT)} holds {len(modules)} modules; give a family of them a folder of its own"


def test_a_public_name_is_defined_once() -> None:
    """Outside plug-in rooms and cli no two modules define a public function or class of the same name."""
    homes: dict[str, list[str]] = {}
    for path in FILES:
        if room(path) in PLUGIN_ROOMS:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: places for name, places in homes.items() if len(places) > 1}


def test_a_file_name_stands_once_in_a_folder_tree() -> None:
    """Two modules of one name are in two rooms, which tell them apart."""
    seen: dict[tuple[str, str], list[str]] = {}
    for path in FILES:
        if path.name not in ("__init__.py", "__main__.py"):
            seen.setdefault((room(path), path.name), []).append(str(path.relative_to(ROOT)))
    assert not [places for places in seen.values() if len(places) > 1]


def test_only_records_know_where_things_lie_in_a_store() -> None:
    """Nobody outside `records/` builds a path below a store."""
    names = ("cell.json", "failure.json", "gallery.parquet", "store.json")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        if room(path) != "records"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Constant) and node.value in names)
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and "store.path" in ast.unparse(node.left))
    ]
    assert not found
