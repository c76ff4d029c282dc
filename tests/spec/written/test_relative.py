"""Numbers relative to the image or to the model: what they stand for, and where they are made numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import nn

import robustvit as rv
from robustvit.errors import BadParameter
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.primitives.modules.patch_unit import patch_unit
from robustvit.spec.spec import Spec
from robustvit.spec.suite_file import load_suite
from robustvit.spec.written.relative import absolute, is_relative, made_absolute


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1 patch", 16), ("2 patches", 32), ("1/2 patch", 8), ("19/224 of the side", 19), ("1/14 of the side", 16),
        ("96/196 of the patches", 96),
        ("1 of the patches", 196), ("0 of the side", 0), ("1/1000 of the side", 1), ("1/3 patch", 5), ("  1   patch ", 16),
    ],
)  # fmt: skip
def test_what_a_text_stands_for_at_224_pixels(text: str, number: int) -> None:
    assert is_relative(text)
    assert absolute(text, 224, 16, 196) == number


@given(some.integers(1, 50), some.integers(1, 50), some.integers(1, 512))
def test_numbers_are_rounded_to_the_nearest_half_up(upper: int, lower: int, side: int) -> None:
    exact = Fraction(upper, lower) * side
    found = absolute(f"{upper}/{lower} of the side", side, 1, 1)
    assert found == max(1, int(exact + Fraction(1, 2)))


@pytest.mark.parametrize("text", ["1 patchs", "patch", "-1 patch", "1/0 patch", "0.5 patch", "16", "1 of the pixels", 16, None, True])
def test_other_values_are_none(text: Any) -> None:
    assert not is_relative(text)
    if isinstance(text, str):
        with pytest.raises(BadParameter, match="relative ones are `1 patch`"):
            absolute(text, 224, 16, 196)


def test_nested_specs_are_made_absolute_too() -> None:
    inner = Spec("inner").with_params(size="1 patch", name="fog")
    spec = Spec("outer").with_params(corruption=inner, count="1 of the patches", word="1 side")
    found = made_absolute(spec, lambda text: 7)
    assert found == Spec("outer").with_params(corruption=inner.with_params(size=7), count=7, word="1 side")
    assert made_absolute(found, lambda text: 8) is found


@pytest.mark.parametrize(
    ("name", "side", "patch"),
    [("vit_tiny_patch16_224", 224, 16), ("vit_base_patch32_224", 224, 32), ("eva02_tiny_patch14_224", 224, 14),
     ("swin_tiny_patch4_window7_224", 224, 16), ("resnet18", 224, 16), ("resnet18", 32, 2), ("resnet18", 8, 1)],
)  # fmt: skip
def test_the_patch_of_a_model(name: str, side: int, patch: int) -> None:
    with torch.device("meta"):
        assert patch_unit(timm.create_model(name), side) == patch
    assert patch_unit(nn.Identity(), 224) == 16


def suite(folder: Path, scenario: str) -> Path:
    page = folder / "s.yaml"
    page.write_text(f"{{name: s, title: s, data: digits, scenarios: [{scenario}], metrics: [top1]}}")
    return page


@pytest.mark.parametrize(
    ("relative", "numbers"),
    [
        ("patch_corruption: {corruption: {fog: {severity: 3}}, count: 1/2 of the patches, size: 1 patch, offset: 1/2 patch}",
         "patch_corruption: {corruption: {fog: {severity: 3}}, count: 8, size: 8, offset: 4}"),
        ("columns: {width: 1/8 of the side, stride: 1/16 of the side}", "columns: {width: 4, stride: 2}"),
        ("adversarial_patch: {size: 1 patch, patches: 1, steps: 2}", "adversarial_patch: {size: 8, patches: 1, steps: 2}"),
    ],
)  # fmt: skip
def test_cells_are_those_of_the_numbers(tmp_path: Path, relative: str, numbers: str) -> None:
    ids = [make(load_suite(suite(tmp_path, text)), ["demo"], None, Settings(limit=4)).cells for text in (relative, numbers)]
    assert [cell.id for cell in ids[0]] == [cell.id for cell in ids[1]]


def test_images_of_another_size_get_other_numbers(tmp_path: Path) -> None:
    made = make(load_suite(suite(tmp_path, "columns: {width: 1/8 of the side}")), ["demo+image_size(size=48)"], None, Settings(limit=4))
    assert made.cells[0].scenario.get("width") == 6


def test_perturb_takes_them_with_and_without_a_model() -> None:
    model = rv.load_model("demo")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    fog = Spec("fog").with_params(severity=5)
    for host, text, number in ((model, "1 patch", 8), (None, "1 patch", 2), (None, "1/4 of the side", 8)):
        found = [rv.perturb(host, images, None, "patch_corruption", corruption=fog, count=2, size=size) for size in (text, number)]
        assert torch.equal(*found)


def test_a_word_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="width is '1/8 of a side'; it takes"):
        load_suite(suite(tmp_path, "columns: {width: 1/8 of a side}"))


@pytest.mark.parametrize("name", ["patch-natural", "certified-patch", "patch-adversarial", "patch-temperature"])
@pytest.mark.parametrize("model", ["demo", "vit_tiny_patch16_224?weights=random&kwargs=img_size=384,depth=1&num_classes=10"])
def test_suites_of_patches_fit_images_of_any_size(name: str, model: str) -> None:
    from robustvit.evaluation.loading import load_model
    from robustvit.evaluation.pipelines.nested import in_numbers
    from robustvit.primitives.patches import refuse_too_many

    host = load_model(model)
    for spec in load_suite(name).scenarios:
        made = in_numbers(spec, host, host.size)
        count = made.get("count", made.get("patches"))
        if made.name in ("patch_corruption", "adversarial_patch") and made.get("offset") is not None:
            refuse_too_many(count, *host.size, made.get("size"), made.get("offset"))
        elif made.name == "columns":
            assert 1 <= made.get("width") <= host.size[0]
