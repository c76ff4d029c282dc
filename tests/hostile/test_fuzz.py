"""Random texts, addresses and bytes: whatever they are, nothing but a RobustvitError comes out."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from robustvit.data.formats.decode import decode
from robustvit.errors import RobustvitError
from robustvit.evaluation.time_budget import seconds
from robustvit.records.store import Store
from robustvit.results.leaderboard import build_leaderboard
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.data_address import parse_data
from robustvit.spec.model_address import parse_model
from robustvit.spec.spec import parse
from robustvit.spec.suite_file import read_suite
from robustvit.spec.written.arguments import parse_kwargs
from robustvit.spec.written.call import called
from robustvit.spec.yaml_reader import parse_yaml

SAME = os.environ.get("ROBUSTVIT_FUZZ") is None  # the same examples each time; ROBUSTVIT_FUZZ=N draws N new ones
EXAMPLES = int(os.environ.get("ROBUSTVIT_FUZZ", "150"))
FUZZ = settings(
    max_examples=EXAMPLES,
    derandomize=SAME,
    database=None,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
SUITE = (
    "name: fuzz\ntitle: t\ndata: digits\nmetrics: [top1]\nseeds: [0, 1]\nscenarios:\n  - clean\n  - pgd: {eps: [1/255, 4/255], steps: 3}\n"
)
PIECES = st.sampled_from(
    [
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        "- ",
        "\n",
        "  ",
        "&a ",
        "*a",
        "!!int ",
        "!",
        "? ",
        "|",
        ">",
        "'",
        '"',
        "#",
        "%",
        "---\n",
        "...",
        "\t",
        "~",
        "<<: ",
        "pgd",
        "fog",
        "severity",
        "eps",
        "4/255",
        "1e999",
        "9" * 400,
        "-",
        ".",
        "nan",
        "null",
        "true",
        "name",
        "data",
        "\ufeff",
        "\x00",
        "\u2028",
        "\ud800",
    ]
)
WORDS = st.one_of(st.text(max_size=12), PIECES, st.integers().map(str), st.floats().map(str), st.fractions().map(str))


def only_errors_of_robustvit(function: Callable[..., object], *given: object) -> None:
    with contextlib.suppress(RobustvitError):
        function(*given)


@FUZZ
@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=30).map("".join))
def test_any_text_is_a_mapping_or_no_yaml(text: str) -> None:
    only_errors_of_robustvit(parse_yaml, text, "fuzz.yaml")


@FUZZ
@given(st.binary(max_size=300))
def test_any_bytes_are_a_suite_or_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fuzz.yaml").write_bytes(content)
    only_errors_of_robustvit(read_suite, tmp_path / "fuzz.yaml")


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(SUITE)), st.integers(0, 6), st.one_of(PIECES, WORDS)), min_size=1, max_size=3))
def test_a_suite_with_changes_is_a_suite_or_none(tmp_path: Path, changes: list[tuple[int, int, str]]) -> None:
    text = SUITE
    for place, cut, other in changes:
        text = text[:place] + other + text[place + cut :]
    (tmp_path / "fuzz.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    only_errors_of_robustvit(read_suite, tmp_path / "fuzz.yaml")


ADDRESSES = st.lists(
    st.one_of(
        WORDS,
        st.sampled_from(
            [
                "?",
                "&",
                "=",
                "/",
                ":",
                "hf/",
                "file:",
                "timm/",
                "hf-hub:",
                "npz:",
                "folder:",
                "hfds/",
                "wds/",
                "digits",
                "demo",
                "split",
                "vit_b16",
                "kwargs=depth",
            ]
        ),
    ),
    max_size=8,
).map("".join)


@FUZZ
@given(ADDRESSES)
def test_any_text_is_an_address_or_none(text: str) -> None:
    for reads in (parse_model, parse_data, parse_kwargs, seconds, lambda one: called(one, "metric")):
        only_errors_of_robustvit(reads, text)


NODES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(10**400), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
PLUGINS = st.sampled_from(
    [entry for kind in ("attack", "corruption", "certificate", "metric") for entry in registry.entries(kind).values() if not entry.adapter]
)


@FUZZ
@given(PLUGINS, st.data())
def test_any_values_of_parameters_are_bound_or_refused(entry, data: st.DataObject) -> None:  # type: ignore[no-untyped-def]
    params = data.draw(st.dictionaries(st.sampled_from([*(param.name for param in entry.params), "absurd"]), NODES, max_size=3))

    def bound() -> None:
        for spec in parse({entry.name: params}):
            _ = str(bind(entry, spec))

    only_errors_of_robustvit(bound)


def _encoded(form: str) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)).save(sink, form)
    return sink.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@FUZZ
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4), st.floats(0.1, 1))
def test_changed_bytes_are_an_image_or_none(form: str, flips: list[tuple[float, int]], kept: float) -> None:
    content = bytearray(_encoded(form))
    for place, value in flips:
        content[int(place * len(content))] = value
    only_errors_of_robustvit(decode, bytes(content[: max(1, int(kept * len(content)))]), "an image")


STORES = settings(FUZZ, max_examples=max(20, EXAMPLES // 5), deadline=5000)


@pytest.mark.parametrize("pattern", ["store.json", "runs/*.json", "cells/*/cell.json", "cells/*/0*.parquet"])
@STORES
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3), st.floats(0.2, 1), st.booleans()
)
def test_changed_bytes_in_a_store_are_told(make_store, answered, tmp_path_factory, pattern: str, flips, kept: float, old: bool) -> None:  # type: ignore[no-untyped-def]
    place = tmp_path_factory.mktemp("fuzz")
    whole = _whole(make_store, answered)
    shutil.copytree(whole, place / "store")
    path = sorted((place / "store").glob(pattern))[0]
    content = bytearray(path.read_bytes())
    for where, value in flips:
        content[int(where * len(content))] = value
    path.write_bytes(content[: int(kept * len(content))])
    if old and path.suffix == ".parquet":  # as earlier versions called it, without the digest of its bytes
        path.rename(path.with_name("-".join(path.stem.split("-")[:3]) + ".parquet"))
    only_errors_of_robustvit(lambda: build_leaderboard(Store(place / "store")))
    shutil.rmtree(place)


def _whole(make_store, answered) -> Path:  # type: ignore[no-untyped-def]
    if not _WHOLE:
        _WHOLE.append(make_store({("a", "clean", ""): answered([True] * 6 + [False] * 2)}).path)
    return _WHOLE[0]


_WHOLE: list[Path] = []
