"""Every benchmark runs, on few images, beside its peers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PEERS = {
    "anchoring.py": (),
    "attention.py": (),
    "attacks.py": ("pyautoattack", "torchattacks"),
    "certify.py": (),
    "compressors.py": (),
    "corruptions.py": ("imagecorruptions", "skimage"),
    "device.py": ("imagecorruptions", "skimage", "pyautoattack"),
    "features.py": (),
    "geometry.py": (),
    "low_data.py": (),
    "runner.py": ("imagecorruptions", "skimage"),
    "scoring.py": ("polars", "duckdb"),
    "training.py": (),
    "workers.py": (),
}


def test_every_benchmark_is_run_here() -> None:
    assert {path.name for path in (ROOT / "benchmarks").glob("[!_]*.py")} == set(PEERS)


@pytest.mark.long
@pytest.mark.parametrize("script", PEERS)
def test_a_benchmark_runs(script: str, tmp_path: Path) -> None:
    missing = [name for name in PEERS[script] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the peer {missing[0]} is not installed")
    words = [sys.executable, str(ROOT / "benchmarks" / script), "--tiny"]
    done = subprocess.run(words, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DIFFERENT" not in done.stdout
    assert not list(tmp_path.iterdir())
