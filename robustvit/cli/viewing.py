"""view: a page of a store that grows, served to this machine's browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustvit.cli.exit_codes import ModelNames, StorePath, SuiteName
from robustvit.cli.printing import err, out, place_name

_LARGEST_PORT = 65535
_LAST = 1.0  # seconds that the end waits for numbers, and as long for a report, that are being computed; then they are dropped


def view(
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    port: Annotated[int, typer.Option("--port", help="Of 127.0.0.1; 0: any that is free.")] = 0,
    length: Annotated[str | None, typer.Option("--for", help="90s, 10m, 2h: end after so long; default: with Ctrl-C.")] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser, too.")] = False,
) -> None:
    """A page of a store while a run goes on, until Ctrl-C.

    How far the newest run is, its numbers so far, its cells, and the report. The address that is printed works on this machine alone and
    has a secret in it. The store is only read, and may be made later.

    Example: robustvit view --store results
    """
    from robustvit.cli.serving.ending import until_ended
    from robustvit.cli.serving.server import served
    from robustvit.evaluation.time_budget import seconds
    from robustvit.report.live.live_view import LiveView
    from robustvit.spec.given import check_path, check_whole

    check_whole(port, "--port", 0, _LARGEST_PORT)
    limit = None if length is None else seconds(length, "--for")
    shown = LiveView(check_path(store, "--store"), suite, model)
    with until_ended() as wait, served({"": shown.page, "report": shown.report}, port) as server:
        end = "until Ctrl-C" if limit is None else f"for {length}"
        out.print(f"View of {place_name(store)}, {end}: {server.url}", highlight=False, soft_wrap=True, markup=False)
        if browser:
            _open(server.url)
        wait(limit)
    out.print("The view has ended.", highlight=False)
    shown.close(_LAST)


def _open(url: str) -> None:
    """Opens a page in a browser, which may be one that waits."""
    import threading
    import webbrowser

    def show() -> None:
        if not webbrowser.open(url):
            err.print("No browser could be opened: open the address yourself.", highlight=False)

    threading.Thread(target=show, daemon=True).start()
