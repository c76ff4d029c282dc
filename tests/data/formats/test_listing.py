"""What is found below a folder, and how files beside images are read."""

import ast
from pathlib import Path

import pytest

from robustvit.data.formats.listing import read_text
from robustvit.errors import DataUnreadable

ROOM = Path(__file__).resolve().parents[3] / "robustvit" / "data"


@pytest.mark.parametrize(
    ("content", "text"), [(b"\xef\xbb\xbfape\n", "ape\n"), (b"ape", "ape"), (b"", ""), ("\u00e9\ufeff".encode(), "\u00e9\ufeff")]
)
def test_text_is_read_without_its_byte_order_mark(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "labels").write_bytes(content)
    assert read_text(tmp_path / "labels") == text


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("ape", encoding="utf-16")
    with pytest.raises(DataUnreadable, match="labels cannot be read"):
        read_text(tmp_path / "labels")


_BYTES = ("'rb'", "Image.open", "archive.open")  # how bytes are opened, which a zip archive always gives


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOM)))
def test_no_reader_opens_text_another_way(path: Path) -> None:
    """What ships with robustvit is ASCII; bytes are opened as such; any other text goes through `read_text`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [(ast.unparse(call), getattr(call.func, "attr", getattr(call.func, "id", ""))) for call in calls]
    opened = [text for text, name in named if name in ("read_text", "open") and not any(one in text for one in _BYTES)]
    others = [text for text in opened if "ascii" not in text and "tarfile.open" not in text and not text.startswith("read_text(")]
    assert others == (["path.read_text(encoding='utf-8-sig')"] if path.name == "listing.py" else [])
