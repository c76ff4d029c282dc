"""A few of the trials of a store in object storage; `nox -s faults` runs a thousand."""

from __future__ import annotations

import pytest
from remote_trials import problems, trial_place

pytest.importorskip("obstore")


def test_whatever_goes_wrong_no_row_is_another_and_what_was_written_stays() -> None:
    with trial_place() as (folder, server):
        for seed in range(2):
            assert problems(seed, folder, server) == []
            server.objects.clear()
