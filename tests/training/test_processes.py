"""Two processes train the model that one trains, to rounding; and killed they go on to the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robustvit.errors import BadParameter
from robustvit.training.processes import Processes

SCRIPT = """
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from robustvit.data.formats.arrays import array_dataset
from robustvit.primitives.defense import Defense
from robustvit.spec.view import View
from robustvit.training.loop import train
from robustvit.training.recipe import Recipe
from robustvit.training.state import read_state, write_state

out, killed_at, batch_size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
labels = np.arange(15) % 2
images = np.random.default_rng(0).integers(0, 256, (15, 8, 8, 3), dtype=np.uint8)
data = array_dataset("noise", images, labels, ids=[f"noise/{i}" for i in range(15)], classes=["0", "1"])
torch.manual_seed(5)
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.Dropout(float(sys.argv[4])), nn.Linear(12, 2))


def loss(made, batch, draws):
    if batch.progress.step == killed_at:
        raise SystemExit(7)
    moved = batch.images + 0.3 * draws.uniform(*batch.images.shape[1:])
    return nn.functional.cross_entropy(made(moved), batch.labels)


def keep(state):
    if len(state.generators) == 1 or torch.distributed.get_rank() == 0:
        write_state(out / "a.resume.pt", state, {})


done = train(model, data, view=View(size=(8, 8), resize=8), mean=(0.5,) * 3, std=(0.5,) * 3, defense=Defense("noisy", loss=loss),
             recipe=Recipe(epochs=3, batch_size=batch_size), start=read_state(out / "a.resume.pt", {}), keep=keep)
rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
torch.save((done.losses, done.model.state_dict()), out / f"{rank}.pt")
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


def run(out: Path, number: int, *, killed_at: int = -1, batch_size: int = 5, dropout: float = 0.0) -> int:
    out.mkdir(exist_ok=True)
    script = out / "script.py"
    script.write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"] if number > 1 else []
    words = [sys.executable, *torchrun, str(script), str(out), str(killed_at), str(batch_size), str(dropout)]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300).returncode


def trained(out: Path, rank: int = 0) -> tuple[tuple[float, ...], dict[str, torch.Tensor]]:
    found: tuple[tuple[float, ...], dict[str, torch.Tensor]] = torch.load(out / f"{rank}.pt")
    return found


@pytest.mark.processes
def test_two_processes_train_what_one_trains_also_with_uneven_shares(tmp_path: Path) -> None:
    assert (run(tmp_path / "one", 1), run(tmp_path / "two", 2)) == (0, 0)
    (losses, alone), (shared, first), (_, second) = trained(tmp_path / "one"), trained(tmp_path / "two"), trained(tmp_path / "two", 1)
    assert shared == pytest.approx(losses, rel=1e-5)
    assert all(torch.allclose(first[name], alone[name], atol=1e-5) for name in alone)
    assert all(torch.equal(first[name], second[name]) for name in alone)


@pytest.mark.processes
def test_killed_processes_go_on_to_the_same_bytes_also_with_dropout(tmp_path: Path) -> None:
    assert run(tmp_path / "whole", 2, dropout=0.5) == 0
    assert run(tmp_path / "killed", 2, dropout=0.5, killed_at=5) != 0
    assert (tmp_path / "killed" / "a.resume.pt").exists()
    assert run(tmp_path / "killed", 2, dropout=0.5) == 0
    (losses, whole), (again, found) = trained(tmp_path / "whole"), trained(tmp_path / "killed")
    assert again == losses
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_a_batch_that_leaves_a_process_without_a_row_is_refused() -> None:
    with pytest.raises(BadParameter, match="batch_size is 1, and 2 processes share it: give at least 2"):
        Processes(0, 2).check(1)
