"""card: robustness as a section of a model card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from robustvit.cli.exit_codes import SuiteName, named_file, read_store
from robustvit.cli.printing import err


def card(
    store: Annotated[Path, typer.Argument(help="The directory of Records.", envvar="ROBUSTVIT_STORE")] = Path("results"),
    model: Annotated[
        str | None, typer.Option("--model", "-m", help='The model, where the store has several: LABEL, or "LABEL+tome(r=8)".')
    ] = None,
    suite: SuiteName = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A README.md: its section is replaced, or added; the rest stays. Default: print.", callback=named_file
        ),
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", metavar="REPO", help="Put the section into the README.md of this repository on the hub.")
    ] = None,
) -> None:
    """A section of a Hugging Face model card: how robust a model is, and the results in the card's front matter.

    Clean accuracy, averages, accuracy under attack and on shifts, each with its interval; results of others in the card stay.

    Example: robustvit card results --model demo -o README.md
    """
    from robustvit.results.hub.card_text import read_card
    from robustvit.results.hub.model_cards import card_of, push_card
    from robustvit.results.table_formats import save_file

    with read_store(store) as opened:
        if output is not None or push is None:
            text = card_of(
                opened, read_card(output) if output is not None else "", model=model, suite=suite, name=str(output or "the card")
            )
            if output is None:
                sys.stdout.write(text)
            else:
                err.print(f"Wrote {save_file(text, output)}", highlight=False, soft_wrap=True)
        if push is not None:
            err.print(f"Pushed to {push_card(opened, push, model=model, suite=suite)}", highlight=False, soft_wrap=True)
