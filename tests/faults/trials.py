"""Trials: a job, what befalls it, and what must hold afterwards. `python tests/faults/trials.py [COUNT [SEED [JOB]]]` runs many of them.

After whatever happened: nobody is shown another row, the same command ends well and in time, what it leaves is to the bit what an
undisturbed job leaves, and no unfinished file remains.
"""

from __future__ import annotations

import itertools
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.fault_layer import ERRORS
from faults.jobs import Job, differing, jobs, left_behind, place, prepare, results, wrong_rows
from faults.zygote import STUCK, Child, Ended, Zygote

SEED = 15
PROCESSES = 2
_KINDS = ("term", "int", *ERRORS, "size", "together", "flip", "flip", "signal kill", "signal term", "signal int")


@dataclass(frozen=True)
class Trial:
    """kind: a fault at operation `at` of the job; `signal NAME` after `share` of its undisturbed time; `size` of files limited to
    `at` bytes; `together`, so many processes at once, the first killed at operation `at` where that is not 0; `flip`, the bit at `share` of
    a file chosen by `at`.
    """

    job: str
    kind: str
    at: int = 0
    share: float = 0.0
    processes: int = 1

    def __str__(self) -> str:
        return f"Trial({self.job!r}, {self.kind!r}, at={self.at}, share={self.share!r}, processes={self.processes})"


