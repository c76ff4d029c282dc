"""The environment of a run: versions, hardware and switches, recorded beside the Records and no part of a cell."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from robustvit.errors import BadParameter

_PACKAGES = (
    "robustvit",
    "torch",
    "timm",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "scikit-learn",
    "Pillow",
    "transformers",
    "numba",
)


AUTO = "auto"


def determine() -> None:
    """Sets the switches that make results repeatable: no TF32, deterministic cuDNN, no autotuning."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def device(name: str | torch.device) -> torch.device:
    """The device called `name` (cpu, cuda, cuda:1, mps; auto is cuda where there is one, else cpu).

    Raises BadParameter where torch knows none of that name or it is not here.
    """
    name = name if name != AUTO else "cuda" if torch.cuda.is_available() else "cpu"
    here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *["mps"] * torch.backends.mps.is_available()]
    try:
        found = torch.device(name)
        if found.type == "cpu" and found.index:
            raise ValueError("there is one CPU")
        float(torch.zeros(1, device=found))  # a meta device takes tensors and holds no numbers
    except (RuntimeError, AssertionError, ValueError, TypeError, NotImplementedError, ImportError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise BadParameter(f"no device {str(name)[:40]!r} is here ({reason}). There is {', '.join(here)}.") from error
    return found


def devices(names: str | torch.device) -> list[str]:
    """The devices that `cuda:0,1`, `cuda:0,cuda:1` or one name mean, each once. Raises BadParameter as `device` does, and for one twice."""
    words = str(names).split(",")
    kind = words[0].partition(":")[0]
    found = [str(device(f"{kind}:{word.strip()}" if at and word.strip().isdecimal() else word.strip())) for at, word in enumerate(words)]
    if len(set(found)) < len(found):
        raise BadParameter(f"--device {names} names a device twice; name each once.")
    return found


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions, hardware and switches, as nested plain data."""
    return {"versions": _versions(), "hardware": _hardware(device), "switches": _switches(), "revision": _revision()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _hardware(device: torch.device) -> dict[str, Any]:
    about: dict[str, Any] = {"device": str(device), "cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform()}
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
        about["cuda"] = torch.version.cuda
    return about


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _switches() -> dict[str, Any]:
    return {
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32),
        "cudnn_deterministic": bool(torch.backends.cudnn.deterministic),
        "cudnn_benchmark": bool(torch.backends.cudnn.benchmark),
        "threads": torch.get_num_threads(),
    }


@functools.cache
def _revision() -> str:
    """The git revision of robustvit's source tree, "+" when it has local changes, "" where it is not a checkout of its own."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + ("+" if changed.strip() else "")
