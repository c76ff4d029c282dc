"""When compiled loops are used, and on which arrays. That they change no bit is a law of draws and of corruptions."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from robustvit.primitives import compiled


def test_loops_are_used_for_tensors_on_the_cpu() -> None:
    pytest.importorskip("numba")
    assert compiled.serve(torch.zeros(1))
    assert not compiled.serve(torch.zeros(1), torch.zeros(1, device="meta"))


def test_loops_leave_gradients_to_torch() -> None:
    assert not compiled.serve(torch.zeros(1, requires_grad=True))


def test_loops_are_not_used_where_they_are_turned_off() -> None:
    with compiled.without():
        assert not compiled.serve(torch.zeros(1))


def test_an_array_shares_the_memory_of_a_contiguous_tensor() -> None:
    tensor = torch.zeros(2, 3, 4, 5)
    compiled.planes(tensor)[5, 3, 4] = 7.0
    assert tensor[1, 2, 3, 4] == 7.0
    assert compiled.array(tensor.transpose(2, 3), -1).tolist() == tensor.transpose(2, 3).flatten().tolist()


def test_a_product_and_a_sum_are_rounded_one_by_one() -> None:
    pytest.importorskip("numba")
    line = compiled.loops("robustvit.corruptions.kernels.filter_loops").correlate_rows
    values, weights = np.full((1, 1, 64), 1.0 + 2.0**-30), np.array([1.0, -0.5 * (1.0 - 2.0**-30)])
    out = np.empty_like(values)
    line(values, weights, np.zeros(66, np.int64), out)
    assert (out == values[0, 0, 0] + (2.0 * values[0, 0, 0]) * weights[1]).all()


def test_numba_is_not_imported_before_something_is_drawn() -> None:
    code = "import sys, robustvit.corruptions.blur, robustvit.primitives.draws; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
