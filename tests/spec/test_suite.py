from dataclasses import replace
from pathlib import Path

import pytest

from robustvit.errors import BadParameter
from robustvit.spec.cell import Cell
from robustvit.spec.spec import Spec
from robustvit.spec.suite_file import read_suite
from robustvit.spec.view import View

GOOD = """
name: mine
title: Mine
data: digits
scenarios:
  - clean
  - pgd: {eps: [1/255, 4/255], steps: 5}
metrics: [top1]
"""

PARTS = (
    GOOD[: GOOD.index("data:")]
    + """parts:
  - data: {digits: {split: train}}
    scenarios: [clean, {fog: {severity: [1, 2]}}]
  - data: [{digits: {ink: grey}}, {digits: {ink: coloured}}]
    scenarios: [clean]
metrics: [top1]
"""
)

CELL = Cell(Spec("timm"), "w", Spec("digits"), "d", View(), Spec("clean", kind="corruption", version=1))


def suite(tmp_path: Path, text: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return read_suite(path, "mine.yaml")


def test_axes_multiply_into_cells(tmp_path: Path) -> None:
    found = suite(tmp_path, GOOD)
    cells = found.cells(CELL, found.scenarios)
    assert [str(cell) for cell in cells] == ["clean", "pgd 1/255", "pgd 4/255"]
    assert len({cell.id for cell in cells}) == 3


def test_parts_ask_each_data_set_its_own_scenarios(tmp_path: Path) -> None:
    found = suite(tmp_path, PARTS)
    assert [len(found.scenarios_on(data)) for data in found.data] == [3, 1, 1]
    assert [spec.name for spec in found.scenarios] == ["clean", "fog", "fog"]


@pytest.mark.parametrize("change", [
    {"model": Spec("other")}, {"weights": "x"}, {"data": Spec("x")}, {"data_fingerprint": "x"}, {"view": View((32, 32))}, {"seed": 1},
    {"scenario": Spec("clean", kind="corruption", version=2)}, {"transforms": (Spec("quantize"),)}, {"precision": "bfloat16"},
    {"storage": Spec("jpeg")}, {"after": (Spec("pgd"),)}, {"class_order": "x"}, {"view": View(interpolation="bilinear")},
])  # fmt: skip
def test_a_cell_id_changes_with_every_field(change: dict[str, object]) -> None:
    assert replace(CELL, **change).id != CELL.id  # type: ignore[arg-type]


def test_an_unresolved_cell_has_no_id() -> None:
    with pytest.raises(BadParameter, match="unresolved"):
        _ = replace(CELL, weights=None).id
