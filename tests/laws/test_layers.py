"""Who may import whom: the table in docs/architecture.md, held to the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "robustvit"  # the checkout: what is installed is a copy of it

DESCRIPTION = {
    "ablations",
    "address",
    "data_address",
    "deadline",
    "document",
    "errors",
    "order",
    "records",
    "registry",
    "schema",
    "spec",
    "suite",
    "suite_file",
    "view",
}
PRIMITIVES = {
    "attention",
    "batch",
    "checkpoint",
    "classifier",
    "compiled",
    "cost",
    "draws",
    "norms",
    "patches",
    "philox",
    "plain_vit",
    "reading",
    "recipe",
    "scenario",
    "search",
    "tiles",
    "training",
    "visible",
    "votes",
}
ROOMS = {"models", "data", "corruptions", "attacks", "certificates", "analyses", "transforms", "defenses"}
BELOW = DESCRIPTION | PRIMITIVES
STATISTICS = {"intervals", "judging", "answers", "attempts", "clean_answers", "honesty"}
JUDGEMENT = {"ablations", "metrics", "records", "registry", "errors", "order", "spec", "suite", "store", "schema"} | STATISTICS
ALLOWED = {
    **dict.fromkeys(DESCRIPTION, DESCRIPTION),
    **dict.fromkeys(PRIMITIVES | ROOMS | {"pictures"}, BELOW),
    "store": DESCRIPTION,
    "intervals": set(),
    "judging": {"intervals", "registry", "errors", "spec"},
    "answers": {"records", "store", "order", "errors"},
    "attempts": {"answers", "records", "registry", "spec", "store"},
    "clean_answers": {"answers", "attempts", "records", "store"},
    "honesty": {"answers", "attempts", "intervals", "metrics", "store"},
    "metrics": {"ablations", "errors", "records", "registry", "judging"},
    "loading": BELOW,
    "perturbation": BELOW | {"fitting", "kept", "loading"},
    "environment": {"errors"},
    "evaluate": BELOW,
    "fitting": BELOW | {"pictures"},
    "trainer": BELOW,
    "training_run": BELOW | {"loading", "trainer"},
    "samples": BELOW | {"loading"},
    "kept": BELOW | {"store"},
    "plan": BELOW | {"kept", "loading", "samples", "store"},
    "run_manifest": BELOW | {"kept", "plan", "samples"},
    "estimate": BELOW | {"plan", "store"},
    "executors": set(),
    "runner": BELOW | {"environment", "evaluate", "executors", "fitting", "kept", "pictures", "plan", "run_manifest", "store"},
    "board": JUDGEMENT,
    "comparison": JUDGEMENT,
    "reference_files": JUDGEMENT,
    "references": JUDGEMENT | {"reference_files", "summary"},
    "tags": JUDGEMENT | {"reference_files"},
    "factors": JUDGEMENT | {"board", "reference_files", "references", "tags"},
    "fits": JUDGEMENT,
    "factor_answers": JUDGEMENT | {"fits"},
    "pareto_plot": JUDGEMENT | {"fits", "scatter"},
    "scatter": JUDGEMENT | {"figures"},
    "tabular": JUDGEMENT | {"export"},
    "summary": JUDGEMENT | {"board"},
    "export": JUDGEMENT | {"summary"},
    "figures": JUDGEMENT | {"board"},
    "report": JUDGEMENT | {"board", "summary", "factors", "figures", "pareto_plot", "references", "scatter"},
    "catalogue": DESCRIPTION,
    "sources": BELOW,
    "verification": BELOW,
    "scaffold": DESCRIPTION,
    "generate": BELOW | {"data"},
}
NO_TORCH = (
    DESCRIPTION
    | STATISTICS
    | {"store", "metrics", "board", "comparison", "export", "figures", "summary", "report", "catalogue", "scaffold", "cli"}
    | {"reference_files", "references", "tags", "factors", "fits", "factor_answers", "pareto_plot", "scatter", "tabular"}
)


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


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.name != "__init__.py" or path.parent not in (ROOT,)]


@pytest.mark.parametrize(
    "path", [path for path in FILES if room(path) not in ("cli", "__main__")], ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_follow_the_layer_table(path: Path) -> None:
    here = room(path)
    assert here in ALLOWED, f"{here} has no place in the layer table"
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("robustvit.")} - {"__version__", here}
    assert inner <= ALLOWED[here], f"{path.name} may not import {sorted(inner - ALLOWED[here])}"


@pytest.mark.parametrize("path", [path for path in FILES if room(path) in NO_TORCH], ids=lambda path: str(path.relative_to(ROOT)))
def test_description_and_judgement_never_import_torch(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in ("torch", "timm", "torchvision")}


def test_no_relative_imports() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level], path


def test_every_package_is_listed_for_the_wheel() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {".".join(("robustvit", *path.parent.relative_to(ROOT).parts)) for path in ROOT.rglob("__init__.py")}
    assert listed == present | {"robustvit.published", "robustvit.suites"}
