"""docs/architecture.md shows the package as it is: its rooms, their imports, and the modules that it names."""

import re

from laws.test_layers import DOORS, FILES, ROOT, imports, room

PAGE = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
PICTURE = re.search(r"^```mermaid\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
OUTSIDE = {*DOORS, "version"} - {"cli"}  # the façade imports everything; the version is one line

Edges = dict[str, set[str]]


def drawn() -> tuple[Edges, dict[str, str]]:
    """The solid arrows of the picture, and the node of every room; a node may stand for several rooms, named in its label."""
    assert PICTURE
    groups = re.findall(r'^  (\w+)\["(.+?)"\]$', PICTURE[1], flags=re.MULTILINE)
    edges: Edges = {}
    for begin, end in re.findall(r"^  (\w+) --> (\w+)$", PICTURE[1], flags=re.MULTILINE):
        edges.setdefault(begin, set()).add(end)
    nodes = {*edges, *(end for ends in edges.values() for end in ends)} - {name for name, _ in groups}
    return edges, {name: name for name in nodes} | {inner: name for name, label in groups for inner in label.split(" · ")}


def imported(node: dict[str, str]) -> Edges:
    """The imports between nodes, without those that follow from others."""
    edges: Edges = {name: set() for name in node.values()}
    for path in FILES:
        if room(path) in node:
            found = {name.split(".")[1] for name in imports(path) if name.startswith("robustvit.")}
            edges[node[room(path)]] |= {node[name] for name in found if name in node} - {node[room(path)]}
    below = {name: reached(name, edges) for name in edges}
    return {name: {end for end in ends if not any(end in below[other] for other in ends - {end})} for name, ends in edges.items()}


def reached(name: str, edges: Edges) -> set[str]:
    return edges[name].union(*(reached(end, edges) for end in edges[name]))


def test_the_picture_shows_every_room() -> None:
    _, node = drawn()
    assert set(node) == {room(path) for path in FILES} - OUTSIDE


def test_its_arrows_are_the_imports_between_rooms() -> None:
    edges, node = drawn()
    assert {name: ends for name, ends in imported(node).items() if ends} == edges


def test_the_tree_lists_every_room() -> None:
    _, node = drawn()
    tree = PAGE.partition("```text\n")[2].partition("```")[0]
    listed = {name for line in tree.splitlines() if line.startswith("  ") for name in re.findall(r"(?<![\w/`])(\w+)/(?!\w)", line)}
    assert listed == {name for name in node if (ROOT / name).is_dir()}


def test_the_modules_that_it_names_exist() -> None:
    named = set(re.findall(r"`([a-z_/]+\.py)`", PAGE))
    assert len(named) > 8
    assert not [name for name in named if not (ROOT / name).exists() and not (ROOT.parent / name).exists()]
