"""The façade: what `import robustvit as rv` offers, and what it costs."""

import subprocess
import sys

import pytest

import robustvit as rv


@pytest.mark.parametrize("name", rv.__all__)
def test_every_name_is_there_and_no_module_has_it(name: str) -> None:
    from pathlib import Path

    assert getattr(rv, name) is getattr(rv, name)
    home = Path(rv.__file__).parent
    assert not (home / f"{name}.py").exists()
    assert not (home / name).exists()


def test_names_are_sorted_and_complete() -> None:
    assert rv.__all__ == sorted(rv.__all__)
    assert set(rv.__all__) == {*rv._HOMES, "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rv.nothing


def imported(code: str) -> set[str]:
    """The top-level modules in memory after running some code in a fresh process."""
    script = f"import sys\n{code}\nprint(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_robustvit_imports_nothing_heavy() -> None:
    assert not imported("import robustvit") & {"torch", "timm", "pandas", "numpy", "typer", "pydantic"}


@pytest.mark.parametrize("words", [["--help"], ["list", "corruptions"], ["list", "suites"], ["list", "models"], ["check"]])
def test_quick_verbs_need_no_torch_and_no_pandas(words: list[str]) -> None:
    code = f"sys.argv = ['robustvit', *{words!r}]\nfrom robustvit.cli.app import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    assert not imported(code) & {"torch", "timm", "pandas", "scipy", "sklearn", "plotly"}


def test_judging_runs_with_torch_blocked() -> None:
    modules = ("results.leaderboard", "results.comparison", "results.export", "report.page", "report.figures")
    code = "sys.modules['torch'] = None\nimport " + ", ".join(f"robustvit.{name}" for name in modules)
    assert "pandas" in imported(code)
