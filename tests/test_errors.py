"""The words of messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import robustvit
from robustvit.errors import with_article


@pytest.mark.parametrize(("noun", "phrase"), [("Eva", "an Eva"), ("AnchoredConvolution", "an AnchoredConvolution"), ("list", "a list")])
def test_an_article_follows_the_first_letter(noun: str, phrase: str) -> None:
    assert with_article(noun) == phrase


def test_no_message_writes_an_article_of_its_own_before_the_name_of_a_type() -> None:
    sources = Path(robustvit.__file__).parent.rglob("*.py")
    own = [path.name for path in sources if re.search(r"\b[Aa]n? \{[^}]*__name__", path.read_text(encoding="utf-8"))]
    assert own == ["manifest.py"], "of which no line reaches a user"
