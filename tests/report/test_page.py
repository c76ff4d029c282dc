"""The page: self-contained, without network access, and safe against hostile names."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustvit.errors import StoreError, StoreFull
from robustvit.records.store import Store
from robustvit.report.page import render, write_report
from robustvit.results.leaderboard import build_leaderboard, leaderboard

HOSTILE = (
    "<script>alert(1)</script>",
    '"></td><img src=x onerror=alert(1)>',
    "</script><script>alert(1)",
    "'><svg/onload=alert(1)>",
    "{{ 7*7 }}",
)


class Page(HTMLParser):
    """Tags with their attributes, and the text of the page without style and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style"):
            self.scripts.append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_the_page_loads_nothing_from_the_network(html: Path) -> None:
    page = Page(html.read_text())
    sources = [
        value
        for _, attrs in page.tags
        for key, value in attrs.items()
        if key in ("src", "srcset", "poster", "data", "action", "background")
    ]
    assert sources
    assert all(str(source).startswith("data:image/") for source in sources)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert "@import" not in html.read_text()
    assert "url(" not in html.read_text()


def test_the_policy_allows_exactly_the_pages_own_style_and_script(html: Path) -> None:
    text = html.read_text()
    (policy,) = [attrs["content"] for tag, attrs in Page(text).tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy)
    assert "unsafe" not in str(policy)
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy)


def test_there_are_no_inline_styles_or_handlers(html: Path) -> None:
    names = {key for _, attrs in Page(html.read_text()).tags for key in attrs}
    assert "style" not in names
    assert not [name for name in names if name.startswith("on")]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_shown_and_not_run(
    hostile: str,
    make_store: Callable[..., Store],
    cells: Callable[..., Any],
    add_images: Callable[..., None],
    encoded: Callable[..., bytes],
) -> None:
    store = make_store(cells(hostile), label=hostile, metrics=("top1", "robust_accuracy"))
    add_images(store, encoded(), hostile)
    tame = make_store(cells("demo"), name="tame", metrics=("top1", "robust_accuracy"))
    add_images(tame, encoded())
    page, plain = (Page(render(build_leaderboard(one), one)) for one in (store, tame))
    assert hostile in page.text
    assert [(tag, sorted(attrs)) for tag, attrs in page.tags] == [(tag, sorted(attrs)) for tag, attrs in plain.tags]


def test_hostile_reasons_and_commands_are_shown_and_not_run(store: Store) -> None:
    board = leaderboard(store)
    row = board.index[board["scenario"] == "fog"][0]
    hostile = board.assign(reason=HOSTILE[2], repro=HOSTILE[2], environment=HOSTILE[0])
    hostile.loc[row, ["status", "value", "low", "high"]] = ["failed", float("nan"), float("nan"), float("nan")]
    page = Page(render(replace(build_leaderboard(store), rows=hostile), store))
    assert HOSTILE[2] in page.text
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    assert not [tag for tag, _ in page.tags if tag == "img" and not _["src"]]


def test_addresses_lead_to_web_pages_only(make_store: Callable[..., Store], cells: Callable[..., Any]) -> None:
    store = make_store(cells("demo"))
    (path,) = (store.path / "runs").glob("*.json")
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    manifest["suite"]["url"] = "javascript:alert(1)"
    manifest["data"]["f"]["url"] = "https://example.org/data"
    path.write_text(json.dumps(manifest))
    links = [str(attrs["href"]) for tag, attrs in Page(render(build_leaderboard(store), store)).tags if tag == "a"]
    assert [link for link in links if not link.startswith("#")] == ["https://example.org/data"]


def test_every_row_of_the_leaderboard_is_in_the_page(html: Path, store: Store) -> None:
    board = leaderboard(store)
    packed = json.loads(re.findall(r'id="tidy-data">(.*?)</script>', html.read_text(), re.DOTALL)[0])
    columns = {name: one.get("v") or [one["t"][i] for i in one["i"]] for name, one in zip(packed["columns"], packed["data"], strict=True)}
    found = pd.DataFrame({name: columns.get(name, [packed["same"].get(name)] * len(board)) for name in packed["all"]})
    assert list(found.columns) == list(board.columns)
    assert list(found["metric"]) == list(board["metric"])
    assert list(found["value"].astype(float).round(4).fillna(-1)) == list(board["value"].round(4).fillna(-1))


def test_the_same_store_gives_the_same_page(html: Path, store: Store, tmp_path: Path) -> None:
    assert write_report(store.path, tmp_path / "again.html").read_bytes() == html.read_bytes()


def test_the_page_is_small(html: Path) -> None:
    assert html.stat().st_size < 200_000


def test_a_report_can_be_of_one_model(store: Store, tmp_path: Path) -> None:
    text = write_report(store, tmp_path / "one.html", models=["demo"]).read_text()
    assert "Robustness of demo" in text
    assert "rival" not in Page(text).text.replace("demo, rival", "")


