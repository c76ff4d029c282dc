"""Properties that every registered corruption has; a new one is tested without being listed here.

A corruption whose severity is one of a few levels generates a benchmark's files: its results are on the 8-bit grid, its last level changes
pixels more than its first, and it names its source in full. Where the severity is a number (a radius, a fraction), two values within its
bounds are tested, and the result need only be an image.
"""

import contextlib
import hashlib
import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from robustvit.errors import BadParameter
from robustvit.evaluation.loading import resolve
from robustvit.primitives import compiled
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.spec.binding import bind
from robustvit.spec.plugin import Entry
from robustvit.spec.registry import entries
from robustvit.spec.schema import Param
from robustvit.spec.spec import Spec, parse

OWN_FILES = {name for name, entry in entries("corruption").items() if any(param.hint.plugin == "data" for param in entry.params)}
ALL = {name: entry for name, entry in entries("corruption").items() if name not in OWN_FILES}  # those are tested by themselves, with files
SCALED = {name: entry for name, entry in ALL.items() if entry.severity}
GRADED = {
    name: entry for name, entry in SCALED.items() if any(param.name == entry.severity and param.hint.choices for param in entry.params)
}
every = pytest.mark.parametrize("entry", ALL.values(), ids=ALL)
scaled = pytest.mark.parametrize("entry", SCALED.values(), ids=SCALED)
graded = pytest.mark.parametrize("entry", GRADED.values(), ids=GRADED)
FREE = {name: entry for name, entry in SCALED.items() if name not in GRADED}
free = pytest.mark.parametrize("entry", FREE.values(), ids=FREE)
FARTHEST_FIRST = "elastic_transform"  # the released definition moves images farthest at severities 1 and 2
SMALL = ((0, 9, 7), (1, 3, 15), (2, 9, 7))  # N, H, W
NUMBA_BLOCKED = "import runpy, sys; sys.modules['numba'] = None; runpy.run_path(sys.argv[1])['print_results_on_small_images']()"


def textured(count: int, height: int, width: int) -> Tensor:
    """Random colours at four scales, on the 8-bit grid."""
    generator = torch.Generator().manual_seed(0)
    layers = [torch.rand(count, 3, max(1, height // k), max(1, width // k), generator=generator) for k in (1, 4, 8, 16)]
    mixed = sum(interpolate(layer, (height, width), mode="bilinear") for layer in layers)
    return pixels(to_uint8((mixed - mixed.amin()) / (mixed.amax() - mixed.amin())))


def inside(param: Param) -> tuple[object, object]:
    """Two valid values of a parameter: its first and last choice, or a quarter and a half of its range, or 2 and 5; of pixels 1 and 2."""
    if param.hint.choices:
        return param.hint.choices[0], param.hint.choices[-1]
    top = dict(param.hint.bounds).get("<=")
    if param.name in ("pixels", "padding"):
        return 1, 2  # the smallest images here have three
    if top is None:
        return 2, 5
    return (int(top) // 4, int(top) // 2) if param.hint.base == "int" else (0.25 * top, 0.5 * top)


def needed(entry: Entry) -> dict[str, object]:
    """Required parameters: a nested corruption where it takes one, with patches that are small enough for any image."""
    nested: dict[str, object] = {param.name: {"contrast": {"severity": 5}} for param in entry.params if param.hint.plugin}
    return {param.name: inside(param)[0] for param in entry.params if param.required} | nested | ({"size": 3} if nested else {})


def steps(entry: Entry) -> tuple[object, ...]:
    """Two severities, or two None where the corruption has none."""
    return next((inside(param) for param in entry.params if param.name == entry.severity), (None, None))


def choices(entry: Entry) -> tuple[object, ...]:
    """All severities where there are a few, else two of them."""
    levels = next((param.hint.choices for param in entry.params if param.name == entry.severity), None)
    return levels or steps(entry)


def corrupted(entry: Entry, images: Tensor, severity: object, ids: list[str] | None = None) -> Tensor:
    given = needed(entry) | {entry.severity: severity}
    spec = Spec(entry.name) if severity is None else parse({entry.name: given})[0]
    arguments = {key: resolve(value) for key, value in bind(entry, spec).params}
    return entry.load()(images, Draws(7, entry.name, ids or [f"img/{i}" for i in range(len(images))]), **arguments)


@every
@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 41, 64), (1, 64, 41), (2, 9, 7)], ids=str)
def test_the_result_is_an_image(entry: Entry, shape: tuple[int, int, int]) -> None:
    images = textured(*shape)
    for severity in steps(entry):
        result = corrupted(entry, images, severity)
        assert result.shape == images.shape
        assert result.dtype == torch.float32
        assert 0.0 <= float(result.amin()) <= float(result.amax()) <= 1.0
        assert entry.name not in GRADED or torch.equal(result, pixels(to_uint8(result)))


@graded
def test_pixels_off_the_8_bit_grid_are_accepted(entry: Entry) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for severity in steps(entry):
        result = corrupted(entry, images, severity)
        assert torch.equal(result, pixels(to_uint8(result)))


def print_results_on_small_images() -> None:
    """Prints `small_results` by corruption as JSON."""
    print(json.dumps({name: small_results(entry) for name, entry in ALL.items()}))


def small_results(entry: Entry) -> list[str]:
    """The shape and a hash of each result, or the error that was raised instead."""
    found = []
    for count, height, width in SMALL:
        images = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))
        for severity in steps(entry):
            try:
                result = corrupted(entry, images, severity)
            except (RuntimeError, ValueError, IndexError) as error:
                found.append(repr(error))
            else:
                found.append(f"{tuple(result.shape)} {hashlib.sha256(result.numpy().tobytes()).hexdigest()}")
    return found


