"""Tables as text: nothing in a CSV is a formula of a spreadsheet."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from robustvit.results.table_formats import csv_text, without_quotes


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-x", "@SUM(A1)", "\tx", "'=1", "''+1"])
def test_text_that_a_spreadsheet_would_compute_is_quoted(cell: str) -> None:
    table = pd.DataFrame({"model": [cell, "a"], "value": [-1.5, 2.0]})
    text = csv_text(table, "%.10g")
    read = pd.read_csv(io.StringIO(text), dtype={"model": "str"})
    assert read["model"][0] == f"'{cell}"
    assert list(read["value"]) == [-1.5, 2.0]
    assert without_quotes(read).equals(table)


@pytest.mark.parametrize("cell", ["vit_b16", "steps=10", "'quoted'", "4/255", "", "a → b"])
def test_other_text_is_left_alone(cell: str) -> None:
    table = pd.DataFrame({"model": [cell], "value": [0.5]})
    assert csv_text(table, "%.10g") == table.to_csv(index=False, lineterminator="\n")