def test_an_unknown_suite_is_refused_and_nothing_is_written(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no suite 'made-down'"):
        write_report(store, tmp_path / "report.html", suite="made-down")
    assert not (tmp_path / "report.html").exists()


def test_a_file_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFull, match=r"cannot write the report .*report\.html"):
        write_report(store, tmp_path / "file" / "report.html")


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    page = Page(write_report(Store(tmp_path / "empty", create=True), tmp_path / "report.html").read_text())
    assert "has no results yet" in page.text
    assert "robustvit run --store" in page.text


def test_a_store_of_failures_alone_shows_their_reason(make_store: Callable[..., Store]) -> None:
    store = make_store({("demo", "clean", ""): None, ("demo", "fog", "3"): None})
    for cell in store.cells():
        store.fail(cell, "out of memory")
    page = Page(render(build_leaderboard(store), store))
    assert "has no results yet" in page.text
    assert "clean, fog 3 for demo: out of memory" in page.text


def test_one_clean_cell_makes_a_page_without_curves(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    store = make_store({("demo", "clean", ""): answered([True, False])})
    page = Page(render(build_leaderboard(store), store))
    assert "this suite has no such result" in page.text
    assert "has no images" in page.text


def test_a_partial_number_has_its_badge_beside_it_and_the_sentence_says_so(
    make_store: Callable[..., Store], answered: Callable[..., Any]
) -> None:
    store = make_store({("demo", "clean", ""): answered([True] * 4)}, asked=8)
    page = Page(render(build_leaderboard(store), store)).text
    assert re.search(r"100\.0 % \[[\d., ]+\] \(partial\)", page.replace("\u00a0", " "))
    assert "digits 100.0 partial 51.0 – 100.0" in page


def test_random_weights_are_marked_wherever_their_numbers_are(make_store: Callable[..., Store], cells: Callable[..., Any]) -> None:
    store = make_store(cells("r"))
    page = Page(render(build_leaderboard(store), store))
    assert page.text.count("random weights") == 3  # leaderboard, legend, heat map
    assert "Its weights are random" in page.text


def test_the_report_needs_no_torch(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['timm'] = None\n"
        "from robustvit.report.page import write_report\n"
        f"print(write_report({str(store.path)!r}, {str(tmp_path / 'report.html')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_labels_have_the_class_names_of_their_own_data(store: Store) -> None:
    (manifest,) = store.manifests()
    cells = [replace(cell, data_fingerprint="g") if cell.scenario == "fog" else cell for cell in manifest.cells]
    data = {"f": replace(manifest.data["f"], class_names=["zero", "one"])}
    data["g"] = replace(data["f"], label="few", classes=2, class_names=["nought", "one"])
    store.write_manifest(replace(manifest, cells=cells, data=data))
    text = render(build_leaderboard(store), store)
    assert re.search(r"<figcaption>clean<span[^>]*>label zero<", text)
    assert re.search(r"<figcaption>fog<span[^>]*>label nought<", text)


def test_every_metric_of_every_scenario_is_in_a_table(
    make_store: Callable[..., Store], answered: Callable[..., Any], tmp_path: Path
) -> None:
    cells = {
        ("m", name, level): answered([True] * 3 + [False]) for name, level in (("clean", ""), ("fog", "1"), ("fog", "2"), ("snow", "1"))
    }
    page = write_report(make_store(cells, metrics=["top1", "brier"]), tmp_path / "r.html").read_text()
    tables = re.findall(r'<details class="scores".*?</details>', page, re.S)
    assert len(tables) == 2
    assert "clean Brier" in tables[0]
    rows = [re.sub(r"<small>.*?</small>|<[^>]+>", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", tables[1], re.S)]
    assert [row[:4] for row in rows] == [
        ["scenario", "top-1", "Brier"],
        ["fog", "75.0", "[30.1,", "95.4]"],
        ["snow", "1", "75.0", "[30.1,"],
    ]
    assert [len(row) for row in rows] == [3, 7, 8]


def test_scores_hold_clean_numbers_that_the_leaderboard_of_the_page_does_not_show(
    make_store: Callable[..., Store], answered: Callable[..., Any]
) -> None:
    cells = {("demo", name, level): answered([True] * 3 + [False]) for name, level in (("clean", ""), ("fog", "1"), ("fog", "2"))}
    store = make_store(cells, metrics=["top1", "nll", "brier", "ece"])
    html = render(build_leaderboard(store), store)
    scores = html.split("Every score by scenario")[1].split("<h2>")[0]
    for name in ("clean NLL", "clean Brier", "clean ECE"):
        assert f'<th scope="row">{name}</th>' in scores
    assert "clean top-1" not in scores


@pytest.mark.parametrize(
    ("models", "title"),
    [
        (["m"], "Robustness of m"),
        (["m", "n"], "Robustness of 2 models"),
        (["m", "m → soft", "n"], "Robustness of 2 models in 3 variants"),
        (["m", "m → soft"], "Robustness of m in 2 variants"),
        (["m → soft", "n → soft"], "Robustness of 2 models"),
    ],
)
def test_the_heading_counts_what_the_page_shows(make_store: Callable[..., Store], answered: Any, models: list[str], title: str) -> None:
    store = make_store({(model, "clean", ""): answered([True] * 5) for model in models})
    assert f"<h1>{title}</h1>" in render(build_leaderboard(store), store)
