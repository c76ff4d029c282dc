"""What mkdocs adds to the pages of docs/ when it builds the site: the home page, the gallery of suites, the Python API.

Nothing is kept twice: the gallery is made of suites/*.yaml and the registry, the API page of `robustvit.__all__`, the other pages are files
outside docs/. Links to files that are no pages of the site become the names of those files. The build fails where a page would load
anything from the network.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from robustvit.spec import registry
from robustvit.spec.spec import Spec
from robustvit.spec.suite import GIVEN, MODELS, Suite
from robustvit.spec.suite_file import load_suite, suite_files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "reports/quick.md": "reports/quick.md",
    "reports/imagenet-c.md": "reports/imagenet-c.md",
    "reports/demo.png": "reports/demo.png",
}
"""Files of the repository that are pages or images of the site, and where they are in it."""
SECTIONS = {
    "corruption": "Corruptions and other changes of images",
    "attack": "Attacks",
    "certificate": "Certificates",
    "analysis": "Analyses",
    "": "Released data sets and clips",
}
"""The heading of the suites whose scenarios are of a kind; of those that evaluate data as it is last."""
ROOMS = {
    "evaluation": "Running",
    "cli": "Running",
    "results": "Tables and comparisons",
    "report": "Tables and comparisons",
    "records": "Suites, cells and records",
    "spec": "Suites, cells and records",
    "training": "Training",
    "primitives": "Models, images and plug-ins",
    "statistics": "Models, images and plug-ins",
    "errors": "Errors",
}
"""The heading of the names of the façade that a room holds."""
_MANY = 8  # names of a list that is written out
_LOADED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^\s\"'>]+", re.IGNORECASE)


def gallery() -> str:
    """The page of all suites, in Markdown."""
    suites = [load_suite(name) for name in suite_files()]
    parts = [
        "# Suites",
        f"The {len(suites)} suites that come with robustvit, made from their files. `robustvit list suites NAME` prints the same on a "
        "terminal, `robustvit check FILE` checks one of your own ([how to write one](concepts.md)). `/data` stands for the folder that "
        "holds each data set in a folder of its name ([layouts](shifts.md#layouts), [downloads](downloads.md)).",
    ]
    for kind, heading in SECTIONS.items():
        of_kind = [suite for suite in suites if kind_of(suite) == kind]
        table = [f"| [`{suite.name}`](#{suite.name}) | {suite.title} | {sets(suite)} |" for suite in of_kind]
        parts += [f"## {heading}", "\n".join(["| suite | what it is | data |", "|---|---|---|", *table])]
        parts += [card(suite) for suite in of_kind]
    return "\n\n".join(parts) + "\n"


def kind_of(suite: Suite) -> str:
    """The kind of a suite's first scenario that is not `clean`, or "" where all are."""
    kinds = (registry.scenario_entry(one.name).kind for one in suite.scenarios if one.name != "clean")
    return next(kinds, "")


def card(suite: Suite) -> str:
    """The section of one suite: title, paper, what it measures, data, licence, command, rules."""
    scenarios = [one.name for one in suite.scenarios if one.name != "clean"]
    reads = f"{named(scenarios)}; " if scenarios else ""
    reads += f"{len(suite.transforms)} variants of each model; " if len(suite.transforms) > 1 else ""
    facts = {
        "Paper": f"[{suite.paper}]({suite.url})",
        "Measures": f"{reads}metrics {named(one.name for one in suite.metrics)}",
        "Data": needs(suite),
        "Licence": suite.licence,
    }
    lines = [f"- **{name}**: {text}" for name, text in facts.items()]
    rules = "\n".join(f"    {line}" for line in suite.rules.strip().splitlines())
    head = f"### {suite.name}\n\n{suite.title}, version {suite.version}."
    return "\n\n".join([head, "\n".join(lines), f"```sh\n{command(suite)}\n```", f'??? note "Rules"\n{rules}'])


def named(names: Iterable[str]) -> str:
    """Names as code, each once; of many the first ones and how many there are."""
    found = list(dict.fromkeys(names))
    shown = found if len(found) <= _MANY else found[: _MANY - 1]
    rest = f" and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    return ", ".join(f"`{name}`" for name in shown) + rest