class Bench:
    """Undisturbed jobs, and a place where disturbed ones are compared with them."""

    def __init__(self, folder: Path, zygote: Zygote, known: dict[str, Job]) -> None:
        self.folder, self.zygote, self.jobs = folder, zygote, known
        self.whole = folder / "whole"
        self.operations: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}
        for job in known.values():
            place(self.whole, self.whole / job.name, job)
            (ended,) = zygote.run([self._child(job, self.whole / job.name)])
            assert ended.code == 0, ended.told
            self.operations[job.name], self.seconds[job.name] = ended.operations, ended.seconds
        self.results = {job.name: results(job, self.whole / job.name) for job in known.values()}

    def problems(self, trial: Trial) -> list[str]:
        """What does not hold after a trial; nothing where all does."""
        job, folder = self.jobs[trial.job], self.folder / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        place(self.whole, folder, job)
        first = self._flipped if trial.kind == "flip" else self._disturbed
        return first(trial, job, folder) + self._again(job, folder)

    def _child(self, job: Job, folder: Path, **fault: object) -> Child:
        return Child(job.words, str(folder), str(folder / "cache"), **fault)  # type: ignore[arg-type]

    def _disturbed(self, trial: Trial, job: Job, folder: Path) -> list[str]:
        ended = self.zygote.run(self._children(trial, job, folder))
        found = [problem for one in ended for problem in _told_wrong(one)]
        harmed, *others = ended
        found += [f"another process ended with {one.code}: {one.told[-800:]}" for one in others if one.code]
        if trial.kind in ERRORS or trial.kind == "size":
            if harmed.code not in (0, 1, 2, 3):
                found.append(f"exit code {harmed.code}")
            if harmed.code and not any(word in harmed.told for word in ("robustvit:", "failed:", "unreadable:")):
                found.append(f"exit code {harmed.code} without a message: {harmed.told[-800:]}")
        if job.store:
            found += [f"rows of {cell} are others" for cell in wrong_rows(folder, self.results[job.name])]
        if harmed.code == 0 and (other := differing(results(job, folder), self.results[job.name])):
            found.append(f"exit code 0 and yet other results: {other}")
        return found

    def _children(self, trial: Trial, job: Job, folder: Path) -> list[Child]:
        if trial.kind == "together":
            first = self._child(job, folder, kind="kill" if trial.at else "", at=trial.at)
            return [first, *[self._child(job, folder)] * (trial.processes - 1)]
        if trial.kind == "size":
            return [self._child(job, folder, size=trial.at)]
        if trial.kind.startswith("signal "):
            return [self._child(job, folder, signal=trial.kind.split()[1], delay=trial.share * self.seconds[job.name])]
        return [self._child(job, folder, kind=trial.kind, at=trial.at)]

    def _flipped(self, trial: Trial, job: Job, folder: Path) -> list[str]:
        """What is wrong with what is shown of a store in which one bit is another."""
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
        path = files[trial.at % len(files)]
        content = bytearray(path.read_bytes())
        bit = int(trial.share * 8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        found = [f"rows of {cell} are others" for cell in wrong_rows(folder, self.results[job.name])]
        board = self.jobs["board"]
        (ended,) = self.zygote.run([self._child(board, folder)])
        found += _told_wrong(ended)
        shown, right = folder / "board.csv", self.whole / board.name / "board.csv"
        if ended.code == 0 and not ended.told.count("\n") > 1 and shown.read_bytes() != right.read_bytes():
            found.append(f"{path.relative_to(folder)}, bit {bit}: the board is another, and nothing is said: {ended.told}")
        shown.unlink(missing_ok=True)
        return [f"{path.relative_to(folder)}, bit {bit}: {one}" for one in found]

    def _again(self, job: Job, folder: Path) -> list[str]:
        """What is wrong after the same command has been given again."""
        (ended,) = self.zygote.run([self._child(job, folder)])
        marker = folder / "st" / "store.json"
        if ended.code and str(marker.relative_to(folder)) in ended.told:  # damaged: the message tells the user to delete it
            marker.unlink()
            (ended,) = self.zygote.run([self._child(job, folder)])
        if ended.code:
            return [*_told_wrong(ended), f"again: exit code {ended.code}: {ended.told[-800:]}"]
        found = [f"again: {name} is another" for name in differing(results(job, folder), self.results[job.name])]
        return found + [f"again: {name} is left" for name in left_behind(folder)]


def _told_wrong(ended: Ended) -> list[str]:
    stuck = ["it is stuck"] if ended.code == STUCK else []
    return stuck + ([f"a traceback: {ended.told[-1500:]}"] if "Traceback" in ended.told else [])


@contextmanager
def bench(names: Sequence[str] = ()) -> Iterator[Bench]:
    """A bench in a temporary folder. names: only these jobs, and those before them."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        known = jobs(*prepare(folder))
        chosen = {name: job for name, job in known.items() if not names or name in names or name in {known[one].before for one in names}}
        with Zygote([job.words for job in chosen.values()]) as zygote:
            yield Bench(folder, zygote, chosen)


def every_kill(bench: Bench) -> list[Trial]:
    """A kill before each operation of each job."""
    return [Trial(job, "kill", at) for job, seen in bench.operations.items() for at in range(1, len(seen) + 1)]


def chosen_at_random(bench: Bench, count: int, seed: int) -> list[Trial]:
    """Trials of every kind but kills at an operation, drawn from a seed."""
    draw = random.Random(seed)
    return [_one(bench, draw, _KINDS[number % len(_KINDS)]) for number in range(count)]


def _one(bench: Bench, draw: random.Random, kind: str) -> Trial:
    job = draw.choice([name for name, seen in bench.operations.items() if seen for _ in range(6 if name == "run" else 1)])
    if kind == "flip":
        return Trial("run again", kind, draw.randrange(10**6), draw.random())
    if kind == "together":
        processes = draw.choice((2, 4))
        return Trial(job, kind, draw.choice((0, draw.randint(1, len(bench.operations[job])))), processes=processes)
    if kind == "size":
        return Trial(job, kind, draw.choice((0, 100, 1000, 3000, 10_000, 30_000)) + 1)
    if kind.startswith("signal"):
        return Trial(job, kind, share=draw.random())
    return Trial(job, kind, draw.randint(1, len(bench.operations[job])))


def a_share(count: int, seed: int, part: int, job: str = "") -> list[tuple[Trial, list[str]]]:
    """Runs every so-manyth of the trials, and prints what does not hold."""
    found = []
    with bench([job] if job else ()) as made:
        kills = [one for one in every_kill(made) if job in ("", one.job)]
        others = (one for one in chosen_at_random(made, 50 * count, seed) if job in ("", one.job))
        trials = [*kills, *itertools.islice(others, max(0, count - len(kills)))][:count]
        for trial in trials[part::PROCESSES]:
            found.append((trial, made.problems(trial)))
            if len(found) % 25 == 0:
                print(f"{len(found)} trials of part {part} are done", flush=True)
            for problem in found[-1][1]:
                print(f"{trial}, seed {seed}: {problem}", flush=True)
    return found


def main(count: int = 1000, seed: int = SEED, job: str = "") -> int:
    """Runs every kill and random trials, `count` in all, of one job or of all; prints what does not hold, and a table. The exit code."""
    began = time.monotonic()
    with ThreadPoolExecutor(PROCESSES) as pool:
        shares = list(pool.map(a_share, [count] * PROCESSES, [seed] * PROCESSES, range(PROCESSES), [job] * PROCESSES))
    found = [one for share in shares for one in share]
    done = Counter(f"{trial.job}: {trial.kind}" for trial, _ in found)
    wrong = Counter(f"{trial.job}: {trial.kind}" for trial, problems in found if problems)
    for name in sorted(done):
        print(f"{done[name]:5} {wrong[name]:5} wrong  {name}")
    print(f"{done.total()} trials, {wrong.total()} with something wrong, {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3]), *sys.argv[3:4]))
