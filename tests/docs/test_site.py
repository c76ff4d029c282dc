"""The site of the pages: what is made for it at build time, links that are turned, and that it loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import typer
import yaml

import robustvit
from robustvit.cli.app import app
from robustvit.spec.suite_file import load_suite, suite_files

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs/site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sections(page: str) -> dict[str, str]:
    """The text under each heading of the third level."""
    return dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", page, flags=re.MULTILINE | re.DOTALL))


def test_every_page_has_its_place_in_the_navigation() -> None:
    written = {path.name for path in (ROOT / "docs").glob("*.md")}
    placed = set(re.findall(r"([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert written - placed == set()


def test_the_gallery_has_every_suite_file_with_what_stands_in_it(site: ModuleType) -> None:
    found = sections(site.gallery())
    assert sorted(found) == sorted(path.stem for path in (ROOT / "suites").glob("*.yaml"))
    for name, text in found.items():
        page = yaml.safe_load((ROOT / f"suites/{name}.yaml").read_text(encoding="utf-8"))
        expected = (page["title"], f"[{page['paper']}]({page['url']})", page["licence"], *page["rules"].strip().splitlines())
        assert [one for one in expected if one not in text] == [], name


def test_the_command_of_every_suite_can_be_parsed(site: ModuleType) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, text in sections(site.gallery()).items():
        (line,) = re.findall(r"^```sh\n(.*?)\n```", text, flags=re.MULTILINE | re.DOTALL)
        program, verb, *words = shlex.split(line)
        assert (program, words[words.index("--suite") + 1]) == ("robustvit", name)
        known[verb].make_context(verb, words)


def test_the_gallery_names_the_data_that_clips_are_made_of(site: ModuleType) -> None:
    assert "`imagenet` (" not in site.needs(load_suite("imagenet-p"))
    assert "`sequences`, `imagenet`; another with `--data`" in site.needs(load_suite("imagenet-p"))
    assert site.needs(load_suite("cifar10-c")) == "`cifar10` (fetched by `--download`), `cifar10-c` (fetched by `--download`)"


def test_suites_of_transfer_name_the_models_that_they_need(site: ModuleType) -> None:
    assert site.command(load_suite("transfer-zoo")).count("--model") == 2
    assert "--surrogate" in site.command(load_suite("downstream-transfer"))
    assert site.command(load_suite("quick")) == "robustvit run --model demo --suite quick"


def test_suites_that_change_the_model_say_in_how_many_ways(site: ModuleType) -> None:
    suite = load_suite("token-reduction")
    assert f"{len(suite.transforms)} variants of each model; metrics" in site.card(suite)
    assert "variants" not in site.card(load_suite("quick"))


def test_suites_are_under_the_heading_of_their_scenarios(site: ModuleType) -> None:
    kinds = {name: site.kind_of(load_suite(name)) for name in suite_files()}
    assert (kinds["imagenet-c"], kinds["autoattack"], kinds["certified-patch"]) == ("corruption", "attack", "certificate")
    assert (kinds["transfer-zoo"], kinds["imagenet-shift"], kinds["head-lesion"]) == ("attack", "", "analysis")
    assert set(kinds.values()) == set(site.SECTIONS)


def test_the_python_page_has_every_public_name(site: ModuleType) -> None:
    found = re.findall(r"^::: robustvit\.(\S+)\.(\w+)$", site.api(), flags=re.MULTILINE)
    assert sorted(name for _, name in found) == sorted(set(robustvit.__all__) - {"__version__"})


@pytest.mark.parametrize(
    ("source", "page", "text", "turned"),
    [
        ("README.md", "index.md", "[a](docs/attacks.md)", "[a](attacks.md)"),
        ("README.md", "index.md", "![a](reports/demo.png)", "![a](reports/demo.png)"),
        ("docs/attacks.md", "attacks.md", "[b](../benchmarks/README.md)", "[b](benchmarks.md)"),
        ("docs/attacks.md", "attacks.md", "[r](../robustvit/spec/registry.py)", "r (`robustvit/spec/registry.py`)"),
        ("docs/attacks.md", "attacks.md", "[`examples/own_loop.py`](../examples/own_loop.py)", "`examples/own_loop.py`"),
        ("docs/attacks.md", "attacks.md", "[c](shifts.md#layouts), [d](#cost)", "[c](shifts.md#layouts), [d](#cost)"),
        ("docs/attacks.md", "attacks.md", "[e](https://example.org/a.md)", "[e](https://example.org/a.md)"),
        ("CHANGELOG.md", "changelog.md", "[f](docs/frameworks.md)", "[f](frameworks.md)"),
        ("reports/quick.md", "reports/quick.md", "[g](../docs/tables.md)", "[g](../tables.md)"),
    ],
)
def test_links_lead_to_pages_of_the_site(site: ModuleType, source: str, page: str, text: str, turned: str) -> None:
    assert site.inside(text, source, page) == turned


def test_what_a_page_would_load_from_elsewhere_is_found(site: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "good.html").write_text('<a href="https://example.org">a</a><script src="assets/a.js"></script><img src="data:,">')
    (tmp_path / "sub/bad.html").write_text('<script async src="https://example.org/a.js"></script><link rel="x" href=//example.org/b.css>')
    assert [one.partition(":")[0] for one in site.from_network(tmp_path)] == ["sub/bad.html"] * 2


def test_pages_outside_the_folder_are_there(site: ModuleType) -> None:
    assert [path for path in site.OUTSIDE if not (ROOT / path).is_file()] == []


def test_every_room_of_the_facade_has_a_heading(site: ModuleType) -> None:
    assert {home.partition(".")[0] for home in site.facade().values()} <= set(site.ROOMS)
