"""Workers as tasks of a Ray cluster: Ray starts those that are lost again, and the Store has what they had computed."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from robustvit.errors import BadParameter, MissingExtra, WorkersLost
from robustvit.evaluation.executors.packing import packed, share_of_packed
from robustvit.evaluation.executors.shares import ShareOutcome
from robustvit.evaluation.executors.workers import RunRequest

log = logging.getLogger(__name__)

_RETRIES = 8  # times that Ray starts a share again whose worker or machine was lost
_PATIENCE = 5.0  # seconds for an address to answer
_PAUSE = 1.0  # seconds between two looks at the workers
_ADDRESS = "RAY_ADDRESS"  # where Ray itself looks for an address that it was not given
_MEANT = {"cpu": "num_cpus", "cpus": "num_cpus", "gpu": "num_gpus", "gpus": "num_gpus", "num_cpu": "num_cpus", "num_gpu": "num_gpus"}
_OF_RAY = {"num_cpus": 1.0, "num_gpus": 0.0, "memory": 0.0}


def check_ray(address: str | None, resources: Mapping[str, str]) -> None:
    """Raises MissingExtra without ray, BadParameter for an address or resources of no kind, WorkersLost where nobody answers."""
    ray = _ray()
    _wanted(resources)
    if not ray.is_initialized():
        _check_address(address or os.environ.get(_ADDRESS), "--address" if address else _ADDRESS)


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("--executor ray needs ray: python3 -m pip install 'robustvit[ray]'.") from error
    return ray


def _wanted(resources: Mapping[str, str]) -> dict[str, float]:
    for name in resources:
        if (meant := _MEANT.get(name.lower())) is not None:
            raise BadParameter(f"--resources {name}=…: Ray calls it {meant}; a resource called {name} would be one of the cluster's own.")
    return {**_OF_RAY, **{name: _number(name, text) for name, text in resources.items()}}


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at an address for the length of a block, unless the caller has connected it already.

    address: `host:port`, `ray://host:port` or `auto`; None is that of RAY_ADDRESS, and without it starts a cluster on this machine. Raises
    MissingExtra without ray, WorkersLost where no cluster answers.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    given, option = address or os.environ.get(_ADDRESS), "--address" if address else _ADDRESS
    _check_address(given, option)
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False if given is None else None)
    except (ConnectionError, RuntimeError, ValueError, AssertionError, TimeoutError, OSError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise WorkersLost(f"{option} {given or 'auto'}: no Ray cluster answers ({reason}). Start one: ray start --head.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str | None, option: str) -> None:
    """Raises BadParameter for no address, WorkersLost for one at which nobody answers: Ray itself would wait for a minute."""
    if address in (None, "auto", "local"):
        return
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadParameter(f"{option} is '{address}'; it takes HOST:PORT, ray://HOST:PORT or auto.")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except OSError as error:
        raise WorkersLost(
            f"{option} {address}: nobody answers there ({error.strerror or error}). Start Ray there: ray start --head."
        ) from error


def run_on_ray(
    request: Callable[[int], RunRequest],
    address: str | None,
    processes: int | None,
    resources: Mapping[str, str],
    watch: Callable[[], None],
) -> list[ShareOutcome]:
    """Computes the shares of a run as tasks of a cluster; what they did, and what ended those that did not come to an end.

    request: makes the request for so many workers: `processes`, or as many as the cluster has room for. resources: of one worker: num_cpus,
    num_gpus, memory in bytes, and whatever the cluster calls its own. watch: called again and again while they compute.
    """
    wanted = _wanted(resources)
    with ray_cluster(address) as ray:
        count = processes or _room(ray.cluster_resources(), wanted)
        if processes:
            _warn_without_room(ray.cluster_resources(), wanted)
        content = ray.put(packed(request(count)))
        own = {name: value for name, value in wanted.items() if name not in _OF_RAY}
        share = ray.remote(share_of_packed).options(
            max_retries=_RETRIES, retry_exceptions=False, scheduling_strategy="SPREAD", num_cpus=wanted["num_cpus"],
            num_gpus=wanted["num_gpus"], memory=wanted["memory"] or None, resources=own or None,
        )  # fmt: skip
        waiting = [share.remote(content, index) for index in range(count)]
        found = []
        try:
            while waiting:
                done, waiting = ray.wait(waiting, timeout=_PAUSE)
                found += [_outcome(ray, one) for one in done]
                watch()
        finally:
            for one in waiting:
                ray.cancel(one, force=True)
        return found


def _outcome(ray: Any, reference: Any) -> ShareOutcome:
    try:
        found: ShareOutcome = ray.get(reference)
        return found
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return ShareOutcome(error=f"{type(error).__name__}: {lines[-1].strip()[:300] if lines else ''}")


def _warn_without_room(available: Mapping[str, float], wanted: Mapping[str, float]) -> None:
    """A cluster may grow when workers wait for it; one that does not would let them wait for ever."""
    try:
        _room(available, wanted)
    except WorkersLost as error:
        log.warning("%s They wait until it has.", error)


def _room(available: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """How many workers a cluster has room for. Raises WorkersLost for none."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    room = [int(available.get(names.get(name, name), 0.0) / need) for name, need in wanted.items() if need]
    if not room or min(room) < 1:
        has = ", ".join(f"{name} {value:g}" for name, value in sorted(available.items()) if not name.startswith(("node:", "object_store")))
        needs = ", ".join(f"{name} {need:g}" for name, need in wanted.items() if need)
        raise WorkersLost(f"the Ray cluster has no room for a worker of {needs}; it has {has}. Ask for less with --resources.")
    return min(room)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1e15:
        raise BadParameter(f"--resources {name}={text}: --executor ray takes a number of each resource, such as num_gpus=1.")
    return value
