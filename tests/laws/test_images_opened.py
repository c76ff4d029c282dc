"""Images are opened in named formats only: others that Pillow knows run programs, or are no images of data sets."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "robustvit"
FILES = [path for path in [*ROOT.rglob("*.py"), *ROOT.rglob("*.py.txt")] if "Image.open" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_image_is_opened_in_named_formats(path: Path) -> None:
    if path.suffix == ".txt":
        opened = [line for line in path.read_text(encoding="utf-8").splitlines() if "Image.open(" in line]
        assert all("formats=" in line for line in opened)
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    opened_calls = [call for call in calls if ast.unparse(call.func) == "Image.open"]
    assert opened_calls
    assert all("formats" in {word.arg for word in call.keywords} for call in opened_calls)
