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
