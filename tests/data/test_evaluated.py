"""The name of the evaluated data, which stands for a data set inside transforms alone (tests/laws/test_pipelines.py)."""

from __future__ import annotations

import pytest

import robustvit as rv
from robustvit.errors import BadParameter


@pytest.mark.parametrize("address", ["evaluated", "evaluated?split=train", "evaluated?part=calibration"])
def test_by_itself_it_names_nothing(address) -> None:
    with pytest.raises(BadParameter, match=r"names the data of a run, inside its transforms; name a data set, such as digits\?split=train"):
        rv.load_data(address)


def test_it_is_no_data_for_a_run(tmp_path) -> None:
    with pytest.raises(BadParameter, match="names the data of a run"):
        rv.run("quick", ["demo"], "evaluated", store=tmp_path / "s")