@pytest.fixture(scope="module")
def without_numba() -> dict[str, list[str]]:
    """`small_results` by corruption, in a process that cannot import numba."""
    command = [sys.executable, "-c", NUMBA_BLOCKED, __file__]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout)


def test_the_same_corruptions_are_registered_without_numba(without_numba: dict[str, list[str]]) -> None:
    assert list(without_numba) == list(ALL)


@every
def test_small_batches_give_the_same_bits_where_numba_cannot_be_imported(entry: Entry, without_numba: dict[str, list[str]]) -> None:
    assert without_numba[entry.name] == small_results(entry)
    assert [found.split(")")[0] for found in without_numba[entry.name][::2]] == ["(0, 3, 9, 7", "(1, 3, 3, 15", "(2, 3, 9, 7"]


@every
@pytest.mark.parametrize("numba", [True, False], ids=["numba", "torch"])
def test_an_empty_batch_stays_empty(entry: Entry, numba: bool) -> None:
    with contextlib.nullcontext() if numba else compiled.without():
        for severity in steps(entry):
            assert corrupted(entry, torch.zeros(0, 3, 32, 32), severity).shape == (0, 3, 32, 32)


@every
def test_the_same_ids_get_the_same_result_and_the_input_is_left_alone(entry: Entry) -> None:
    images = textured(2, 32, 32)
    before = images.clone()
    first = corrupted(entry, images, steps(entry)[0])
    assert torch.equal(first, corrupted(entry, images, steps(entry)[0]))
    assert torch.equal(images, before)


@every
@pytest.mark.parametrize(("count", "side"), [(5, 224), (13, 32)], ids=str)
def test_halves_equal_the_whole_bitwise(entry: Entry, count: int, side: int) -> None:
    images, ids = textured(count, side, side), [str(i) for i in range(count)]
    severity, cut = steps(entry)[1], count // 2
    whole = corrupted(entry, images, severity, ids)
    halves = [corrupted(entry, images[:cut], severity, ids[:cut]), corrupted(entry, images[cut:], severity, ids[cut:])]
    assert torch.equal(whole, torch.cat(halves))


@every
def test_reordered_samples_get_reordered_results(entry: Entry) -> None:
    images, order = textured(5, 32, 32), [3, 0, 4, 1, 2]
    for severity in steps(entry):
        whole = corrupted(entry, images, severity)
        assert torch.equal(whole[order], corrupted(entry, images[order], severity, [f"img/{i}" for i in order]))


@every
@pytest.mark.parametrize("shape", [(2, 41, 64), (2, 64, 41), (1, 9, 7)], ids=str)
def test_numba_changes_no_bit(entry: Entry, shape: tuple[int, int, int]) -> None:
    pytest.importorskip("numba")
    on_grid = textured(*shape)
    off_grid = torch.rand(on_grid.shape, generator=torch.Generator().manual_seed(1))
    for severity in choices(entry):
        for images in (on_grid, off_grid):
            found = corrupted(entry, images, severity)
            with compiled.without():
                assert torch.equal(found, corrupted(entry, images, severity))


@graded
@pytest.mark.parametrize("severity", [0, 6, 2.5, "hard"])
def test_a_severity_out_of_range_is_refused_before_anything_runs(entry: Entry, severity: object) -> None:
    with pytest.raises(BadParameter, match=f"{entry.name}.*{entry.severity}"):
        bind(entry, parse({entry.name: {entry.severity: severity}})[0])


@free
def test_a_severity_that_is_no_number_is_refused_before_anything_runs(entry: Entry) -> None:
    given = needed(entry) | {entry.severity: "hard"}
    with pytest.raises(BadParameter, match=f"{entry.name}.*{entry.severity}"):
        bind(entry, parse({entry.name: given})[0])


@free
def test_another_severity_gives_another_image(entry: Entry) -> None:
    images = textured(4, 64, 64)
    near, far = (corrupted(entry, images, severity) for severity in steps(entry))
    assert not torch.equal(near, far)


@pytest.mark.parametrize("entry", [entry for name, entry in GRADED.items() if name != FARTHEST_FIRST], ids=lambda entry: entry.name)
def test_the_last_severity_changes_pixels_more_than_the_first(entry: Entry) -> None:
    images = textured(4, 64, 64)
    near, far = (float((corrupted(entry, images, severity) - images).abs().mean()) for severity in steps(entry))
    assert 0 < near < far


@scaled
def test_a_corruption_names_its_source(entry: Entry) -> None:
    assert entry.summary
    assert entry.family
    assert entry.source
    assert entry.licence
    assert entry.citation.startswith("@")