def sets(suite: Suite) -> str:
    """The data sets of a suite, those that clips are made of included."""
    return named(one.name for one in data_of(suite))


def data_of(suite: Suite) -> list[Spec]:
    """Its data sets, and in the place of one that is made of another's images the two of them."""
    return [
        found
        for one in suite.data
        for found in (one, *(value for _, value in one.params if isinstance(value, Spec) and value.kind == "data"))
    ]


def needs(suite: Suite) -> str:
    """The data sets with their licences, and whether they can be fetched."""
    entries = [registry.lookup("data", name) for name in dict.fromkeys(one.name for one in data_of(suite))]
    told = [f"`{entry.name}`" + (" (fetched by `--download`)" if entry.downloads else "") for entry in entries]
    fixed = "" if suite.fixed_data else "; another with `--data`"
    return ", ".join(told) + fixed


def command(suite: Suite) -> str:
    """The command that runs a suite on data in /data."""
    names = {one.name for one in data_of(suite)}
    if names == {"digits"}:
        return f"robustvit run --model demo --suite {suite.name}"
    model = "MODEL" if any(name.startswith("cifar") for name in names) else "vit_b16"
    words = ["robustvit", "run", "--model", model]
    words += ["--model", "deit_s16"] if MODELS in suite.surrogates else []
    words += ["--surrogate", "SURROGATE"] if GIVEN in suite.surrogates else []
    return shlex.join([*words, "--suite", suite.name, "--data-dir", "/data"])


def api() -> str:
    """The page of the façade: every public name, by what it is for."""
    parts = ["# Python", "Everything that `import robustvit as rv` offers. Nothing heavy is imported before it is used."]
    homes = facade()
    for heading in dict.fromkeys(ROOMS.values()):
        names = [name for name, home in homes.items() if ROOMS[home.partition(".")[0]] == heading]
        parts += [f"## {heading}", *(f"::: robustvit.{home}.{name}" for name, home in homes.items() if name in names)]
    return "\n\n".join(parts) + "\n"


def facade() -> Mapping[str, str]:
    """The public names of `robustvit` and the module of each, read from its source."""
    tree = ast.parse((ROOT / "robustvit/__init__.py").read_text(encoding="utf-8"))
    found = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}
    homes: dict[str, str] = ast.literal_eval(found["_HOMES"])
    return homes


def inside(text: str, source: str, page: str) -> str:
    """Markdown with its relative links turned to those of the site.

    source: the file of the text in the repository; page: where it is in the site. A file that is no page of the site is named, not linked.
    """

    def turned(match: re.Match[str]) -> str:
        label, target, anchor = match["label"], match["target"], match["anchor"] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = OUTSIDE.get(path, path.removeprefix("docs/") if re.fullmatch(r"docs/[^/]+\.md", path) else "")
        if place:
            return f"[{label}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor})"
        return f"{label} (`{path}`)" if label.strip("`") != path else f"`{path}`"

    return re.sub(r"\[(?P<label>[^\]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)", turned, text)


def from_network(folder: Path) -> Iterator[str]:
    """What the pages of a built site would load from elsewhere."""
    for path in sorted(folder.rglob("*.html")):
        for found in _LOADED.findall(path.read_text(encoding="utf-8")):
            if 'rel="canonical"' not in found:
                yield f"{path.relative_to(folder)}: {found}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made, and those outside docs/."""
    from mkdocs.structure.files import File

    made = {"suites.md": gallery(), "api.md": api()}
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    for source, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=os.fspath(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turns the links of a page."""
    place = page.file.src_uri
    if place.startswith("boards/"):  # made for the site, with its links
        return markdown
    sources = {there: here for here, there in OUTSIDE.items()}
    return inside(markdown, sources.get(place, f"docs/{place}"), place)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuses a site that would load anything from the network."""
    from mkdocs.exceptions import PluginError

    found = list(from_network(Path(config.site_dir)))
    if found:
        raise PluginError("the site would load from the network:\n" + "\n".join(found))
