"""Runs on a Ray cluster and by Slurm's array jobs: the rows of one process, whatever is killed; what is said where none answers."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray_trials import KINDS, TEXT, RayCluster, command, problems, ray_cluster, tables

import robustvit as rv
from robustvit.errors import BadParameter, MissingExtra, WorkersLost
from robustvit.evaluation.executors.ray_cluster import _warn_without_room
from robustvit.evaluation.executors.slurm import _logs_of

pytest.importorskip("ray")
ELSEWHERE = [pytest.param(place, marks=pytest.mark.ray) for place in range(2, 10)]
Same = Callable[[Path, Path], bool]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as made:
        yield made


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite of the trials, and beside it a store that one process filled."""
    folder = tmp_path_factory.mktemp("trial")
    (folder / "trial.yaml").write_text(TEXT)
    subprocess.run(command(folder / "trial.yaml", folder / "alone"), check=True)
    return folder


@pytest.mark.parametrize("place", [0, 1, *ELSEWHERE])
def test_whatever_is_killed_the_rows_are_those_of_one_process(cluster: RayCluster, trial: Path, tmp_path: Path, place: int) -> None:
    kind, delay = KINDS[place % len(KINDS)], 1.5 * place
    assert problems(cluster, kind, delay, trial / "trial.yaml", tmp_path / "store", tables(trial / "alone")) == []


@pytest.mark.ray
def test_as_many_workers_as_the_cluster_has_room_for(
    cluster: RayCluster, suite_file: Path, alone: Path, tmp_path: Path, same_rows: Same
) -> None:
    done = rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=8, executor="ray", address=cluster.address, progress=False)
    assert done.computed == done.rows
    assert same_rows(alone, tmp_path / "s")
    with pytest.raises(WorkersLost, match=r"no room for a worker of num_cpus 1, num_gpus 3; it has CPU 2, "):
        rv.run(
            suite_file, ["demo"], store=tmp_path / "t", limit=8, executor="ray", address=cluster.address, resources={"num_gpus": "3"},
            progress=False,
        )  # fmt: skip


@pytest.mark.ray
def test_an_address_at_which_nobody_answers(suite_file: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(WorkersLost, match=rf"^--address {address}: nobody answers there \(Connection refused\)\. Start Ray there"):
            rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=8, executor="ray", address=address, progress=False)
    for wrong in ("somewhere", "host:", "host:99999", ":6379"):
        with pytest.raises(BadParameter, match=rf"--address is '{wrong}'; it takes HOST:PORT"):
            rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=8, executor="ray", address=wrong, progress=False)

    with pytest.raises(BadParameter, match=r"--resources num_gpus=many: --executor ray takes a number of each resource"):
        rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=8, executor="ray", resources={"num_gpus": "many"}, progress=False)


def test_an_address_of_the_environment_is_checked_as_one_that_is_given(
    suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", address := f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(WorkersLost, match=rf"^RAY_ADDRESS {address}: nobody answers there \(Connection refused\)"):
            rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=8, executor="ray", progress=False)


@pytest.mark.parametrize(("name", "meant"), [("gpu", "num_gpus"), ("GPUs", "num_gpus"), ("cpus", "num_cpus")])
def test_resources_by_other_words_are_told_what_ray_calls_them(suite_file: Path, tmp_path: Path, name: str, meant: str) -> None:
    with pytest.raises(BadParameter, match=f"--resources {name}=…: Ray calls it {meant}"):
        rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=8, executor="ray", resources={name: "1"}, progress=False)


def test_workers_that_wait_for_a_cluster_to_grow_say_so(caplog: pytest.LogCaptureFixture) -> None:
    _warn_without_room({"CPU": 4.0}, {"num_cpus": 1.0, "num_gpus": 0.0})
    assert not caplog.records
    _warn_without_room({"CPU": 4.0}, {"num_cpus": 1.0, "num_gpus": 1.0})
    assert "has no room for a worker of num_cpus 1, num_gpus 1; it has CPU 4" in caplog.text
    assert "They wait until it has." in caplog.text


@pytest.mark.parametrize(("store", "logs"), [
    ("s3://bucket/some/store", "store.jobs"), ("s3://bucket", "bucket.jobs"), (Path("/data/run.v2"), "/data/run.v2.jobs"),
])  # fmt: skip
def test_logs_of_jobs_lie_beside_a_folder_and_of_a_bucket_where_the_run_was_started(store: Path | str, logs: str) -> None:
    assert _logs_of(store) == Path(logs)


@pytest.mark.ray
def test_jobs_of_an_array_compute_what_one_process_computes(suite_file: Path, alone: Path, tmp_path: Path, same_rows: Same) -> None:
    pytest.importorskip("submitit")
    options = {"executor": "slurm", "processes": 2, "resources": {"cluster": "local", "timeout_min": "5"}}
    done = rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=8, progress=False, **options)
    assert done.computed == done.rows
    assert same_rows(alone, tmp_path / "s")
    assert not (tmp_path / "s.jobs").exists()
    with pytest.raises(WorkersLost, match=r"^--executor slurm: .* Run it where `sbatch` is"):
        rv.run(suite_file, ["demo"], store=tmp_path / "t", limit=8, executor="slurm", progress=False)
    with pytest.raises(BadParameter, match=r"--resources: .*nonsense"):
        rv.run(suite_file, ["demo"], store=tmp_path / "t", limit=8, progress=False, executor="slurm", resources={"cluster": "nonsense"})
    with pytest.raises(BadParameter, match=r"--resources: .*colour"):
        rv.run(
            suite_file,
            ["demo"],
            store=tmp_path / "t",
            limit=8,
            progress=False,
            executor="slurm",
            resources={"cluster": "local", "colour": "red"},
        )


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_without_its_package_one_line_says_how_to_get_it_before_anything_is_loaded(
    suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'robustvit\[{executor}\]'"):
        rv.run(suite_file, ["no-such-model"], store=tmp_path / "s", limit=8, executor=executor, progress=False)
    assert not (tmp_path / "s").exists()
