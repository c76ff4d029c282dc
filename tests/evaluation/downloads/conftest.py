"""A server on loopback, reached without a proxy and without waiting between attempts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loopback import Loopback, loopback

from robustvit.evaluation.downloads import http_file


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("ROBUSTVIT_MIRROR", raising=False)
    monkeypatch.setattr(http_file, "_WAITS", (0.0, 0.0, 0.0, 0.0))
    with loopback() as running:
        yield running
