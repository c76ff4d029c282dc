"""Laws of every registered corruption: a new one is judged without being named."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from robustvit.batch import pixels, to_uint8
from robustvit.draws import Draws
from robustvit.errors import BadParameter
from robustvit.registry import Entry, bind, entries
from robustvit.spec import Spec, parse, plain

ALL = entries("corruption")
GRADED = {name: entry for name, entry in ALL.items() if entry.severity}
every = pytest.mark.parametrize("entry", ALL.values(), ids=ALL)
graded = pytest.mark.parametrize("entry", GRADED.values(), ids=GRADED)


def textured(count: int, height: int, width: int) -> Tensor:
    """Random colours at four scales, on the 8-bit grid."""
    generator = torch.Generator().manual_seed(0)
    layers = [torch.rand(count, 3, max(1, height // k), max(1, width // k), generator=generator) for k in (1, 4, 8, 16)]
    mixed = sum(interpolate(layer, (height, width), mode="bilinear") for layer in layers)
    return pixels(to_uint8((mixed - mixed.amin()) / (mixed.amax() - mixed.amin())))


def steps(entry: Entry) -> tuple[object, ...]:
    """The first and the last severity, or nothing where there are none."""
    choices = next((param.hint.choices for param in entry.params if param.name == entry.severity), (None,))
    return (choices[0], choices[-1])


def corrupted(entry: Entry, images: Tensor, severity: object, ids: list[str] | None = None) -> Tensor:
    spec = Spec(entry.name) if severity is None else parse({entry.name: {entry.severity: severity}})[0]
    arguments = {key: plain(value) for key, value in bind(entry, spec).params}
    return entry.load()(images, Draws(7, entry.name, ids or [f"img/{i}" for i in range(len(images))]), **arguments)


@every
@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 41, 64), (1, 64, 41), (2, 9, 7)], ids=str)
def test_what_comes_back_is_an_image_on_the_8_bit_grid(entry: Entry, shape: tuple[int, int, int]) -> None:
    images = textured(*shape)
    for severity in steps(entry):
        result = corrupted(entry, images, severity)
        assert result.shape == images.shape
        assert result.dtype == torch.float32
        assert torch.equal(result, pixels(to_uint8(result)))


@graded
def test_pixels_off_the_8_bit_grid_are_taken_too(entry: Entry) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for severity in steps(entry):
        result = corrupted(entry, images, severity)
        assert torch.equal(result, pixels(to_uint8(result)))


@every
def test_an_empty_batch_stays_empty(entry: Entry) -> None:
    assert corrupted(entry, torch.zeros(0, 3, 32, 32), steps(entry)[0]).shape == (0, 3, 32, 32)


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


@graded
@pytest.mark.parametrize("severity", [0, 6, 2.5, "hard"])
def test_a_severity_out_of_range_is_refused_before_anything_runs(entry: Entry, severity: object) -> None:
    with pytest.raises(BadParameter, match=f"{entry.name}.*{entry.severity}"):
        bind(entry, parse({entry.name: {entry.severity: severity}})[0])


@graded
def test_the_last_severity_moves_pixels_further_than_the_first(entry: Entry) -> None:
    images = textured(4, 64, 64)
    near, far = (float((corrupted(entry, images, severity) - images).abs().mean()) for severity in steps(entry))
    assert 0 < near < far


@graded
def test_a_corruption_names_its_source(entry: Entry) -> None:
    assert entry.summary
    assert entry.family
    assert entry.source
    assert entry.licence
    assert entry.citation.startswith("@")
