"""How a data set is described on the terminal."""

from __future__ import annotations

from typing import Any

from robustvit.cli.printing import escape, out


def counted(many: int, word: str) -> str:
    """`1 group`, `2 groups`."""
    return f"{many:,} {word}{'' if many == 1 else 's'}"


def print_described(about: dict[str, Any]) -> None:
    """Prints one data set with its variants."""
    from robustvit.cli.commands.data_status import variant_name
    from robustvit.errors import few

    out.print(f"[bold]{escape(about['name'])}[/]\n{escape(about['doc'].strip())}\n", highlight=False)
    place = ("found in", about["where"]) if about["found"] else ("searched", " and ".join(about["looked"]))
    for key, value in (
        place,
        ("ambiguous", about["ambiguous"]),
        *((key, about[key]) for key in ("source", "url", "licence", "get", "fetch")),
    ):
        if value:
            out.print(f"[bold]{key}[/] {escape(value)}", highlight=False, soft_wrap=True)
    for one in () if about["ambiguous"] else about["variants"]:
        mark, title = "[green]✓[/]" if one["found"] else "[yellow]·[/]", variant_name(one["params"])
        out.print(f"{mark} {escape(f'{title}: ' if title else '')}{escape(one['told'])}", highlight=False, soft_wrap=True)
        if one.get("absent"):
            out.print(f"  no image of {len(one['absent']):,} classes: {escape(few(one['absent']))}", highlight=False, soft_wrap=True)
        if one.get("facts"):
            out.print(f"  facts of each sample: {', '.join(one['facts'])}", highlight=False, soft_wrap=True)
        if "verdict" in one:
            _print_verdict(one["verdict"])


def _print_verdict(verdict: dict[str, Any]) -> None:
    from robustvit.errors import few

    findings = {
        "unreadable": f"{len(verdict['unreadable']):,} cannot be read: " + "; ".join(verdict["unreadable"][:5]),
        "clashing": f"{counted(len(verdict['clashing']), 'group')} of equal images under different labels: "
        + few([" = ".join(ids) for ids in verdict["clashing"]]),
        "changed": f"{len(verdict['changed']):,} are not those that the store's rows were computed on: {few(list(verdict['changed']))}",
        "same": f"{counted(len(verdict['same']), 'group')} of equal images under one label: "
        + few([" = ".join(ids) for ids in verdict["same"]]),
    }
    for key, text in findings.items():
        if verdict[key]:
            mark = "[yellow]note:[/]" if key == "same" else "[red]wrong:[/]"
            out.print(f"  {mark} {escape(text)}", highlight=False, soft_wrap=True)
    compared = f"; {verdict['compared']:,} are those of the store" if verdict["compared"] else ""
    if verdict["right"]:
        out.print(
            f"  [green]verified:[/] all {verdict['images']:,} images can be read; content {verdict['content']}{compared}",
            highlight=False,
            soft_wrap=True,
        )
