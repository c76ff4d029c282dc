"""Whatever befalls a command that writes files, nothing wrong is shown, and the same command leaves what an undisturbed one leaves.

A fair number of the trials of `nox -s faults`; a failure prints its trial, which `bench.problems(Trial(…))` repeats.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.trials import SEED, Bench, Trial, bench, chosen_at_random, every_kill

EVERY = 13  # of the kills, so many apart
AT_RANDOM = 26  # two of every kind


@pytest.fixture(scope="module")
def made() -> Iterator[Bench]:
    with bench() as one:
        yield one


def wrong(bench: Bench, trials: list[Trial]) -> list[tuple[str, list[str]]]:
    assert trials
    return [(str(trial), problems) for trial in trials if (problems := bench.problems(trial))]


@pytest.mark.long
def test_a_kill_before_an_operation_on_a_file_costs_what_was_being_written_and_nothing_else(made: Bench) -> None:
    assert sum(map(len, made.operations.values())) > 250
    assert wrong(made, every_kill(made)[SEED % EVERY :: EVERY]) == []


@pytest.mark.long
def test_full_disks_missing_rights_signals_company_and_flipped_bits_are_survived(made: Bench) -> None:
    assert wrong(made, chosen_at_random(made, AT_RANDOM, SEED)) == []


def test_a_trial_notices_what_is_wrong(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(made.results, "corrupt", {**made.results["corrupt"], "made/fog/2/cat/0.png": "other"})
    assert "again: made/fog/2/cat/0.png is another" in made.problems(Trial("corrupt", "kill", 9))
